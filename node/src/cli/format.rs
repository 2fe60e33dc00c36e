//! How numbers and times are written in tables. JSON has them exact.

use jiff::Timestamp;

/// Seconds as a human says them, in two steps at most: `3d4h`, `5m12s`.
pub(super) fn span(seconds: u64) -> String {
    let parts = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let first = parts.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(parts.len() - 1);
    let mut rest = seconds;
    let mut text = String::new();
    for (unit, letter) in parts.iter().skip(first).take(2) {
        if rest >= *unit || text.is_empty() {
            text.push_str(&(rest / unit).to_string());
            text.push_str(letter);
        }
        rest %= unit;
    }
    text
}

/// How long ago something was; the clocks of two nodes may differ, so the future is now.
pub(super) fn ago(time: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(time.as_second());
    span(u64::try_from(seconds).unwrap_or(0)) + " ago"
}

/// How far off something is.
pub(super) fn ahead(time: Timestamp) -> String {
    match u64::try_from(time.as_second().saturating_sub(Timestamp::now().as_second())) {
        Ok(seconds) => format!("{time:.0} (in {})", span(seconds)),
        Err(_) => format!("{time:.0} ({}: past)", ago(time)),
    }
}

/// Latency: seconds as milliseconds.
pub(super) fn millis(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!("{:.1}ms", seconds * 1_000.0))
}

/// A share of 1 in percent.
pub(super) fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.2}%", share * 100.0))
}

/// Yes or no.
pub(super) fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_parts() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_612, "1h"), (312, "5m12s"), (86_400 + 7_200 + 5, "1d2h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
