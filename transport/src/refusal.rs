//! Why a handshake came to nothing, or a datagram was no part of any, and how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// Why a handshake, or a datagram, was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// A stable word for metrics and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

refusals! {
    /// No chain from the certificate to a root of this mesh.
    UnknownIssuer = "unknown-issuer";
    /// The certificate's time is over.
    Expired = "expired";
    /// The certificate's time has not come: most often a clock that is wrong.
    NotYetValid = "not-yet-valid";
    /// The certificate belongs to another mesh.
    WrongTrustDomain = "wrong-trust-domain";
    /// The certificate does not carry exactly one name of a node.
    BadName = "bad-name";
    /// The certificate's list of services cannot be read.
    BadServices = "bad-services";
    /// The certificate is malformed, has a bad signature, or is for another use.
    BadCertificate = "bad-certificate";
    /// The peer showed no certificate.
    NoCertificate = "no-certificate";
    /// The peer is not who was dialed.
    WrongPeer = "wrong-peer";
    /// The peer speaks none of our protocols.
    NoProtocol = "no-protocol";
    /// The handshake did not finish in time.
    Timeout = "timeout";
    /// Too many handshakes or connections at a time.
    TooMany = "too-many";
    /// The listener drains.
    Draining = "draining";
    /// The peer gave up, or broke the protocol.
    Aborted = "aborted";
    /// A datagram that can belong to no connection of this node, or bytes on the TCP port that are no TLS. What passes for QUIC by its header and fails to decrypt, or
    /// comes twice, is dropped by QUIC itself and not counted.
    Noise = "noise";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused certificate, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct RefusedCertificate {
    /// In a word.
    pub reason: Refusal,
    /// What exactly was wrong.
    pub detail: String,
}

impl RefusedCertificate {
    pub(crate) fn new(reason: Refusal, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Handshakes that came to nothing, and datagrams that were noise, since the start, by reason. Shared by the shards of a node.
#[derive(Debug, Default)]
pub struct Refusals {
    counts: [AtomicU64; Refusal::ALL.len()],
}

impl Refusals {
    pub(crate) fn count(&self, refusal: Refusal) {
        self.counts[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many for this reason.
    pub fn of(&self, refusal: Refusal) -> u64 {
        self.counts[refusal as usize].load(Ordering::Relaxed)
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.iter().map(|refusal| (*refusal, self.of(*refusal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_and_a_count_of_its_own() {
        let refusals = Refusals::default();
        for (times, refusal) in Refusal::ALL.iter().enumerate() {
            (0..times).for_each(|_| refusals.count(*refusal));
        }
        for (times, (refusal, count)) in refusals.iter().enumerate() {
            assert_eq!(count, times as u64, "{refusal}");
        }
    }
}
