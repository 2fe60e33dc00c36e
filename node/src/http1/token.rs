//! Which bytes HTTP allows where (RFC 9110, section 5.6.2, and RFC 3986, section 3).

/// Is this the name of a field, or a method?
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// May this be the value of a field?
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
}

/// May this be the target of a request: a path, or `*`?
pub(crate) fn is_target(bytes: &[u8]) -> bool {
    let starts = bytes.first() == Some(&b'/') || bytes == b"*";
    starts && bytes.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..) && *byte != b'#')
}

/// Ends each line of this head, or of what has come of it, with CR and LF, and is there no NUL? Others may take a lone CR or
/// LF for the end of a line, or for a part of one (RFC 9112, section 2.2).
pub(crate) fn has_whole_line_ends(head: &[u8]) -> bool {
    let mut before = 0;
    for byte in head {
        let broken = match byte {
            b'\n' => before != b'\r',
            0 => true,
            _ => before == b'\r',
        };
        if broken {
            return false;
        }
        before = *byte;
    }
    true
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

    #[test]
    fn a_lone_carriage_return_or_line_feed_ends_no_line() {
        for good in ["", "a: b\r\n\r\n", "a: b\r", "\r\n"] {
            assert!(has_whole_line_ends(good.as_bytes()), "{good:?}");
        }
        for bad in ["a\n", "\n", "a\rb", "\r\r\n", "a\0", "a: b\r\n\nc"] {
            assert!(!has_whole_line_ends(bad.as_bytes()), "{bad:?}");
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
