//! The head of a request, read strictly: what two readers could take in two ways is refused (RFC 9112, section 11.2).

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Request, Uri, Version};

use crate::config::Limits;
use crate::fields;
use crate::http1::{Payload, place};
use crate::rejected::Rejected;

/// The head of a request, and how what follows it is framed.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: Parts,
    pub(super) payload: Payload,
    /// May another request follow on the connection?
    pub(super) keeps_alive: bool,
}

/// Empty lines before a request that are passed over: some clients end a body with one (RFC 9112, section 2.2).
const EMPTY_LINES: usize = 2;
/// Fields that a head may have, whatever the configuration says.
pub(crate) const MOST_FIELDS: usize = 256;

/// Finds the end of a head that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Looked at already.
    seen: usize,
    empty_lines: usize,
}

impl HeadScan {
    /// Takes the head from what was read, once it is there whole.
    ///
    /// # Errors
    /// If it is none, or more than it may be.
    pub(super) fn take(&mut self, read: &mut BytesMut, limits: &Limits) -> Result<Option<Head>, Rejected> {
        while self.seen == 0 && read.starts_with(b"\r\n") {
            if self.empty_lines == EMPTY_LINES {
                return Err(Rejected::BadHead);
            }
            self.empty_lines += 1;
            read.advance(2);
        }
        let end = self.find_end(read)?;
        if end.unwrap_or(read.len()) > limits.header_bytes {
            return Err(Rejected::HeadTooLarge);
        }
        let Some(end) = end else { return Ok(None) };
        *self = Self::default();
        parse(&read.split_to(end).freeze(), limits).map(Some)
    }

    /// Has anything come of a head?
    pub(super) fn has_begun(&self, read: &BytesMut) -> bool {
        !read.is_empty() || self.empty_lines > 0
    }

    /// Where the head ends; refuses lines that end in another way on the way there.
    fn find_end(&mut self, read: &[u8]) -> Result<Option<usize>, Rejected> {
        for at in self.seen..read.len() {
            let before = if at == 0 { 0 } else { read[at - 1] };
            match read[at] {
                b'\n' if before != b'\r' => return Err(Rejected::BareLineFeed),
                b'\n' if at >= 3 && &read[at - 3..at - 1] == b"\r\n" => return Ok(Some(at + 1)),
                b'\n' => {}
                0 => return Err(Rejected::BareLineFeed),
                _ if before == b'\r' => return Err(Rejected::BareLineFeed),
                _ => {}
            }
        }
        self.seen = read.len();
        Ok(None)
    }
}

fn parse(block: &Bytes, limits: &Limits) -> Result<Head, Rejected> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MOST_FIELDS];
    let most = limits.header_fields.min(MOST_FIELDS);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(block, &mut room[..most]) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Rejected::HeadTooLarge),
        Err(httparse::Error::Version) => return Err(Rejected::BadVersion),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Rejected::BadHead),
    }
    let (Some(method), Some(path), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Rejected::BadHead);
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Rejected::BadHead)?;
    let uri = target(&method, block.slice(place(path.as_bytes(), block)))?;
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Rejected::BadHead)?;
        let value = block.slice(place(field.value, block));
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|_| Rejected::BadHead)?);
    }
    let is_1_1 = minor == 1;
    check_host(&headers, is_1_1)?;
    let payload = framing(&headers, is_1_1)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    let keeps_alive = keeps_alive(&headers, is_1_1);
    parts.method = method;
    parts.uri = uri;
    parts.version = if is_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
    parts.headers = headers;
    Ok(Head { parts, payload, keeps_alive })
}

/// Each method has its forms (RFC 9112, section 3.2).
fn target(method: &Method, bytes: Bytes) -> Result<Uri, Rejected> {
    let is_star = &bytes[..] == b"*";
    let is_path = bytes.starts_with(b"/");
    let uri = Uri::from_maybe_shared(bytes).map_err(|_| Rejected::BadTarget)?;
    let is_authority = uri.scheme().is_none() && uri.authority().is_some();
    let is_absolute = uri.scheme().is_some_and(|scheme| ["http", "https"].contains(&scheme.as_str()));
    let fits = if *method == Method::CONNECT {
        is_authority && uri.port().is_some()
    } else {
        is_path || is_absolute || (is_star && *method == Method::OPTIONS)
    };
    if fits { Ok(uri) } else { Err(Rejected::BadTarget) }
}

fn check_host(headers: &HeaderMap, is_1_1: bool) -> Result<(), Rejected> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if !is_1_1 => Ok(()),
        (Some(host), None) if host.is_empty() => Ok(()),
        (Some(host), None) => {
            let named = Authority::try_from(host.as_bytes()).is_ok_and(|named| !named.as_str().contains('@'));
            if named { Ok(()) } else { Err(Rejected::BadHost) }
        }
        _ => Err(Rejected::BadHost),
    }
}

/// How the body is framed (RFC 9112, section 6.3); whatever is in doubt is refused.
fn framing(headers: &HeaderMap, is_1_1: bool) -> Result<Payload, Rejected> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Rejected::RepeatedLength);
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() {
            return Err(Rejected::LengthAndCoding);
        }
        // A client that speaks 1.0 cannot mean it.
        if !is_1_1 || codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Rejected::BadCoding);
        }
        return Ok(Payload::chunked());
    }
    let Some(length) = length else { return Ok(Payload::Over) };
    let text = length.to_str().map_err(|_| Rejected::BadLength)?;
    if text.contains(',') {
        return Err(Rejected::RepeatedLength);
    }
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Rejected::BadLength);
    }
    text.parse().map(Payload::of_length).map_err(|_| Rejected::BadLength)
}

fn keeps_alive(headers: &HeaderMap, is_1_1: bool) -> bool {
    let says = |word: &str| fields::lists(headers, header::CONNECTION, word);
    if is_1_1 { !says("close") } else { says("keep-alive") }
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
