//! What a client of this node sent and was refused before any service saw it, by reason.

use std::fmt;

use starling_proto::ErrorCode;

macro_rules! rejected {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $code:ident, $detail:literal;)*) => {
        /// Why what a client sent was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Rejected {
            $($(#[$doc])* $name,)*
        }

        impl Rejected {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// A stable word for metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What the client is told, where there is a way to tell it.
            #[must_use]
            pub const fn code(self) -> ErrorCode {
                match self { $(Self::$name => ErrorCode::$code,)* }
            }

            /// Words for a human.
            #[must_use]
            pub const fn detail(self) -> &'static str {
                match self { $(Self::$name => $detail,)* }
            }
        }
    };
}

rejected! {
    /// A line ends without CR or without LF, or holds a NUL.
    BareLineFeed = "bare-line-feed", BadRequest, "a line of the head ends without CR or LF, or holds a NUL (RFC 9112, section 2.2)";
    /// No head of HTTP/1.
    BadHead = "bad-head", BadRequest, "the head of the request is not HTTP/1.1";
    /// Another version than 1.0 or 1.1.
    BadVersion = "bad-version", BadRequest, "the version is neither HTTP/1.0 nor HTTP/1.1";
    /// A target of another form than the method allows.
    BadTarget = "bad-target", BadRequest, "the target of the request is not of a form that its method allows (RFC 9112, section 3.2)";
    /// None, or several, or one that is none.
    BadHost = "bad-host", BadRequest, "a request has exactly one Host, and it names a host (RFC 9112, section 3.2)";
    /// A length that is no number.
    BadLength = "bad-length", BadRequest, "Content-Length is not a number (RFC 9110, section 8.6)";
    /// Several lengths.
    RepeatedLength = "repeated-length", BadRequest, "Content-Length stands more than once (RFC 9112, section 6.3)";
    /// A length beside a transfer coding.
    LengthAndCoding = "length-and-coding", BadRequest, "Content-Length stands beside Transfer-Encoding (RFC 9112, section 6.1)";
    /// A transfer coding other than chunked.
    BadCoding = "bad-coding", BadRequest, "Transfer-Encoding is not just chunked (RFC 9112, section 6.1)";
    /// A body that is not framed as it says.
    BadBody = "bad-body", BadRequest, "the body is not chunked as RFC 9112, section 7.1, says";
    /// A head over the limit.
    HeadTooLarge = "head-too-large", HeaderTooLarge, "the head of the request is larger than limits.header_bytes, or has more fields than limits.header_fields";
    /// A head that did not come whole in time.
    SlowHead = "slow-head", BadRequest, "the head of the request did not come within limits.header_timeout";
    /// A body that stood still for too long.
    SlowBody = "slow-body", BadRequest, "nothing came of the body of the request within limits.body_timeout";
    /// An answer that was not taken for too long.
    SlowReader = "slow-reader", Cancelled, "nothing of the answer was taken within limits.send_timeout";
    /// A connection that breaks the rules of HTTP/2.
    Http2 = "http2", BadRequest, "the connection breaks the rules of HTTP/2";
    /// More streams opened and reset than anybody needs (CVE-2023-44487).
    RapidReset = "rapid-reset", BadRequest, "streams of HTTP/2 are opened and reset over and over";
    /// A handshake of TLS that came to nothing.
    Tls = "tls", BadRequest, "the TLS handshake came to nothing";
    /// Frames that cost this node more than their sender: heads without an end or far over the limit, resets of streams that were
    /// hardly opened, or that the node is made to send, data in tiny pieces.
    Http2Flood = "http2-flood", BadRequest, "frames of HTTP/2 that cost more than they carry, over and over";
    /// Nothing that a SOCKS client says.
    Socks = "socks", BadRequest, "the client does not speak SOCKS 5 (RFC 1928)";
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_its_place_is_its_number() {
        let words: BTreeSet<_> = Rejected::ALL.iter().map(|why| why.as_str()).collect();
        assert_eq!(words.len(), Rejected::ALL.len());
        for (at, why) in Rejected::ALL.iter().enumerate() {
            assert_eq!(*why as usize, at);
        }
    }
}
