//! The answers that the mesh itself makes. Each says so: `starling-error: <code>`, a short JSON body or a gRPC status, and the
//! same code in the access log.

use std::fmt::Write;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use starling_proto::ErrorCode;

use crate::failure::Failure;
use crate::fields::STARLING_ERROR;

/// The body of such an answer.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    error: &'a str,
    detail: &'a str,
    service: &'a str,
}

/// In whose words a failure is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tongue {
    /// A status, and JSON.
    Http,
    /// 200, with `grpc-status` and `grpc-message`.
    Grpc,
}

impl Tongue {
    /// That of a request with these fields.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let is_grpc = |kind: &HeaderValue| {
            // Not `application/grpc-web`: that is another protocol, whose clients read the status of HTTP as well.
            let rest = kind.as_bytes().strip_prefix(b"application/grpc");
            rest.is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';'))
        };
        if headers.get(CONTENT_TYPE).is_some_and(is_grpc) { Self::Grpc } else { Self::Http }
    }
}

/// What gRPC calls a failure of the mesh (the status codes of gRPC, and its mapping of HTTP's).
#[must_use]
pub(crate) const fn grpc_status(code: ErrorCode) -> u16 {
    const CANCELLED: u16 = 1;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match code {
        ErrorCode::Cancelled => CANCELLED,
        ErrorCode::Deadline | ErrorCode::TryTimeout => DEADLINE_EXCEEDED,
        ErrorCode::Refused => PERMISSION_DENIED,
        ErrorCode::HeaderTooLarge => RESOURCE_EXHAUSTED,
        ErrorCode::NotAMeshName | ErrorCode::NoRoute => UNIMPLEMENTED,
        ErrorCode::BadRequest | ErrorCode::Internal => INTERNAL,
        _ => UNAVAILABLE,
    }
}

/// The fields that tell a gRPC caller of a failure: of an answer without a body, or of its trailers.
pub(crate) fn grpc_fields(failure: &Failure, headers: &mut HeaderMap) {
    headers.insert(STARLING_ERROR, HeaderValue::from_static(failure.code.as_str()));
    headers.insert("grpc-status", HeaderValue::from(grpc_status(failure.code)));
    let message = format!("{}: {}", failure.code, failure.detail);
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&message)) {
        headers.insert("grpc-message", message);
    }
}

/// As gRPC over HTTP/2 writes messages: what is not printable ASCII, and `%`, is escaped.
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// An answer for a request that the mesh could not have served: its status is the code's own.
#[must_use]
pub(crate) fn to_error(failure: &Failure, service: &str, tongue: Tongue) -> Response<Bytes> {
    let code = failure.code;
    if tongue == Tongue::Grpc {
        let mut response = Response::new(Bytes::new());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        grpc_fields(failure, response.headers_mut());
        return response;
    }
    let explanation = Explanation { error: code.as_str(), detail: &failure.detail, service };
    let body = serde_json::to_vec(&explanation).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(STARLING_ERROR, HeaderValue::from_static(code.as_str()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_speaks_grpc_is_told_in_its_words() {
        let mut headers = HeaderMap::new();
        for (kind, tongue) in [
            ("application/grpc", Tongue::Grpc),
            ("application/grpc+proto", Tongue::Grpc),
            ("application/grpc; x=y", Tongue::Grpc),
            ("application/grpc-web", Tongue::Http),
            ("application/json", Tongue::Http),
        ] {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            assert_eq!(Tongue::of(&headers), tongue, "{kind}");
        }
        let response = to_error(&Failure::new(ErrorCode::NoEndpoint, "100 % \u{e9}"), "orders", Tongue::Grpc);
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "no-endpoint: 100 %25 %C3%A9");
        assert_eq!(response.headers()[STARLING_ERROR], "no-endpoint");
    }

    #[test]
    fn an_answer_of_the_mesh_says_so_in_status_header_and_body() {
        let response =
            to_error(&Failure::new(ErrorCode::NoEndpoint, "all \"2\" endpoints are down"), "orders", Tongue::Http);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[STARLING_ERROR], "no-endpoint");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"], "no-endpoint");
        assert_eq!(body["detail"], "all \"2\" endpoints are down");
        assert_eq!(body["service"], "orders");
    }
}
