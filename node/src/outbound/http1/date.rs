//! The time of day as HTTP writes it (RFC 9110, section 5.6.7).

use std::cell::RefCell;

use bytes::{BufMut, BytesMut};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

thread_local! {
    /// It is the same for a whole second.
    static NOW: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Appends it.
pub(super) fn write(head: &mut BytesMut) {
    let now = Timestamp::now();
    NOW.with_borrow_mut(|(second, text)| {
        if *second != now.as_second() {
            *second = now.as_second();
            *text = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).unwrap_or_default();
        }
        head.put_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_imf_fixdate() {
        let mut head = BytesMut::new();
        write(&mut head);
        let text = std::str::from_utf8(&head).unwrap();
        assert_eq!((text.len(), &text[3..5], &text[25..]), ("Sun, 06 Nov 1994 08:49:37 GMT".len(), ", ", " GMT"));
    }
}
