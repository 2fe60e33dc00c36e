//! Which bytes HTTP allows where (RFC 9110, section 5.6.2, and RFC 3986, section 3).

/// Is this the name of a field, or a method?
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// May this be the value of a field?
pub(super) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

/// May this be the target of a request: a path, or `*`?
pub(super) fn is_target(bytes: &[u8]) -> bool {
    let starts = bytes.first() == Some(&b'/') || bytes == b"*";
    starts && bytes.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..) && *byte != b'#')
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation, reason = "below 256")]
        let letter = byte as u8;
        table[byte] = letter.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_target_is_a_path_or_a_star() {
        for good in ["/", "/a?b=c%20d", "*", "//x", "/\u{e9}"] {
            assert!(is_target(good.as_bytes()), "{good}");
        }
        for bad in ["", "a", "http://x/", "/a b", "/a\r\nb", "/#x", "**", "/\u{7f}"] {
            assert!(!is_target(bad.as_bytes()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_name_or_a_value_here_is_one_to_others(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
            prop_assert_eq!(is_token(&bytes), HeaderName::from_bytes(&bytes).is_ok());
            prop_assert_eq!(is_value(&bytes), HeaderValue::from_bytes(&bytes).is_ok());
        }
    }
}
