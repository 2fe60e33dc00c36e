//! The answers that the mesh itself makes. Each says so: `starling-error: <code>`, a short JSON body, and the same code
//! in the access log.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::failure::Failure;
use crate::fields::STARLING_ERROR;

/// The body of such an answer.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    error: &'a str,
    detail: &'a str,
    service: &'a str,
}

/// An answer for a request that the mesh could not have served: its status is the code's own.
#[must_use]
pub(crate) fn to_error(failure: &Failure, service: &str) -> Response<Bytes> {
    let code = failure.code;
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
    use starling_proto::ErrorCode;

    #[test]
    fn an_answer_of_the_mesh_says_so_in_status_header_and_body() {
        let response = to_error(&Failure::new(ErrorCode::NoEndpoint, "all \"2\" endpoints are down"), "orders");
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[STARLING_ERROR], "no-endpoint");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"], "no-endpoint");
        assert_eq!(body["detail"], "all \"2\" endpoints are down");
        assert_eq!(body["service"], "orders");
    }
}
