use http::header::{self, HeaderMap, HeaderName};

use super::{HOP_BY_HOP, lists, members};

/// The fields of a message that go on to the next hop: all but those that belong to one connection (RFC 9110, section
/// 7.6.1). What remains of `TE` is that trailers are welcome: the mesh passes them on.
pub(crate) struct PassedOn<'m> {
    headers: &'m HeaderMap,
    /// What `Connection` names besides; most often nothing.
    named: Vec<HeaderName>,
    takes_trailers: bool,
}

impl<'m> PassedOn<'m> {
    /// Those of `headers`.
    pub(crate) fn of(headers: &'m HeaderMap) -> Self {
        let named = members(headers, header::CONNECTION)
            .filter(|name| !ALWAYS.iter().any(|known| name.eq_ignore_ascii_case(known)))
            .filter_map(|name| name.parse().ok())
            .collect();
        let takes_trailers = lists(headers, header::TE, "trailers");
        Self { headers, named, takes_trailers }
    }

    /// Names and values, but for those that the hop carries in another way.
    pub(crate) fn lines(&self, apart: impl Fn(&HeaderName) -> bool) -> impl Iterator<Item = (&[u8], &[u8])> {
        let te = self.takes_trailers.then_some((&b"te"[..], &b"trailers"[..]));
        let passes = move |name: &HeaderName| !HOP_BY_HOP.contains(name) && !self.named.contains(name) && !apart(name);
        let fields = self.headers.iter().filter(move |(name, _)| passes(name));
        fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).chain(te)
    }
}

/// What `Connection` says most often. It is left out whether named or not.
const ALWAYS: [&str; 5] = ["keep-alive", "close", "upgrade", "te", "transfer-encoding"];

/// The bytes of these fields as HTTP/1.1 writes them.
#[must_use]
pub(crate) fn size<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    lines.map(|(name, value)| name.len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::map;

    fn passed_on(headers: &HeaderMap) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        PassedOn::of(headers).lines(|_| false).map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_belongs_to_one_connection_is_not_passed_on() {
        let headers = map(&[
            ("connection", "close, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("x-public", "2"),
        ]);
        assert_eq!(passed_on(&headers), pairs(&[("x-public", "2")]));
    }

    #[test]
    fn that_trailers_are_welcome_is_passed_on() {
        let headers = map(&[("connection", "TE"), ("te", "gzip, Trailers")]);
        assert_eq!(passed_on(&headers), pairs(&[("te", "trailers")]));
    }

    #[test]
    fn what_the_hop_carries_apart_is_left_out() {
        let headers = map(&[("accept", "a"), ("accept", "b"), ("host", "x")]);
        let passed_on = PassedOn::of(&headers);
        let lines: Vec<_> = passed_on.lines(|name| *name == header::HOST).collect();
        assert_eq!(lines, [(&b"accept"[..], &b"a"[..]), (b"accept", b"b")]);
        assert_eq!(size(lines.into_iter()), 2 * "accept: a\r\n".len());
    }
}
