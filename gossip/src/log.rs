//! An append-only log of records, for what is kept on disk. A crash in the middle of a write loses that write only.
//!
//! ```text
//! | length: u32 BE | first 8 bytes of SHA-256 of the payload | payload |
//! ```

use sha2::{Digest, Sha256};

const HEADER: usize = 4 + 8;
/// The most a payload may have, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// What a log held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log<'a> {
    /// The payloads of its whole records, oldest first.
    pub payloads: Vec<&'a [u8]>,
    /// Bytes up to the end of the last of them: what comes after is damaged or half-written, and is to be cut off before
    /// anything is appended.
    pub whole: usize,
}

/// One record, to be appended to a log. `None` if the payload has more than [`MAX_PAYLOAD`].
#[must_use]
pub fn record(payload: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD)?;
    Some([&len.to_be_bytes()[..], &checksum(payload), payload].concat())
}

/// Reads a log. Never fails: what comes after the last whole record is left out.
#[must_use]
pub fn read(log: &[u8]) -> Log<'_> {
    let (mut payloads, mut whole) = (Vec::new(), 0);
    while let Some(payload) = first(&log[whole..]) {
        payloads.push(payload);
        whole += HEADER + payload.len();
    }
    Log { payloads, whole }
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let mut sum = [0; 8];
    sum.copy_from_slice(&Sha256::digest(payload)[..8]);
    sum
}

fn first(log: &[u8]) -> Option<&[u8]> {
    let (header, rest) = log.split_at_checked(HEADER)?;
    let len = u32::from_be_bytes(header[..4].try_into().ok()?) as usize;
    let payload = rest.get(..len).filter(|_| len <= MAX_PAYLOAD)?;
    (header[4..] == checksum(payload)).then_some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_that_was_half_written_or_damaged_ends_the_log() {
        let (one, two) = (record(b"one").unwrap(), record(b"").unwrap());
        let log = [one.clone(), two].concat();
        assert_eq!(read(&log), Log { payloads: vec![b"one", b""], whole: log.len() });
        for end in 0..log.len() {
            let payloads: Vec<&[u8]> = if end < one.len() { vec![] } else { vec![b"one"] };
            let whole = if end < one.len() { 0 } else { one.len() };
            assert_eq!(read(&log[..end]), Log { payloads, whole }, "cut at {end}");
        }
        for at in one.len()..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged).payloads, [b"one"], "byte {at}");
        }
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        assert!(record(&vec![0; MAX_PAYLOAD]).is_some());
        assert_eq!(record(&vec![0; MAX_PAYLOAD + 1]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).whole <= bytes.len());
        }
    }
}
