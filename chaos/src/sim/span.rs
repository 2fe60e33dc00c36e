use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A time as scenarios write it: `200us`, `150ms`, `20s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no time; write a number and us, ms, s, m or h")]
pub struct SpanError(String);

impl Span {
    pub(super) const fn micros(count: u64) -> Self {
        Self(Duration::from_micros(count))
    }

    pub(super) const fn millis(count: u64) -> Self {
        Self(Duration::from_millis(count))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let wrong = || SpanError(text.to_owned());
        let unit = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(number * seconds).map(Self).map_err(|_| wrong())
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, micros) in [("200us", 200), ("1.5ms", 1_500), ("20s", 20_000_000), ("2m", 120_000_000)] {
            assert_eq!(text.parse(), Ok(Span::micros(micros)), "{text}");
        }
        assert_eq!("1h".parse(), Ok(Span::millis(3_600_000)));
        for text in ["", "5", "s", "5 s", "-1s", "1d", "1e400s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
