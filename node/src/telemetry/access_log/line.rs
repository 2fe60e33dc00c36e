use std::borrow::Cow;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::ser::Formatter;
use starling_proto::{ErrorCode, Protocol, ServiceName, SpiffeId};

use crate::telemetry::{Peer, RequestRecord};

/// Appends a record as one line of JSON. The names are stable; what is not known is left out, and so is the query of a
/// target: it may hold what does not belong into a log.
///
/// Written by hand, since it is written for each request: but for the path, no value can need an escape.
pub(super) fn write(buffer: &mut Vec<u8>, clock: &mut Clock, record: &RequestRecord) {
    let mut line = Line(buffer);
    line.0.extend_from_slice(b"{\"time\":\"");
    clock.write(line.0, record.at);
    line.plain("\",\"direction\":\"", record.direction.as_str());
    if let Some(src) = &record.src {
        line.service("\",\"src\":\"", src);
    }
    line.service("\",\"dst\":\"", &record.dst);
    if let Some(node) = record.endpoint.as_ref().map(SpiffeId::node) {
        line.plain("\",\"endpoint\":\"", node);
    }
    line.plain("\",\"protocol\":\"", Protocol::as_str(record.protocol));
    if let Some(method) = &record.method {
        line.plain("\",\"method\":\"", method.as_str());
    }
    line.plain("\"", "");
    line.path(record.target.split(|byte| *byte == b'?').next().unwrap_or_default());
    if record.status != 0 {
        line.number(",\"status\":", record.status.into());
    }
    if let Some(error) = record.error.map(ErrorCode::as_str) {
        line.plain(",\"error\":\"", error);
        line.plain("\"", "");
    }
    line.number(",\"bytes_in\":", record.bytes_in);
    line.number(",\"bytes_out\":", record.bytes_out);
    line.duration_ms(record.duration);
    line.number(",\"attempts\":", record.attempts.into());
    if let Some(hop) = record.trace {
        line.plain(",\"trace_id\":\"", "");
        line.0.extend_from_slice(&hop.context.trace_id().text());
        line.plain("\"", "");
    }
    line.peer(&record.peer);
    line.0.extend_from_slice(b"}\n");
}

/// The line that is being written.
struct Line<'b>(&'b mut Vec<u8>);

impl Line<'_> {
    /// A value that needs no escape.
    fn plain(&mut self, before: &str, value: &str) {
        self.0.extend_from_slice(before.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
    }

    fn service(&mut self, before: &str, service: &ServiceName) {
        self.plain(before, service.name());
        if !service.is_in_default_namespace() {
            self.plain(".", service.namespace());
        }
    }

    fn number(&mut self, before: &str, value: u64) {
        self.plain(before, itoa::Buffer::new().format(value));
    }

    fn path(&mut self, path: &[u8]) {
        if path.is_empty() {
            return;
        }
        self.plain(",\"path\":", "");
        if path.iter().all(|byte| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\') {
            self.0.push(b'"');
            self.0.extend_from_slice(path);
            self.0.push(b'"');
        } else {
            let path: Cow<'_, str> = String::from_utf8_lossy(path);
            // Writing into memory does not fail.
            let _ = path.serialize(&mut serde_json::Serializer::with_formatter(&mut *self.0, Printable));
        }
    }

    /// Milliseconds, to the nearest microsecond.
    fn duration_ms(&mut self, duration: Duration) {
        let micros = u64::try_from((duration.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
        self.number(",\"duration_ms\":", micros / 1_000);
        self.0.push(b'.');
        decimals(self.0, micros % 1_000);
    }

    fn peer(&mut self, peer: &Peer) {
        let before = ",\"peer\":\"";
        match peer {
            Peer::Unknown => return,
            Peer::Local(SocketAddr::V4(address)) => {
                let [a, b, c, d] = address.ip().octets();
                self.number(before, a.into());
                for octet in [b, c, d] {
                    self.number(".", octet.into());
                }
                self.number(":", address.port().into());
            }
            Peer::Local(address) => {
                self.plain(before, "");
                let _ = write!(self.0, "{address}");
            }
            Peer::Node(spiffe) => {
                self.plain(before, "spiffe://");
                self.plain(spiffe.trust_domain().as_str(), "/node/");
                self.plain(spiffe.node(), "");
            }
        }
        self.0.push(b'"');
    }
}

/// Three digits.
fn decimals(buffer: &mut Vec<u8>, thousandths: u64) {
    let digit = |divisor: u64| b"0123456789"[(thousandths / divisor % 10) as usize];
    buffer.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

/// Writes times as RFC 3339 in UTC with milliseconds. Most lines are of the same second as the last.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    /// A time beyond the year 9999, or before 1970, can't be written: the epoch stands for it.
    fn write(&mut self, buffer: &mut Vec<u8>, at: SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            let second = i64::try_from(since.as_secs()).ok();
            let time = second.and_then(|second| jiff::Timestamp::from_second(second).ok()).unwrap_or_default();
            self.text = time.to_string();
            // Its "Z" comes after the milliseconds.
            self.text.pop();
            self.second = since.as_secs();
        }
        buffer.extend_from_slice(self.text.as_bytes());
        buffer.push(b'.');
        decimals(buffer, since.subsec_millis().into());
        buffer.push(b'Z');
    }
}

/// Compact JSON that a terminal may show: besides what JSON asks for, DEL and the control characters from U+0080 to
/// U+009F are escaped.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, control)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::record;
    use crate::telemetry::{Hop, TraceContext};

    fn line(record: &RequestRecord) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer, &mut Clock::default(), record);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn a_line_says_all_that_is_known_of_a_request() {
        let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::parse(parent).unwrap();
        let full = RequestRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            target: Bytes::from_static(b"/cart?token=secret"),
            status: 503,
            error: Some(ErrorCode::ConnectFailed),
            attempts: 2,
            trace: Some(Hop { context, parent: None, started: false }),
            ..record()
        };
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.123Z","direction":"outbound","src":"web","dst":"orders.shop","#,
            r#""endpoint":"node-2","protocol":"http","method":"GET","path":"/cart","status":503,"#,
            r#""error":"connect-failed","bytes_in":0,"bytes_out":42,"duration_ms":1.234,"attempts":2,"#,
            r#""trace_id":"0af7651916cd43dd8448eb211c80319c","peer":"127.0.0.1:40000"}"#,
            "\n"
        );
        assert_eq!(line(&full), expected);
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let tcp = RequestRecord {
            protocol: Protocol::Tcp,
            src: None,
            endpoint: None,
            peer: Peer::Unknown,
            method: None,
            target: Bytes::new(),
            status: 0,
            ..record()
        };
        let parsed: serde_json::Value = serde_json::from_str(&line(&tcp)).unwrap();
        let names: Vec<_> = parsed.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["time", "direction", "dst", "protocol", "bytes_in", "bytes_out", "duration_ms", "attempts"].to_vec();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn callers_of_every_kind_and_times_of_every_kind_are_shown() {
        let shown = |peer: Peer, at: SystemTime, name: &str| {
            let parsed: serde_json::Value =
                serde_json::from_str(&line(&RequestRecord { at, peer, ..record() })).unwrap();
            parsed[name].as_str().map(str::to_owned)
        };
        let now = SystemTime::UNIX_EPOCH;
        assert_eq!(shown(Peer::Local("[::1]:7".parse().unwrap()), now, "peer").as_deref(), Some("[::1]:7"));
        let node = "spiffe://demo.example/node/node-2";
        assert_eq!(shown(Peer::Node(node.parse().unwrap()), now, "peer").as_deref(), Some(node));
        for (seconds, text) in
            [(86_399, "1970-01-01T23:59:59.007Z"), (253_402_300_799 + 100_000, "1970-01-01T00:00:00.007Z")]
        {
            let at = now + Duration::from_secs(seconds) + Duration::from_millis(7);
            assert_eq!(shown(Peer::Unknown, at, "time").as_deref(), Some(text));
        }
    }

    #[test]
    fn a_clock_follows_the_seconds() {
        let (mut clock, mut buffer) = (Clock::default(), Vec::new());
        for millis in [0, 999, 1_000, 61_001, 1_000] {
            clock.write(&mut buffer, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            buffer.push(b' ');
        }
        let seconds = ["00:00.000", "00:00.999", "00:01.000", "01:01.001", "00:01.000"];
        let expected: Vec<_> = seconds.iter().map(|text| format!("1970-01-01T00:{text}Z ")).collect();
        assert_eq!(String::from_utf8(buffer).unwrap(), expected.concat());
    }

    proptest! {
        #[test]
        fn whatever_a_caller_asks_for_a_record_is_one_line_of_json(target in prop::collection::vec(any::<u8>(), 0..80)) {
            let text = line(&RequestRecord { target: target.clone().into(), ..record() });
            prop_assert!(text.ends_with('\n') && text.trim_end().chars().all(|c| !c.is_control()));
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            let path = target.split(|b| *b == b'?').next().unwrap();
            prop_assert_eq!(parsed["path"].as_str().unwrap_or(""), String::from_utf8_lossy(path));
        }
    }
}
