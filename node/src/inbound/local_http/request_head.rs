use bytes::{BufMut, Bytes, BytesMut};
use starling_proto::ServiceName;
use starling_proto::mesh::v1;

use crate::fields::{self, BadField};
use crate::http1::token::{is_target, is_token, is_value};

/// The head of a request as its application gets it: what the caller's node sent, and what the mesh adds.
pub(crate) struct RequestHead<'a> {
    /// As it came over the hop.
    pub(crate) head: &'a v1::StreamHeader,
    /// Who called, verified.
    pub(crate) source: Option<&'a ServiceName>,
    /// What it names in place of what its caller asked for.
    pub(crate) authority: Option<&'a Bytes>,
    /// The context of its trace.
    pub(crate) traceparent: &'a [u8],
}

/// A head that HTTP does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    /// Of the request line.
    #[error("the method is not a token")]
    Method,
    /// Of the request line.
    #[error("the target is not a path")]
    Target,
    /// What `Host` will say.
    #[error("the authority holds a control character")]
    Authority,
    /// A length of no body.
    #[error("it tells the length of a body and has none")]
    Length,
    /// The protocol to switch to.
    #[error("the protocol to switch to is not a token")]
    Upgrade,
    /// Any other.
    #[error(transparent)]
    Field(#[from] BadField),
}

/// What the mesh adds is at most so long, in bytes, beside names and values that the head holds.
const ADDED: usize = 256;

impl RequestHead<'_> {
    /// The bytes that are sent. A peer's word on framing is not passed on: the body's is said here.
    ///
    /// # Errors
    /// If it is not allowed in HTTP.
    pub(crate) fn encode(&self) -> Result<Bytes, BadRequest> {
        let head = self.head;
        check(head)?;
        let of_fields: usize = head.headers.iter().map(|field| field.name.len() + field.value.len() + 4).sum();
        let mut buffer = BytesMut::with_capacity(head.target.len() + 2 * head.authority.len() + of_fields + ADDED);
        for part in [&head.method[..], b" ", &head.target, b" HTTP/1.1\r\n"] {
            buffer.put_slice(part);
        }
        let has_authority = !head.authority.is_empty();
        let host = self.authority.unwrap_or(&head.authority);
        if !host.is_empty() {
            line(&mut buffer, b"host", host);
        }
        let (mut tells_host, mut tells_proto) = (false, false);
        for (index, field) in head.headers.iter().enumerate() {
            let place = Place::of(&field.name, &field.value);
            if place == Place::Framing {
                return Err(BadField { index, what: "it frames the body, which the hop frames itself" }.into());
            }
            if place == Place::Nowhere || (place == Place::Host && has_authority) {
                continue;
            }
            tells_host |= place == Place::ForwardedHost;
            tells_proto |= place == Place::ForwardedProto;
            if !is_token(&field.name) {
                return Err(BadField { index, what: "its name is not a token" }.into());
            }
            if !is_value(&field.value) {
                return Err(BadField { index, what: "its value holds a control character" }.into());
            }
            line(&mut buffer, &field.name, &field.value);
        }
        if has_authority && !tells_host {
            line(&mut buffer, fields::FORWARDED_HOST.as_str().as_bytes(), &head.authority);
        }
        if !tells_proto {
            line(&mut buffer, fields::FORWARDED_PROTO.as_str().as_bytes(), b"http");
        }
        if let Some(source) = self.source {
            line(&mut buffer, fields::STARLING_SOURCE.as_str().as_bytes(), source.path().as_bytes());
        }
        line(&mut buffer, b"traceparent", self.traceparent);
        if head.has_content_length {
            line(&mut buffer, b"content-length", itoa::Buffer::new().format(head.content_length).as_bytes());
        } else if !head.no_body {
            buffer.put_slice(b"transfer-encoding: chunked\r\n");
        }
        if !head.upgrade.is_empty() {
            buffer.put_slice(b"connection: upgrade\r\n");
            line(&mut buffer, b"upgrade", &head.upgrade);
        }
        buffer.put_slice(b"\r\n");
        Ok(buffer.freeze())
    }
}

fn check(head: &v1::StreamHeader) -> Result<(), BadRequest> {
    if !is_token(&head.method) {
        return Err(BadRequest::Method);
    }
    if !is_target(&head.target) {
        return Err(BadRequest::Target);
    }
    // The application would take the next request for the body that never comes.
    if head.no_body && head.has_content_length && head.content_length != 0 {
        return Err(BadRequest::Length);
    }
    // A name, and perhaps a version (RFC 9110, section 7.8).
    if !head.upgrade.is_empty() && !head.upgrade.splitn(2, |byte| *byte == b'/').all(is_token) {
        return Err(BadRequest::Upgrade);
    }
    if is_value(&head.authority) { Ok(()) } else { Err(BadRequest::Authority) }
}

fn line(buffer: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        buffer.put_slice(part);
    }
}

/// Where a field of the caller goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Host,
    ForwardedHost,
    ForwardedProto,
    /// It would say how the body is framed: no node sends it, and what two readers could take in two ways is refused.
    Framing,
    /// It belongs to the connection, or is the mesh's own to say.
    Nowhere,
}

impl Place {
    fn of(name: &[u8], value: &[u8]) -> Self {
        // The first letter tells most fields apart from all of these.
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.first().map(u8::to_ascii_lowercase) {
            Some(b'h') if is("host") => Self::Host,
            Some(b'x') if is(fields::FORWARDED_HOST.as_str()) => Self::ForwardedHost,
            Some(b'x') if is(fields::FORWARDED_PROTO.as_str()) => Self::ForwardedProto,
            Some(b's') if is(fields::STARLING_SOURCE.as_str()) => Self::Nowhere,
            Some(b't') if is("te") && value.eq_ignore_ascii_case(b"trailers") => Self::Head,
            Some(b't') if is("traceparent") => Self::Nowhere,
            Some(b'c') if is("content-length") => Self::Framing,
            Some(b't') if is("transfer-encoding") => Self::Framing,
            Some(b'c' | b'k' | b'p' | b't' | b'u') if fields::is_hop_by_hop(name) => Self::Nowhere,
            _ => Self::Head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&'static str, &'static str)]) -> v1::StreamHeader {
        let field = |(name, value): &(&'static str, &'static str)| v1::Header {
            name: Bytes::from_static(name.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
        };
        v1::StreamHeader {
            method: Bytes::from_static(b"GET"),
            target: Bytes::from_static(b"/a?b=c"),
            authority: Bytes::from_static(b"orders.mesh"),
            headers: fields.iter().map(field).collect(),
            no_body: true,
            ..Default::default()
        }
    }

    fn encoded(head: &v1::StreamHeader, source: Option<&str>) -> Result<String, BadRequest> {
        let source = source.map(|name| name.parse().unwrap());
        let head = RequestHead { head, source: source.as_ref(), authority: None, traceparent: b"00-t" };
        head.encode().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn an_application_is_told_what_was_asked_and_by_whom() {
        let told = encoded(&head(&[("accept", "a"), ("accept", "b"), ("te", "trailers")]), Some("web")).unwrap();
        assert_eq!(
            told,
            "GET /a?b=c HTTP/1.1\r\nhost: orders.mesh\r\naccept: a\r\naccept: b\r\nte: trailers\r\n\
             x-forwarded-host: orders.mesh\r\nx-forwarded-proto: http\r\nstarling-source: ns/default/svc/web\r\n\
             traceparent: 00-t\r\n\r\n"
        );
    }

    #[test]
    fn what_a_peer_says_of_framing_of_itself_and_of_its_trace_is_not_passed_on() {
        let forged = [
            ("Connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "1"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            ("Host", "elsewhere"),
            ("Starling-Source", "ns/default/svc/forged"),
            ("traceparent", "00-forged"),
        ];
        assert_eq!(encoded(&head(&forged), None), encoded(&head(&[]), None));
        for framing in [("Content-Length", "3"), ("transfer-encoding", "chunked")] {
            let refused = encoded(&head(&[("x", "y"), framing]), None);
            assert!(matches!(refused, Err(BadRequest::Field(BadField { index: 1, .. }))), "{framing:?}");
        }
    }

    #[test]
    fn who_a_proxy_before_the_mesh_spoke_to_is_kept_and_without_an_authority_the_host_is() {
        let told = encoded(&head(&[("x-forwarded-host", "front"), ("X-Forwarded-Proto", "https")]), None).unwrap();
        assert!(told.contains("x-forwarded-host: front\r\nX-Forwarded-Proto: https\r\ntraceparent"), "{told}");
        let anonymous = v1::StreamHeader { authority: Bytes::new(), ..head(&[("host", "x")]) };
        let told = encoded(&anonymous, None).unwrap();
        assert!(told.contains("\r\nhost: x\r\n") && !told.contains("forwarded-host"), "{told}");
    }

    #[test]
    fn the_framing_of_a_body_is_the_one_that_was_declared() {
        let sized = v1::StreamHeader { no_body: false, has_content_length: true, content_length: 7, ..head(&[]) };
        assert!(encoded(&sized, None).unwrap().ends_with("traceparent: 00-t\r\ncontent-length: 7\r\n\r\n"));
        let unsized_ = v1::StreamHeader { no_body: false, ..head(&[]) };
        assert!(encoded(&unsized_, None).unwrap().ends_with("traceparent: 00-t\r\ntransfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn nothing_that_a_peer_says_adds_a_line() {
        let with = |change: fn(&mut v1::StreamHeader)| {
            let mut head = head(&[("a", "1"), ("b", "2")]);
            change(&mut head);
            encoded(&head, None).unwrap_err()
        };
        assert_eq!(with(|head| head.method = Bytes::from_static(b"GE T")), BadRequest::Method);
        assert_eq!(with(|head| head.method = Bytes::new()), BadRequest::Method);
        assert_eq!(with(|head| head.target = Bytes::from_static(b"/ HTTP/1.1\r\nx: y")), BadRequest::Target);
        assert_eq!(with(|head| head.authority = Bytes::from_static(b"a\r\nx: y")), BadRequest::Authority);
        let name = with(|head| head.headers[1].name = Bytes::from_static(b"x y"));
        assert!(matches!(name, BadRequest::Field(BadField { index: 1, .. })));
        let value = with(|head| head.headers[0].value = Bytes::from_static(b"1\r\n2"));
        assert!(matches!(value, BadRequest::Field(BadField { index: 0, .. })));
    }
}
