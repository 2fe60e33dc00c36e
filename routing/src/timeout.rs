use std::time::Duration;

/// Why the value of a `starling-timeout` header says no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeoutError {
    /// Not a number and a unit.
    #[error("write a whole number of at most 8 digits and a unit (us, ms, s, m, h), such as 1500ms or 2s")]
    Shape,
    /// Nothing can be done in no time.
    #[error("0 leaves no time to answer; leave the header out for the default")]
    Zero,
    /// More than a day.
    #[error("at most 24h")]
    TooLong,
}

/// Reads the value of a `starling-timeout` header: a whole number of at most eight digits and a unit, `us`, `ms`, `s`,
/// `m` or `h`, with nothing between. From 1 us to 24 h.
///
/// # Errors
/// If it has another form or is out of range: the request is the caller's mistake
/// ([`BadRequest`](starling_proto::ErrorCode::BadRequest)).
pub fn parse_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=8).contains(&digits) {
        return Err(TimeoutError::Shape);
    }
    let (number, unit) = value.split_at(digits);
    let number = number.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    let micros = number
        * match unit {
            b"us" => 1,
            b"ms" => 1_000,
            b"s" => 1_000_000,
            b"m" => 60_000_000,
            b"h" => 3_600_000_000,
            _ => return Err(TimeoutError::Shape),
        };
    match Duration::from_micros(micros) {
        Duration::ZERO => Err(TimeoutError::Zero),
        long if long > Duration::from_hours(24) => Err(TimeoutError::TooLong),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_timeout_is_a_number_and_a_unit() {
        for (text, result) in [
            ("1500ms", Ok(Duration::from_millis(1_500))),
            ("2s", Ok(Duration::from_secs(2))),
            ("250us", Ok(Duration::from_micros(250))),
            ("3m", Ok(Duration::from_mins(3))),
            ("24h", Ok(Duration::from_hours(24))),
            ("99999999us", Ok(Duration::from_micros(99_999_999))),
            ("25h", Err(TimeoutError::TooLong)),
            ("99999999h", Err(TimeoutError::TooLong)),
            ("0s", Err(TimeoutError::Zero)),
            ("", Err(TimeoutError::Shape)),
            ("s", Err(TimeoutError::Shape)),
            ("15", Err(TimeoutError::Shape)),
            ("1.5s", Err(TimeoutError::Shape)),
            ("-1s", Err(TimeoutError::Shape)),
            ("1 s", Err(TimeoutError::Shape)),
            ("1S", Err(TimeoutError::Shape)),
            ("123456789ms", Err(TimeoutError::Shape)),
        ] {
            assert_eq!(parse_timeout(text.as_bytes()), result, "'{text}'");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_reading_it_never_panics(value in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = parse_timeout(&value);
        }
    }
}
