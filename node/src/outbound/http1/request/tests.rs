use proptest::prelude::*;

use super::*;

fn take(text: &[u8]) -> Result<Option<Head>, Rejected> {
    HeadScan::default().take(&mut BytesMut::from(text), &Limits::default())
}

fn of(fields: &str) -> Result<Head, Rejected> {
    take(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).map(|head| head.expect("it is whole"))
}

#[test]
fn a_head_is_read_as_it_stands() {
    let text =
        "\r\nPUT /a?b=%20c HTTP/1.1\r\nHost: a.mesh:80\r\nX-One: 1\r\nx-one:\t2 \r\nContent-Length: 3\r\n\r\nabc";
    let mut read = BytesMut::from(text);
    let head = HeadScan::default().take(&mut read, &Limits::default()).unwrap().unwrap();
    assert_eq!((head.parts.method.as_str(), head.parts.uri.to_string()), ("PUT", "/a?b=%20c".to_owned()));
    let ones: Vec<_> = head.parts.headers.get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"]);
    assert_eq!((head.payload, head.keeps_alive, &read[..]), (Payload::of_length(3), true, &b"abc"[..]));
}

#[test]
fn what_two_readers_could_take_in_two_ways_is_refused() {
    let table = [
        ("Content-Length: 3\r\nContent-Length: 3\r\n", Rejected::RepeatedLength),
        ("Content-Length: 3\r\nContent-Length: 4\r\n", Rejected::RepeatedLength),
        ("Content-Length: 3, 3\r\n", Rejected::RepeatedLength),
        ("Content-Length: +3\r\n", Rejected::BadLength),
        ("Content-Length: 0x3\r\n", Rejected::BadLength),
        ("Content-Length: \r\n", Rejected::BadLength),
        ("Content-Length: 3 4\r\n", Rejected::BadLength),
        ("Content-Length: 99999999999999999999\r\n", Rejected::BadLength),
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Rejected::LengthAndCoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", Rejected::LengthAndCoding),
        ("Transfer-Encoding: gzip, chunked\r\n", Rejected::BadCoding),
        ("Transfer-Encoding: chunked, chunked\r\n", Rejected::BadCoding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Rejected::BadCoding),
        ("Transfer-Encoding: xchunked\r\n", Rejected::BadCoding),
        ("Transfer-Encoding: \"chunked\"\r\n", Rejected::BadCoding),
        ("Transfer-Encoding:\x0bchunked\r\n", Rejected::BadHead),
        ("Transfer-Encoding : chunked\r\n", Rejected::BadHead),
        ("X-A: 1\r\n folded: 2\r\n", Rejected::BadHead),
        ("X-A: 1\n", Rejected::BareLineFeed),
        ("X-A: 1\r2\r\n", Rejected::BareLineFeed),
        ("X-A: 1\0\r\n", Rejected::BareLineFeed),
        (": 1\r\n", Rejected::BadHead),
        ("X A: 1\r\n", Rejected::BadHead),
        ("Host: b\r\n", Rejected::BadHost),
    ];
    for (fields, why) in table {
        assert_eq!(of(fields).err(), Some(why), "{fields:?}");
    }
    assert_eq!(of("transfer-encoding: Chunked\r\n").unwrap().payload, Payload::chunked());
    assert_eq!(of("").unwrap().payload, Payload::Over);
}

#[test]
fn a_request_line_of_another_form_is_refused() {
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", Some(Rejected::BadHost)),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Some(Rejected::BadHost)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Some(Rejected::BadHost)),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Some(Rejected::BadVersion)),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Some(Rejected::BadHead)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadHead)),
        ("GET /\r\n\r\n", Some(Rejected::BadHead)),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadHead)),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadTarget)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET a.mesh:80 HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadTarget)),
        ("CONNECT a.mesh:80 HTTP/1.1\r\nHost: a.mesh:80\r\n\r\n", None),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadTarget)),
        ("CONNECT a.mesh HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadTarget)),
        ("GET http://a.mesh/x HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET ftp://a.mesh/x HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadTarget)),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BadHead)),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(Rejected::BareLineFeed)),
    ];
    for (text, why) in table {
        let taken = take(text.as_bytes());
        assert_eq!(taken.as_ref().err().copied(), why, "{text:?}");
        assert!(why.is_some() || taken.unwrap().is_some(), "{text:?}");
    }
}

#[test]
fn a_line_that_no_cr_ends_is_refused_before_the_head_is_whole() {
    assert_eq!(take(b"GET / HTTP/1.1\nHost: a\n").unwrap_err(), Rejected::BareLineFeed);
    assert!(take(b"GET / HTTP/1.1\r\nHost: a\r\n").unwrap().is_none());
}

#[test]
fn a_connection_is_kept_as_its_version_says() {
    let keeps = |version: &str, fields: &str| {
        take(format!("GET / {version}\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap().unwrap().keeps_alive
    };
    assert!(keeps("HTTP/1.1", "") && !keeps("HTTP/1.1", "Connection: te, Close\r\n"));
    assert!(!keeps("HTTP/1.0", "") && keeps("HTTP/1.0", "Connection: Keep-Alive\r\n"));
}

#[test]
fn a_head_is_bounded_in_bytes_and_fields() {
    let limits = Limits { header_bytes: 200, header_fields: 3, ..Limits::default() };
    let take = |text: String| HeadScan::default().take(&mut BytesMut::from(&text[..]), &limits).err();
    assert_eq!(take(format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "a".repeat(200))), Some(Rejected::HeadTooLarge));
    assert_eq!(take("GET / HTTP/1.1\r\nHost: a\r\na: 1\r\nb: 1\r\n\r\n".to_owned()), None);
    assert_eq!(
        take("GET / HTTP/1.1\r\nHost: a\r\na: 1\r\nb: 1\r\nc: 1\r\n\r\n".to_owned()),
        Some(Rejected::HeadTooLarge)
    );
}

proptest! {
    #[test]
    fn a_head_that_comes_in_pieces_is_the_same(cuts in prop::collection::vec(1_usize..9, 1..20)) {
        let text = b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
        let (mut scan, mut read, mut rest) = (HeadScan::default(), BytesMut::new(), &text[..]);
        let mut cuts = cuts.iter().cycle();
        let head = loop {
            let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            read.extend_from_slice(piece);
            rest = after;
            if let Some(head) = scan.take(&mut read, &Limits::default()).unwrap() {
                break head;
            }
        };
        prop_assert_eq!((head.parts.uri.path(), head.payload), ("/x", Payload::of_length(2)));
    }

    #[test]
    fn whatever_comes_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = take(&text);
        let _ = take(&[b"GET / HTTP/1.1\r\nHost: a\r\n", &text[..], b"\r\n\r\n"].concat());
    }
}
