//! What an agent tells of itself, read as anybody may read it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The sum of a metric's series with such a label; 0 if there is none, or no answer.
pub(crate) fn gauge(admin: SocketAddr, name: &str, label: &str) -> u64 {
    sum(&metrics(admin), name, label)
}

/// The sum of those in a text.
pub(crate) fn sum(text: &str, name: &str, label: &str) -> u64 {
    let series = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// All metrics of an agent; nothing if it does not answer.
pub(crate) fn metrics(admin: SocketAddr) -> String {
    let read = || {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_one_name_are_summed() {
        let text = "a 1\na{x=\"1\"} 2\na{x=\"2\"} 3\nab 7\n# a 9\n";
        assert_eq!((sum(text, "a", ""), sum(text, "a", "x=\"2\""), sum(text, "c", "")), (6, 3, 0));
    }
}
