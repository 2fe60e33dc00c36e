use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

/// Bytes of a nonce (RFC 8452, section 4).
pub(crate) const NONCE_LEN: usize = 12;
/// Bytes that sealing adds (RFC 8452, section 4).
pub(crate) const TAG_LEN: usize = 16;
/// Epochs that are accepted at a time: the one in use and the one before or after it, while a rotation spreads.
const ACCEPTED: usize = 2;

/// The mesh's group key, by epochs. Packets are sealed with the newest; two are accepted at a time.
pub struct Keyring {
    epochs: Vec<Epoch>,
}

struct Epoch {
    number: u32,
    key: LessSafeKey,
}

/// Why a keyring can't be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key at all.
    #[error("no group key: a mesh has at least one epoch")]
    Empty,
    /// Two keys of one epoch.
    #[error("two group keys for epoch {0}")]
    Duplicate(u32),
    /// The library refuses a key.
    #[error("the group key of epoch {0} is unusable")]
    Unusable(u32),
}

impl Keyring {
    /// A keyring of AES-256-GCM-SIV keys (RFC 8452), each with its epoch. Of more than two the newest two count.
    ///
    /// # Errors
    /// If there is none, or two of one epoch.
    pub fn try_new(mut keys: Vec<(u32, [u8; 32])>) -> Result<Self, KeyringError> {
        keys.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let built = Self::build(&keys);
        for (_, key) in &mut keys {
            key.zeroize();
        }
        built
    }

    fn build(keys: &[(u32, [u8; 32])]) -> Result<Self, KeyringError> {
        if let Some(twice) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(KeyringError::Duplicate(twice[0].0));
        }
        let mut epochs = Vec::with_capacity(ACCEPTED);
        for (number, key) in keys.iter().take(ACCEPTED) {
            let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| KeyringError::Unusable(*number))?;
            epochs.push(Epoch { number: *number, key: LessSafeKey::new(key) });
        }
        if epochs.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { epochs }) }
    }

    /// The epochs that are accepted, newest first.
    pub fn epochs(&self) -> impl Iterator<Item = u32> {
        self.epochs.iter().map(|epoch| epoch.number)
    }

    /// The epoch that packets are sealed with.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.epochs[0].number
    }

    /// Seals `buffer` in place with the newest epoch and appends the tag. `None` only if the library fails.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_LEN], clear: &[u8], buffer: &mut Vec<u8>) -> Option<()> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.epochs[0].key.seal_in_place_append_tag(nonce, Aad::from(clear), buffer).ok()
    }

    /// Does this ring hold the key of an epoch?
    pub(crate) fn accepts(&self, number: u32) -> bool {
        self.epochs.iter().any(|epoch| epoch.number == number)
    }

    /// Opens what [`Keyring::seal`] sealed. `None` if the epoch is not accepted or the bytes are not authentic.
    pub(crate) fn open<'a>(
        &self,
        number: u32,
        nonce: [u8; NONCE_LEN],
        clear: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let epoch = self.epochs.iter().find(|epoch| epoch.number == number)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        epoch.key.open_in_place(nonce, Aad::from(clear), sealed).ok().map(|opened| &*opened)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.epochs().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(ring: &Keyring, text: &[u8]) -> Vec<u8> {
        let mut buffer = text.to_vec();
        ring.seal([7; NONCE_LEN], b"clear", &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn the_newest_epoch_seals_and_two_are_accepted() {
        let old = Keyring::try_new(vec![(1, [1; 32])]).unwrap();
        let both = Keyring::try_new(vec![(1, [1; 32]), (2, [2; 32])]).unwrap();
        let three = Keyring::try_new(vec![(1, [1; 32]), (3, [3; 32]), (2, [2; 32])]).unwrap();
        assert_eq!(both.newest(), 2);
        assert_eq!(three.epochs().collect::<Vec<_>>(), [3, 2]);
        let mut sealed = seal(&old, b"hello");
        assert_eq!(both.open(1, [7; NONCE_LEN], b"clear", &mut sealed), Some(&b"hello"[..]));
        let mut sealed = seal(&old, b"hello");
        assert_eq!(three.open(1, [7; NONCE_LEN], b"clear", &mut sealed), None);
    }

    #[test]
    fn any_change_makes_a_sealed_text_unreadable() {
        let ring = Keyring::try_new(vec![(1, [1; 32])]).unwrap();
        let sealed = seal(&ring, b"hello");
        assert_eq!(sealed.len(), 5 + TAG_LEN);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(ring.open(1, [7; NONCE_LEN], b"clear", &mut changed), None);
        }
        assert_eq!(ring.open(1, [8; NONCE_LEN], b"clear", &mut sealed.clone()), None);
        assert_eq!(ring.open(1, [7; NONCE_LEN], b"cleaR", &mut sealed.clone()), None);
        assert_eq!(ring.open(2, [7; NONCE_LEN], b"clear", &mut sealed.clone()), None);
    }

    #[test]
    fn a_keyring_without_a_key_or_with_two_of_one_epoch_is_refused() {
        assert_eq!(Keyring::try_new(vec![]).unwrap_err(), KeyringError::Empty);
        assert_eq!(Keyring::try_new(vec![(1, [1; 32]), (1, [2; 32])]).unwrap_err(), KeyringError::Duplicate(1));
    }

    #[test]
    fn a_keyring_never_shows_its_keys() {
        let ring = Keyring::try_new(vec![(1, [1; 32]), (2, [2; 32])]).unwrap();
        assert_eq!(format!("{ring:?}"), "Keyring([2, 1])");
    }
}
