//! Header fields between HTTP and the hop: what is carried, what ends at this node, what the mesh adds.

mod passed_on;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use starling_proto::mesh::v1;

pub(crate) use passed_on::{PassedOn, size};

/// Marks an answer that the mesh itself made; its value is a [`starling_proto::ErrorCode`].
pub(crate) const STARLING_ERROR: HeaderName = HeaderName::from_static("starling-error");
/// Tells the serving application who called; verified, and removed when it comes from outside.
pub(crate) const STARLING_SOURCE: HeaderName = HeaderName::from_static("starling-source");
/// The caller's deadline for the whole request, such as `1500ms` or `2s`.
pub(crate) const STARLING_TIMEOUT: HeaderName = HeaderName::from_static("starling-timeout");
/// How often the caller allows a request to be sent again.
pub(crate) const STARLING_RETRIES: HeaderName = HeaderName::from_static("starling-retries");

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields that belong to one connection only (RFC 9110, section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 6] =
    [header::CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE];

/// The members of the lists in all fields of this name (RFC 9110, section 5.6.1).
pub(crate) fn members(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Is `word` one of them, in whatever case?
#[must_use]
pub(crate) fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(word))
}

/// The fields of trailers, as they travel on the hop.
#[must_use]
pub(crate) fn to_wire(headers: &HeaderMap) -> Vec<v1::Header> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| v1::Header {
        name: Bytes::copy_from_slice(name.as_str().as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    headers.iter().map(field).collect()
}

/// The most that the fields of a head and its target may have together, in bytes: what common servers allow. With all that
/// the hop adds they fit into [`starling_proto::frame::MAX_HEAD`].
pub(crate) const MAX_FIELDS: usize = 64 * 1024;

/// A field of the hop that HTTP does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("header {index} of the hop: {what}")]
pub(crate) struct BadField {
    /// Its place, from 0.
    pub(crate) index: usize,
    /// What is wrong with it.
    pub(crate) what: &'static str,
}

/// Fields from the hop. Values share the memory they arrived in. A peer's word on framing is not passed on: the HTTP
/// library writes its own `Content-Length`, `Transfer-Encoding` and `Connection`. There is room for so many `more`.
///
/// # Errors
/// If a name or value is not allowed in HTTP.
pub(crate) fn from_wire(fields: Vec<v1::Header>, more: usize) -> Result<HeaderMap, BadField> {
    let mut headers = HeaderMap::with_capacity(fields.len() + more);
    for (index, field) in fields.into_iter().enumerate() {
        let name =
            HeaderName::from_bytes(&field.name).map_err(|_| BadField { index, what: "its name is not a token" })?;
        let takes_trailers = name == header::TE && field.value == TRAILERS.as_bytes();
        if name == header::CONTENT_LENGTH || (HOP_BY_HOP.contains(&name) && !takes_trailers) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(field.value)
            .map_err(|_| BadField { index, what: "its value holds a control character" })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Does a field of this name belong to one connection only?
#[must_use]
pub(crate) fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|field| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
}

/// The declared length of a body, where there is exactly one and it is a number.
#[must_use]
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = values.next()?.to_str().ok()?.parse().ok()?;
    values.next().is_none().then_some(length)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn fields_survive_the_hop_in_order_and_number() {
        let headers = map(&[("accept", "a"), ("accept", "b"), ("x-one", "\u{e9}")]);
        assert_eq!(from_wire(to_wire(&headers), 0).unwrap(), headers);
    }

    #[test]
    fn a_peer_cannot_smuggle_framing_or_control_characters() {
        let field = |name: &'static [u8], value: &'static [u8]| v1::Header {
            name: Bytes::from_static(name),
            value: Bytes::from_static(value),
        };
        assert!(from_wire(vec![field(b"x y", b"1")], 0).is_err());
        assert_eq!(from_wire(vec![field(b"a", b"1"), field(b"x", b"1\r\n2")], 0).unwrap_err().index, 1);
        let framing = vec![field(b"content-length", b"3"), field(b"transfer-encoding", b"chunked")];
        assert!(from_wire(framing, 0).unwrap().is_empty());
    }

    #[test]
    fn a_doubtful_content_length_is_no_length() {
        assert_eq!(content_length(&map(&[("content-length", "5")])), Some(5));
        assert_eq!(content_length(&map(&[("content-length", "5"), ("content-length", "5")])), None);
        assert_eq!(content_length(&map(&[("content-length", "x")])), None);
        assert_eq!(content_length(&map(&[])), None);
    }
}
