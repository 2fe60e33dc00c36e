use std::time::Duration;

use starling_proto::Protocol;

use super::testing::record;
use super::*;

const SETTINGS: config::Telemetry = config::Telemetry { otlp: None, sampling: 0.01 };

fn telemetry(log: Option<&config::AccessLog>) -> Telemetry {
    Telemetry::try_new("node-1", log, &SETTINGS, Instant::now()).unwrap().0
}

#[test]
fn one_record_becomes_metrics_a_log_line_and_stats() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let began = Instant::now();
    let telemetry = telemetry(Some(&config::AccessLog::File(path.clone())));
    telemetry.on_request(&RequestRecord { attempts: 2, ..record() });
    telemetry.tick(began + Duration::from_secs(1));
    let text = telemetry.render();
    let labels = "{direction=\"outbound\",src=\"web\",dst=\"orders.shop\"";
    for line in [
        format!(
            "starling_requests_total{labels},route=\"default\",method=\"GET\",status_class=\"2xx\",tls=\"true\"}} 1"
        ),
        format!("starling_retries_total{labels}}} 1"),
        format!("starling_request_duration_seconds_count{labels}}} 1"),
        format!("starling_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
    let stats = telemetry.stats();
    assert_eq!((stats.len(), stats[0].last_10s.requests, stats[0].retries), (1, 1, 1));
    drop(telemetry);
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 1);
}

#[test]
fn a_connection_counts_as_open_until_it_is_dropped() {
    let telemetry = telemetry(None);
    let db = "db".parse().unwrap();
    let open = telemetry.on_tcp(Direction::Inbound, None, &db);
    open.on_bytes(5, 7);
    let tcp = |telemetry: &Telemetry| (telemetry.stats()[0].tcp_open, telemetry.stats()[0].tcp_read_bytes);
    assert_eq!(tcp(&telemetry), (1, 5));
    drop(open);
    telemetry.on_request(&RequestRecord {
        direction: Direction::Inbound,
        protocol: Protocol::Tcp,
        src: None,
        dst: db,
        method: None,
        status: 0,
        ..record()
    });
    assert_eq!(tcp(&telemetry), (0, 5));
    assert!(!telemetry.render().contains("starling_requests_total{"), "a connection is no request");
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let telemetry = telemetry(None);
    telemetry.on_refused(ErrorCode::Refused);
    telemetry.on_refused(ErrorCode::HopProtocol);
    telemetry.on_refused(ErrorCode::Refused);
    telemetry.on_rejected(crate::rejected::Rejected::BareLineFeed);
    let text = telemetry.render();
    for line in [
        "starling_refused_total{reason=\"refused\"} 2",
        "starling_refused_total{reason=\"hop-protocol\"} 1",
        "starling_bad_requests_total{reason=\"bare-line-feed\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn others_publish_when_somebody_asks() {
    let telemetry = telemetry(None);
    telemetry.on_render(|| gauge!("starling_members", "state" => "alive").set(5.0));
    telemetry.with(|| counter!("starling_gossip_rejected_total", "reason" => "replay").increment(3));
    let text = telemetry.render();
    assert!(text.contains("starling_members{state=\"alive\"} 5"), "{text}");
    assert!(text.contains("starling_gossip_rejected_total{reason=\"replay\"} 3"), "{text}");
}

#[tokio::test]
async fn only_sampled_requests_become_spans() {
    let collector = Some("http://127.0.0.1:9".parse().unwrap());
    let settings = config::Telemetry { otlp: collector, sampling: 0.0 };
    let (telemetry, exporter) = Telemetry::try_new("node-1", None, &settings, Instant::now()).unwrap();
    let exporter = exporter.expect("a collector is configured");
    let mut rng = <rand::rngs::SmallRng as rand::SeedableRng>::seed_from_u64(1);
    let mut hop = |incoming| Some(Hop::of_request(incoming, telemetry.sampler(), &mut rng));
    let sampled = hop(Some(&b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"[..]));
    for trace in [None, hop(None), sampled] {
        telemetry.on_request(&RequestRecord { trace, ..record() });
    }
    assert_eq!(exporter.waiting(), 1);
}

#[test]
fn a_collector_that_is_none_is_an_error_at_the_start() {
    let settings = config::Telemetry { otlp: Some("https://collector:4318".parse().unwrap()), sampling: 0.0 };
    let error = Telemetry::try_new("node-1", None, &settings, Instant::now()).unwrap_err();
    assert_eq!(error.to_string(), "the collector: 'https://collector:4318/' is not plain HTTP: write http://host:4318");
}
