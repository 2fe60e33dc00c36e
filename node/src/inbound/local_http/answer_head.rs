use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::BadAnswer;
use crate::fields;
use crate::http1::{Payload, place};

/// Fields that an answer may have, at most.
const MOST_FIELDS: usize = 100;

/// The head of an answer, as it is passed on.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) status: StatusCode,
    /// What the answer says of its length; of one to `HEAD` it is that of the body that would follow.
    pub(crate) content_length: Option<u64>,
    block: Bytes,
    fields: Vec<Field>,
    /// How its body is framed.
    pub(super) payload: Payload,
    /// May the connection serve another request after it?
    pub(super) keeps_alive: bool,
}

/// Where a field's parts stand in the head.
#[derive(Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl AnswerHead {
    /// The fields that are passed on, with names in lower case: all but those that belong to the connection, and the length.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (&self.block[field.name.clone()], &self.block[field.value.clone()]))
    }

    /// Takes the next head from what was read, once it is there whole: of the answer, or of an interim one (1xx).
    ///
    /// # Errors
    /// If it is no head of HTTP/1.1, or too long.
    pub(super) fn take(read: &mut BytesMut, to_head_request: bool) -> Result<Option<Self>, BadAnswer> {
        match take_one(read, to_head_request)? {
            None if read.len() > fields::MAX_FIELDS => Err(TOO_LONG),
            taken => Ok(taken),
        }
    }
}

const TOO_LONG: BadAnswer = BadAnswer::HeadSize(fields::MAX_FIELDS);

fn take_one(read: &mut BytesMut, to_head_request: bool) -> Result<Option<AnswerHead>, BadAnswer> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parse = config.parse_response_with_uninit_headers(&mut parsed, &read[..], &mut room);
    let httparse::Status::Complete(len) = parse.map_err(BadAnswer::Head)? else { return Ok(None) };
    let code = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = code.ok_or(BadAnswer::Head(httparse::Error::Status))?;
    let mut framing = Framing::new(parsed.version == Some(1));
    let mut fields = Vec::with_capacity(parsed.headers.len());
    let mut size = 0;
    for header in parsed.headers.iter() {
        if framing.take(header)? {
            size += header.name.len() + header.value.len() + 4;
            fields.push(Field { name: place(header.name.as_bytes(), read), value: place(header.value, read) });
        }
    }
    if size > fields::MAX_FIELDS {
        return Err(TOO_LONG);
    }
    let payload = framing.payload(status, to_head_request);
    let Framing { length, keeps_alive, named, .. } = framing;
    let mut block = read.split_to(len);
    for field in &fields {
        block[field.name.clone()].make_ascii_lowercase();
    }
    if !named.is_empty() {
        fields.retain(|field| !named.iter().any(|name| block[field.name.clone()] == name[..]));
    }
    let keeps_alive = keeps_alive && payload != Payload::ToClose;
    Ok(Some(AnswerHead { status, content_length: length, block: block.freeze(), fields, payload, keeps_alive }))
}

/// What the fields of an answer say of its body and its connection.
struct Framing {
    length: Option<u64>,
    /// The last of the transfer codings, if there are any: is it `chunked`?
    chunked: Option<bool>,
    keeps_alive: bool,
    /// Fields that `Connection` names besides, in lower case.
    named: Vec<Vec<u8>>,
}

impl Framing {
    fn new(is_1_1: bool) -> Self {
        Self { length: None, chunked: None, keeps_alive: is_1_1, named: Vec::new() }
    }

    /// Is this a field that is passed on?
    fn take(&mut self, header: &httparse::Header<'_>) -> Result<bool, BadAnswer> {
        let name = header.name.as_bytes();
        let is = |other: &str| header.name.eq_ignore_ascii_case(other);
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'c') if is("content-length") => {
                let length = number(header.value).ok_or(BadAnswer::Length)?;
                if self.length.is_some_and(|said| said != length) {
                    return Err(BadAnswer::Length);
                }
                self.length = Some(length);
                Ok(false)
            }
            Some(b'c') if is("connection") => {
                self.on_connection(header.value);
                Ok(false)
            }
            Some(b't') if is("transfer-encoding") => {
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                self.chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
                Ok(false)
            }
            Some(b'k' | b'p' | b't' | b'u') => Ok(!fields::is_hop_by_hop(name)),
            _ => Ok(true),
        }
    }

    fn on_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keeps_alive = false;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps_alive = true;
            } else if !option.is_empty() && !fields::is_hop_by_hop(option) {
                self.named.push(option.to_ascii_lowercase());
            }
        }
    }

    /// How the body is framed (RFC 9112, section 6.3).
    fn payload(&mut self, status: StatusCode, to_head_request: bool) -> Payload {
        let has_none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if to_head_request || has_none || status.is_informational() {
            return Payload::Over;
        }
        match self.chunked {
            Some(is_chunked) => {
                // A length beside it means nothing, and may have been meant to deceive: nothing else is read from there.
                if self.length.take().is_some() {
                    self.keeps_alive = false;
                }
                if is_chunked { Payload::chunked() } else { Payload::ToClose }
            }
            None => self.length.map_or(Payload::ToClose, Payload::of_length),
        }
    }
}

/// Digits only: no sign, no space, no list (RFC 9110, section 8.6).
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value.trim_ascii()).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn take(text: &str) -> Result<AnswerHead, BadAnswer> {
        AnswerHead::take(&mut BytesMut::from(text), false).map(|head| head.expect("it is whole"))
    }

    fn of(fields: &str) -> Result<AnswerHead, BadAnswer> {
        take(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
    }

    fn lines(head: &AnswerHead) -> Vec<String> {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        head.lines().map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
    }

    #[test]
    fn names_are_lowered_and_what_belongs_to_the_connection_stays_behind() {
        let head = of(
            "Server: x\r\nConnection: keep-alive, X-Private\r\nx-private: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nSet-Cookie: a\r\n\
             set-cookie: b\r\nX-Empty:\r\nContent-Length: 3\r\nProxy-Connection: x\r\nTe: x\r\n",
        );
        assert_eq!(lines(&head.unwrap()), ["server=x", "set-cookie=a", "set-cookie=b", "x-empty="]);
    }

    #[test]
    fn how_a_body_ends_is_as_the_rfc_says() {
        let length = Payload::of_length;
        let table = [
            ("Content-Length: 3\r\n", Ok((length(3), true))),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", Ok((length(3), true))),
            ("Content-Length: 3\r\nConnection: close\r\n", Ok((length(3), false))),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", Err(BadAnswer::Length)),
            ("Content-Length: 3, 3\r\n", Err(BadAnswer::Length)),
            ("Content-Length: +3\r\n", Err(BadAnswer::Length)),
            ("Content-Length: \r\n", Err(BadAnswer::Length)),
            ("Content-Length: 99999999999999999999\r\n", Err(BadAnswer::Length)),
            ("Transfer-Encoding: chunked\r\n", Ok((Payload::chunked(), true))),
            ("Transfer-Encoding: gzip, Chunked\r\n", Ok((Payload::chunked(), true))),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", Ok((Payload::chunked(), false))),
            ("Transfer-Encoding: chunked, gzip\r\n", Ok((Payload::ToClose, false))),
            ("", Ok((Payload::ToClose, false))),
        ];
        for (fields, expected) in table {
            assert_eq!(of(fields).map(|head| (head.payload, head.keeps_alive)), expected, "{fields:?}");
        }
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_they_say() {
        for status in ["204 No Content", "304 Not Modified"] {
            let head = take(&format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n")).unwrap();
            assert_eq!((head.payload, head.content_length, head.keeps_alive), (Payload::Over, Some(5), true));
        }
        let mut read = BytesMut::from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
        let head = AnswerHead::take(&mut read, true).unwrap().unwrap();
        assert_eq!((head.payload, head.content_length, head.keeps_alive), (Payload::Over, Some(5), true));
    }

    #[test]
    fn an_older_application_keeps_the_connection_only_if_it_says_so() {
        let keeps =
            |fields| take(&format!("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n{fields}\r\n")).unwrap().keeps_alive;
        assert!(!keeps("") && keeps("Connection: keep-alive\r\n"));
    }

    #[test]
    fn an_interim_answer_has_no_body_and_another_head_follows() {
        let mut read = BytesMut::from("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Created\r\n\r\n");
        let interim = AnswerHead::take(&mut read, false).unwrap().unwrap();
        assert_eq!(
            (interim.status.as_u16(), interim.payload, lines(&interim)),
            (103, Payload::Over, vec!["link=x".to_owned()])
        );
        assert_eq!(AnswerHead::take(&mut read, false).unwrap().unwrap().status, StatusCode::CREATED);
    }

    #[test]
    fn a_head_is_bounded() {
        let long = "x".repeat(fields::MAX_FIELDS);
        assert_eq!(of(&format!("a: {long}\r\n")).unwrap_err(), TOO_LONG);
        let mut unfinished = BytesMut::from(&format!("HTTP/1.1 200 OK\r\na: {long}")[..]);
        assert_eq!(AnswerHead::take(&mut unfinished, false).unwrap_err(), TOO_LONG);
        let many = "a: b\r\n".repeat(MOST_FIELDS + 1);
        assert_eq!(of(&many).unwrap_err(), BadAnswer::Head(httparse::Error::TooManyHeaders));
    }

    proptest! {
        #[test]
        fn whatever_an_application_sends_it_is_read_or_refused(text in "(HTTP/1.1 200 OK\r\n)?[ -~\r\n]{0,80}(\r\n\r\n)?") {
            let _ = AnswerHead::take(&mut BytesMut::from(&text[..]), false);
        }

        #[test]
        fn a_head_that_comes_in_pieces_is_the_same(cut in 0_usize..60) {
            let text = "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 2\r\n\r\nok";
            let (first, rest) = text.split_at(cut.min(text.len()));
            let mut read = BytesMut::from(first);
            let head = AnswerHead::take(&mut read, false).unwrap().unwrap_or_else(|| {
                read.extend_from_slice(rest.as_bytes());
                AnswerHead::take(&mut read, false).unwrap().unwrap()
            });
            prop_assert_eq!(lines(&head), ["server=nginx"]);
        }
    }
}
