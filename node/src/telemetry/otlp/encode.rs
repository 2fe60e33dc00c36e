use std::time::{Duration, SystemTime};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1 as resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use starling_proto::ErrorCode;

use crate::telemetry::{Direction, Hop, RequestRecord};

/// Who made the spans.
#[derive(Debug)]
pub(super) struct Resource {
    attributes: Vec<KeyValue>,
    version: String,
}

impl Resource {
    pub(super) fn new(node: &str, version: &str) -> Self {
        let attributes = vec![
            text("service.name", "starling"),
            text("service.instance.id", node),
            text("service.version", version),
            text("host.name", node),
        ];
        Self { attributes, version: version.to_owned() }
    }
}

/// The body of one export.
pub(super) fn request(resource: &Resource, records: &[RequestRecord]) -> Bytes {
    let spans = records.iter().filter_map(|record| Some(to_span(record, record.trace?))).collect();
    let scope = InstrumentationScope {
        name: "starling".to_owned(),
        version: resource.version.clone(),
        ..InstrumentationScope::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource::Resource {
                attributes: resource.attributes.clone(),
                ..resource::Resource::default()
            }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
            schema_url: String::new(),
        }],
    };
    request.encode_to_vec().into()
}

/// Names and attributes after OpenTelemetry's semantic conventions for HTTP spans.
fn to_span(record: &RequestRecord, hop: Hop) -> Span {
    let kind = match record.direction {
        Direction::Outbound => span::SpanKind::Client,
        Direction::Inbound => span::SpanKind::Server,
    };
    let start = nanos(record.at);
    let verb = record.method.as_ref().map_or("TCP", http::Method::as_str);
    let failed = record.error.is_some() || record.status >= 500;
    let status = failed.then(|| Status {
        message: record.error.map(ErrorCode::as_str).unwrap_or_default().to_owned(),
        code: StatusCode::Error.into(),
    });
    Span {
        trace_id: hop.context.trace_id().to_bytes().to_vec(),
        span_id: hop.context.span_id().to_bytes().to_vec(),
        parent_span_id: hop.parent.map(|parent| parent.to_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(hop.context.is_sampled()),
        name: format!("{verb} {}", record.dst),
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(u64::try_from(record.duration.as_nanos()).unwrap_or(u64::MAX)),
        attributes: attributes(record),
        status,
        ..Span::default()
    }
}

fn attributes(record: &RequestRecord) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("starling.destination", &record.dst.to_string()),
        text("network.protocol.name", &record.protocol.to_string()),
        number("starling.attempts", record.attempts.into()),
    ];
    if let Some(src) = &record.src {
        attributes.push(text("starling.source", &src.to_string()));
    }
    if let Some(endpoint) = &record.endpoint {
        attributes.push(text("starling.endpoint", endpoint.node()));
    }
    if let Some(method) = &record.method {
        attributes.push(text("http.request.method", method.as_str()));
    }
    if record.status != 0 {
        attributes.push(number("http.response.status_code", record.status.into()));
    }
    if let Some(error) = record.error {
        attributes.push(text("error.type", error.as_str()));
    }
    attributes
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
