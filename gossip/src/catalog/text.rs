//! Values as chitchat carries them: its values are text, so an encoded `SignedValue` travels as base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;

use super::MAX_VALUE;

/// The most the text of a value may have, in bytes.
pub const MAX_TEXT: usize = (MAX_VALUE * 4).div_ceil(3);

/// Text that is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than [`MAX_TEXT`].
    #[error("a value's text of {0} bytes: the limit is {MAX_TEXT}")]
    TooLarge(usize),
    /// Not base64 in its one canonical form.
    #[error("not base64 (standard alphabet, unpadded)")]
    Base64,
}

/// The text of an encoded value.
pub fn encode(value: &[u8]) -> String {
    STANDARD_NO_PAD.encode(value)
}

/// The encoded value of a text.
pub fn decode(text: &str) -> Result<Bytes, TextError> {
    if text.len() > MAX_TEXT {
        return Err(TextError::TooLarge(text.len()));
    }
    STANDARD_NO_PAD.decode(text).map(Bytes::from).map_err(|_| TextError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_its_text() {
        for len in [0, 1, 2, 3, MAX_VALUE] {
            let value = vec![0xa5; len];
            assert!(encode(&value).len() <= MAX_TEXT);
            assert_eq!(decode(&encode(&value)), Ok(Bytes::from(value)));
        }
    }

    #[test]
    fn text_that_is_not_canonical_is_refused() {
        assert_eq!(decode("AA=="), Err(TextError::Base64));
        assert_eq!(decode("AB"), Err(TextError::Base64), "bits that say nothing");
        assert_eq!(decode("A A"), Err(TextError::Base64));
        assert_eq!(decode(&"A".repeat(MAX_TEXT + 1)), Err(TextError::TooLarge(MAX_TEXT + 1)));
    }
}
