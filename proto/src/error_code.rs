//! What went wrong, in one word: the value of the `starling-error` header, of the access log's `error` field, and of
//! the code that a stream is reset with.

use std::fmt;

/// Was the request given to the application before it failed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Processed {
    /// Certainly not: it may be sent again, whatever its method.
    No,
    /// Perhaps or surely: only an idempotent request may be sent again.
    Maybe,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal, $status:literal, $processed:ident;)*) => {
        /// Every failure that the mesh itself can cause or report. Words and numbers are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word that users see.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status of the answer that the mesh makes.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// May the request have reached the application?
            #[must_use]
            pub const fn processed(self) -> Processed {
                match self { $(Self::$name => Processed::$processed,)* }
            }

            /// The number a QUIC stream is reset with (application error code).
            #[must_use]
            pub const fn number(self) -> u32 {
                match self { $(Self::$name => $number,)* }
            }

            /// The code of a number that a peer reset a stream with.
            #[must_use]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The code of a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// The caller's bytes are no request of this protocol.
    BadRequest = 0x10, "bad-request", 400, No;
    /// The request's header is larger than allowed.
    HeaderTooLarge = 0x11, "header-too-large", 431, No;
    /// The name is no service of this mesh's suffix.
    NotAMeshName = 0x12, "not-a-mesh-name", 404, No;
    /// Nobody offers the service.
    NoSuchService = 0x13, "no-such-service", 503, No;
    /// The service is known, but no endpoint can be used now.
    NoEndpoint = 0x14, "no-endpoint", 503, No;
    /// No connection to the endpoint's node could be made.
    ConnectFailed = 0x15, "connect-failed", 503, No;
    /// The endpoint's node did not accept a connection in time.
    ConnectTimeout = 0x16, "connect-timeout", 504, No;
    /// The far node refused the stream: not allowed, or not offered there.
    Refused = 0x17, "refused", 403, No;
    /// The far node does not offer that service (any more).
    NotServedHere = 0x18, "not-served-here", 503, No;
    /// The far node could not connect to its local application.
    UpstreamConnect = 0x19, "upstream-connect", 503, No;
    /// The far node drains.
    Draining = 0x1a, "draining", 503, No;
    /// A limit of the far node is reached.
    Overloaded = 0x1b, "overloaded", 503, No;
    /// The application refused the request before it looked at it (HTTP/2: `REFUSED_STREAM`, or a GOAWAY before it).
    UpstreamRefused = 0x1c, "upstream-refused", 503, No;
    /// No route of the ingress leads to a service.
    NoRoute = 0x1d, "no-route", 404, No;
    /// The application closed or reset the connection before its answer was complete.
    UpstreamReset = 0x20, "upstream-reset", 502, Maybe;
    /// The application's answer is not of its protocol.
    UpstreamProtocol = 0x21, "upstream-protocol", 502, Maybe;
    /// The time for one try ran out.
    TryTimeout = 0x22, "try-timeout", 504, Maybe;
    /// The request's deadline passed.
    Deadline = 0x23, "deadline-exceeded", 504, Maybe;
    /// The connection between the nodes was lost.
    ConnectionLost = 0x24, "connection-lost", 502, Maybe;
    /// The connection between the nodes fell silent with the request outstanding.
    ConnectionSilent = 0x25, "connection-silent", 504, Maybe;
    /// The caller went away.
    Cancelled = 0x26, "cancelled", 499, Maybe;
    /// The two nodes do not understand each other.
    HopProtocol = 0x27, "hop-protocol", 502, Maybe;
    /// A fault of Starling itself.
    Internal = 0x2f, "internal", 500, Maybe;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_name_one_code_each() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(code.number().into()), Some(*code));
            assert_eq!(ErrorCode::from_word(code.as_str()), Some(*code));
            assert!((400..=599).contains(&code.status()));
        }
        assert_eq!(ErrorCode::from_number(0), None);
    }
}
