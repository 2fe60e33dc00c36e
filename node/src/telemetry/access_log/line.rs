use std::fmt;
use std::io::{self, Write};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use starling_proto::{ErrorCode, Protocol, ServiceName};

use crate::telemetry::{Peer, RequestRecord, TraceId};

/// One line of the access log. The names are stable; what is not known is left out.
#[derive(Serialize)]
struct Line<'r> {
    time: Shown<Millis>,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<Shown<&'r ServiceName>>,
    dst: Shown<&'r ServiceName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'r str>,
    protocol: Shown<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'r str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    bytes_in: u64,
    bytes_out: u64,
    duration_ms: f64,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Shown<TraceId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<Shown<&'r Peer>>,
}

/// Compact JSON that a terminal may show: besides what JSON asks for, DEL and the control characters from U+0080 to
/// U+009F are escaped.
struct Printable;

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, control)) = rest.char_indices().find(|(_, c)| c.is_control()) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Serializes as what it displays, without a string between.
struct Shown<T>(T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// RFC 3339 in UTC with milliseconds.
struct Millis(jiff::Timestamp);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl From<SystemTime> for Millis {
    /// A time beyond the year 9999 can't be written: the epoch stands for it.
    fn from(time: SystemTime) -> Self {
        Self(jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(address) => address.fmt(f),
            Self::Node(spiffe) => spiffe.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Appends a record as one line. The query of a target is left out: it may hold what does not belong into a log.
pub(super) fn write(buffer: &mut Vec<u8>, record: &RequestRecord) {
    let path = record.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let path = String::from_utf8_lossy(path);
    let line = Line {
        time: Shown(record.at.into()),
        direction: record.direction.as_str(),
        src: record.src.as_ref().map(Shown),
        dst: Shown(&record.dst),
        endpoint: record.endpoint.as_ref().map(starling_proto::SpiffeId::node),
        protocol: Shown(record.protocol),
        method: record.method.as_ref().map(http::Method::as_str),
        path: &path,
        status: (record.status != 0).then_some(record.status),
        error: record.error.map(ErrorCode::as_str),
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        duration_ms: (record.duration.as_secs_f64() * 1e6).round() / 1e3,
        attempts: record.attempts,
        trace_id: record.trace.map(|hop| Shown(hop.context.trace_id())),
        peer: (record.peer != Peer::Unknown).then_some(Shown(&record.peer)),
    };
    // Writing plain data into memory does not fail.
    let _ = line.serialize(&mut serde_json::Serializer::with_formatter(&mut *buffer, Printable));
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::record;
    use crate::telemetry::{Hop, TraceContext};

    fn line(record: &RequestRecord) -> String {
        let mut buffer = Vec::new();
        write(&mut buffer, record);
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
