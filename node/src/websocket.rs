//! `WebSocket` in two versions of HTTP: what HTTP/1.1 proves with a key (RFC 6455, section 4.2.2), HTTP/2 proves by its framing
//! (RFC 8441, section 5). Between nodes it is told as HTTP/1.1 tells it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use rand::RngExt;
use sha1::{Digest, Sha1};

/// The word for it in `Upgrade` and in `:protocol`.
pub(crate) const WEBSOCKET: &[u8] = b"websocket";

/// RFC 6455, section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a server answers to a key: the proof that it speaks `WebSocket`.
pub(crate) fn accept(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is printable")
}

/// Gives a request that came over HTTP/2 what HTTP/1.1 wants of it.
pub(crate) fn ask(headers: &mut HeaderMap) {
    let key: [u8; 16] = rand::rng().random();
    let key = HeaderValue::try_from(STANDARD.encode(key)).expect("base64 is printable");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    headers.entry(SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
}

/// Did the server accept the key of this request? Takes its proof out of the answer.
pub(crate) fn is_accepted(request: &HeaderMap, answer: &mut HeaderMap) -> bool {
    let proof = answer.remove(SEC_WEBSOCKET_ACCEPT);
    request.get(SEC_WEBSOCKET_KEY).is_some_and(|key| proof == Some(accept(key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_the_rfc_shows() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_proof_for_the_key_that_was_sent_counts() {
        let mut request = HeaderMap::new();
        ask(&mut request);
        assert_eq!(request[SEC_WEBSOCKET_VERSION], "13");
        let mut answer = HeaderMap::new();
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept(request[SEC_WEBSOCKET_KEY].as_bytes()));
        assert!(is_accepted(&request, &mut answer) && answer.is_empty());
        assert!(!is_accepted(&request, &mut answer));
    }
}
