use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::latency::{BOUNDS, upper_edge};
use super::route::Route;

/// A time series that nobody feeds for so long is no longer shown, until somebody does.
const IDLE_TIMEOUT: Duration = Duration::from_hours(1);

/// The metrics of one node in Prometheus' text format. Each node of a process has a recorder of its own: no global one
/// is installed.
///
/// A handle of the exporter that is kept over [`IDLE_TIMEOUT`] without use counts into the void, since the exporter has
/// let go of its series. So none is kept: what the request path counts lies in atomics of [`Route`] and is published
/// by [`Exposition::render`], which looks every series up anew.
#[derive(Debug)]
pub(crate) struct Exposition {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Exposition {
    pub(crate) fn try_new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&BOUNDS.map(seconds))?
            .idle_timeout(metrics_util::MetricKindMask::ALL, Some(IDLE_TIMEOUT))
            .build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        Ok(Self { handle: recorder.handle(), recorder })
    }

    /// Runs `record` with this node's recorder: for what is rare enough to be looked up each time.
    pub(crate) fn with<T>(&self, record: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, record)
    }

    /// What the exporter needs done every few seconds.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// All metrics, with the routes' counters of this moment. `others` publishes what else there is.
    pub(crate) fn render(&self, routes: &[Arc<Route>], others: impl FnOnce()) -> String {
        self.with(|| {
            for route in routes {
                publish(route);
            }
            others();
        });
        let mut text = self.handle.render();
        durations(&mut text, routes);
        text
    }
}

fn seconds(micros: u32) -> f64 {
    f64::from(micros) / 1e6
}

fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!("starling_requests_total", "Requests that were answered.");
    describe_counter!("starling_retries_total", "Tries beyond the first.");
    describe_counter!("starling_tcp_connections_total", "TCP connections that were opened.");
    describe_gauge!("starling_tcp_open_connections", "TCP connections open now.");
    describe_counter!("starling_tcp_read_bytes_total", "Bytes read from applications over TCP.");
    describe_counter!("starling_tcp_write_bytes_total", "Bytes written to applications over TCP.");
    describe_gauge!("starling_retry_budget_remaining", "Retries that the budget of a service allows now.");
    describe_gauge!("starling_members", "Members of the mesh by state.");
    describe_gauge!("starling_build_info", "1, with the version as a label.");
    describe_counter!("starling_refused_total", "Streams that were refused or malformed, by reason.");
    describe_counter!("starling_access_log_lines_total", "Access log lines written.");
    describe_counter!("starling_access_log_dropped_total", "Access log lines lost, by reason.");
    describe_counter!("starling_spans_exported_total", "Spans that a collector took.");
    describe_counter!("starling_spans_dropped_total", "Spans lost, by reason.");
}

fn publish(route: &Route) {
    let key = route.key();
    let (direction, src, dst) = (key.direction.as_str(), key.src_label(), key.dst_label());
    for request in route.requests() {
        counter!("starling_requests_total", "direction" => direction, "src" => src.clone(), "dst" => dst.clone(),
            "route" => "default", "method" => request.method, "status_class" => request.status_class,
            "tls" => if request.tls { "true" } else { "false" })
        .absolute(request.count);
    }
    let labels = [("direction", direction.to_owned()), ("src", src), ("dst", dst)];
    if route.latency().sum_nanos() > 0 {
        counter!("starling_retries_total", &labels).absolute(route.retries());
    }
    let tcp = route.tcp();
    if tcp.connections > 0 {
        counter!("starling_tcp_connections_total", &labels).absolute(tcp.connections);
        #[allow(clippy::cast_precision_loss)]
        gauge!("starling_tcp_open_connections", &labels).set(tcp.open as f64);
        counter!("starling_tcp_read_bytes_total", &labels).absolute(tcp.read_bytes);
        counter!("starling_tcp_write_bytes_total", &labels).absolute(tcp.write_bytes);
    }
}

/// `starling_request_duration_seconds`, which the exporter does not see: it would keep every sample with its time until
/// the next upkeep, where a route has counted it into the right bucket already.
fn durations(text: &mut String, routes: &[Arc<Route>]) {
    const NAME: &str = "starling_request_duration_seconds";
    let mut described = false;
    for route in routes.iter().filter(|route| route.latency().sum_nanos() > 0) {
        if !described {
            _ = writeln!(text, "# HELP {NAME} Time from a request to the end of its answer.\n# TYPE {NAME} histogram");
            described = true;
        }
        let key = route.key();
        // Service names are DNS labels: nothing in them needs escaping.
        let labels =
            format!("direction=\"{}\",src=\"{}\",dst=\"{}\"", key.direction.as_str(), key.src_label(), key.dst_label());
        let counts = route.latency().counts();
        #[allow(clippy::cast_precision_loss)]
        let sum = route.latency().sum_nanos() as f64 / 1e9;
        let mut buckets = counts.iter().enumerate().peekable();
        let mut seen = 0;
        for bound in BOUNDS {
            let edge = u64::from(bound) * 1_000;
            while let Some((_, count)) = buckets.next_if(|(at, _)| upper_edge(*at) <= edge) {
                seen += count;
            }
            let bound = seconds(bound);
            _ = writeln!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {seen}");
        }
        let total: u64 = counts.iter().sum();
        _ = writeln!(text, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {total}");
        _ = writeln!(text, "{NAME}_sum{{{labels}}} {sum}\n{NAME}_count{{{labels}}} {total}");
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::telemetry::{Direction, RouteKey};

    fn route(src: &str, dst: &str) -> Arc<Route> {
        Arc::new(Route::new(RouteKey { direction: Direction::Outbound, src: src.parse().ok(), dst: dst.parse().ok() }))
    }

    #[test]
    fn requests_stand_there_with_all_their_labels() {
        let (metrics, route) = (Exposition::try_new().unwrap(), route("web", "orders.shop"));
        (0..3).for_each(|_| route.on_request(&Method::GET, 200, true, Duration::from_millis(2)));
        route.on_request(&Method::POST, 503, false, Duration::from_millis(700));
        route.on_retries(2);
        let text =
            metrics.render(std::slice::from_ref(&route), || gauge!("starling_members", "state" => "alive").set(3.0));
        for line in [
            "starling_requests_total{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",route=\"default\",method=\"GET\",status_class=\"2xx\",tls=\"true\"} 3",
            "starling_requests_total{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",route=\"default\",method=\"POST\",status_class=\"5xx\",tls=\"false\"} 1",
            "starling_retries_total{direction=\"outbound\",src=\"web\",dst=\"orders.shop\"} 2",
            "starling_request_duration_seconds_bucket{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",le=\"0.001\"} 0",
            "starling_request_duration_seconds_bucket{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",le=\"0.0025\"} 3",
            "starling_request_duration_seconds_bucket{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",le=\"1\"} 4",
            "starling_request_duration_seconds_bucket{direction=\"outbound\",src=\"web\",dst=\"orders.shop\",le=\"+Inf\"} 4",
            "starling_request_duration_seconds_sum{direction=\"outbound\",src=\"web\",dst=\"orders.shop\"} 0.706",
            "starling_request_duration_seconds_count{direction=\"outbound\",src=\"web\",dst=\"orders.shop\"} 4",
            "starling_members{state=\"alive\"} 3",
            "# TYPE starling_requests_total counter",
            "# TYPE starling_request_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn a_counter_is_shown_as_it_stands_however_often_it_is_asked_for() {
        let (metrics, route) = (Exposition::try_new().unwrap(), route("web", "orders"));
        for n in 1..4 {
            route.on_request(&Method::GET, 200, true, Duration::from_millis(2));
            metrics.upkeep();
            let text = metrics.render(std::slice::from_ref(&route), || {});
            assert!(text.contains(&format!("tls=\"true\"}} {n}\n")), "{text}");
        }
    }

    #[test]
    fn nodes_of_one_process_do_not_see_each_other_s_metrics() {
        let [a, b] = [(); 2].map(|()| Exposition::try_new().unwrap());
        a.with(|| counter!("starling_test_total").increment(1));
        assert!(a.render(&[], || {}).contains("starling_test_total 1"));
        assert!(!b.render(&[], || {}).contains("starling_test_total"));
    }

    #[test]
    fn open_connections_and_their_bytes_are_shown() {
        let (metrics, route) = (Exposition::try_new().unwrap(), route("web", "db"));
        route.on_open();
        route.on_open();
        route.on_bytes(10, 2_000);
        route.on_close();
        let text = metrics.render(std::slice::from_ref(&route), || {});
        for (name, value) in
            [("open_connections", 1), ("read_bytes_total", 10), ("write_bytes_total", 2_000), ("connections_total", 2)]
        {
            let line = format!("starling_tcp_{name}{{direction=\"outbound\",src=\"web\",dst=\"db\"}} {value}");
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
    }
}
