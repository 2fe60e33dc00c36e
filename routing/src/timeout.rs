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

/// Reads the value of a `grpc-timeout` header: at most eight digits and a unit, `H`, `M`, `S`, `m` (milliseconds), `u` or `n`
/// (the protocol of gRPC over HTTP/2). More than a day counts as a day, none as an instant.
#[must_use]
pub fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.clamp(Duration::from_nanos(1), Duration::from_hours(24)))
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

    #[test]
    fn a_timeout_of_grpc_has_a_unit_of_one_letter() {
        for (text, timeout) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("0S", Some(Duration::from_nanos(1))),
            ("99999999H", Some(Duration::from_hours(24))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("1s", None),
            ("-1S", None),
            ("1.5S", None),
        ] {
            assert_eq!(parse_grpc_timeout(text.as_bytes()), timeout, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_reading_it_never_panics(value in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = parse_timeout(&value);
        }
    }
}
