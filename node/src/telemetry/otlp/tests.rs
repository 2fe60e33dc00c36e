use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use starling_proto::ErrorCode;
use tokio::net::TcpListener;

use super::*;
use crate::telemetry::testing::record;
use crate::telemetry::{Direction, Hop, Sampler, TraceContext};

const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn sampled() -> RequestRecord {
    let mut rng = <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(1);
    let hop = Hop::of_request(Some(PARENT), Sampler::of_share(0.0), &mut rng);
    RequestRecord { trace: Some(hop), ..record() }
}

/// A collector that answers every request with `status` and hands what it was sent to the test.
async fn collector(status: StatusCode) -> (Uri, mpsc::Receiver<(http::request::Parts, ExportTraceServiceRequest)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, received) = mpsc::channel(10);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    sender.send((parts, ExportTraceServiceRequest::decode(body).unwrap())).await.unwrap();
                    let mut answer = Response::new(String::new());
                    *answer.status_mut() = status;
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (format!("http://{address}").parse().unwrap(), received)
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> &'a Value {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()).unwrap_or_else(|| panic!("no {key}"))
}

#[tokio::test]
async fn a_collector_gets_the_spans_of_sampled_requests() {
    let (uri, mut received) = collector(StatusCode::OK).await;
    let (sender, exporter) = exporter(&uri, "node-1", "0.1.0").unwrap();
    let failed = RequestRecord {
        direction: Direction::Inbound,
        status: 503,
        error: Some(ErrorCode::UpstreamConnect),
        ..sampled()
    };
    sender.send(sampled());
    sender.send(failed);
    let counts = sender.clone();
    drop(sender);
    let running = tokio::spawn(exporter.run());
    let counting = counts.counts.clone();
    drop(counts);
    let (parts, mut request) = received.recv().await.unwrap();
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(parts.headers["content-type"], "application/x-protobuf");
    let mut of_node = request.resource_spans.remove(0);
    let resource = of_node.resource.unwrap().attributes;
    assert_eq!(find(&resource, "service.instance.id"), &Value::StringValue("node-1".to_owned()));
    let spans = of_node.scope_spans.remove(0).spans;
    let [client, server] = &spans[..] else { panic!("{} spans", spans.len()) };
    let came = TraceContext::parse(PARENT).unwrap();
    assert_eq!(client.trace_id, came.trace_id().to_bytes());
    assert_eq!(client.parent_span_id, came.span_id().to_bytes());
    assert_eq!((client.name.as_str(), client.kind, client.status.is_none()), ("GET orders.shop", 3, true));
    assert_eq!(client.end_time_unix_nano - client.start_time_unix_nano, 1_234_400);
    assert_eq!(find(&client.attributes, "http.response.status_code"), &Value::IntValue(200));
    assert_eq!(find(&client.attributes, "starling.source"), &Value::StringValue("web".to_owned()));
    assert_eq!((server.kind, server.status.as_ref().unwrap().code), (2, 2));
    assert_eq!(find(&server.attributes, "error.type"), &Value::StringValue("upstream-connect".to_owned()));
    running.await.unwrap();
    assert_eq!(counting.exported.load(Relaxed), 2);
}

#[tokio::test]
async fn spans_that_a_collector_refuses_are_dropped_and_counted() {
    let (uri, mut received) = collector(StatusCode::SERVICE_UNAVAILABLE).await;
    let (sender, exporter) = exporter(&uri, "node-1", "0.1.0").unwrap();
    let counts = sender.counts.clone();
    sender.send(sampled());
    drop(sender);
    exporter.run().await;
    assert!(received.recv().await.is_some());
    assert_eq!((counts.exported.load(Relaxed), counts.dropped_collector.load(Relaxed)), (0, 1));
}

#[tokio::test]
async fn while_the_collector_is_away_spans_are_dropped_and_counted() {
    // A port that nobody listens on: it was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (sender, exporter) = exporter(&format!("http://{free}").parse().unwrap(), "node-1", "0.1.0").unwrap();
    (0..QUEUE + 10).for_each(|_| sender.send(sampled()));
    assert_eq!(sender.counts(), (0, 10, 0));
    let counts = sender.counts.clone();
    drop(sender);
    exporter.run().await;
    assert_eq!(counts.dropped_collector.load(Relaxed), QUEUE as u64);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_what_came_in_five_seconds_and_at_most_512() {
    let (sender, mut queue) = mpsc::channel(QUEUE);
    let began = Instant::now();
    for _ in 0..=BATCH {
        sender.send(sampled()).await.unwrap();
    }
    assert_eq!(next_batch(&mut queue).await.unwrap().len(), BATCH);
    assert_eq!(began.elapsed(), Duration::ZERO, "a full batch waits for nothing");
    assert_eq!(next_batch(&mut queue).await.unwrap().len(), 1);
    assert_eq!(began.elapsed(), BATCH_DELAY);
    sender.send(sampled()).await.unwrap();
    drop(sender);
    assert_eq!(next_batch(&mut queue).await.unwrap().len(), 1);
    assert_eq!(began.elapsed(), BATCH_DELAY, "nothing more can come");
    assert!(next_batch(&mut queue).await.is_none());
}
