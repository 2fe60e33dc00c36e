//! What went through stands in the access logs and metrics of both nodes.

use serde_json::Value;

use crate::backend::{Backend, full, nobody};
use crate::caller::{call, get, post, with};
use crate::hosts::{Running, World, eventually};

fn lines(node: &Running) -> Vec<Value> {
    let text = std::fs::read_to_string(node.place().dir.join("access.log")).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

async fn logged(node: &Running, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines"), || lines(node).len() >= count).await;
    let lines = lines(node);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[tokio::test]
async fn a_request_stands_in_both_access_logs_with_all_fields() {
    let backend = Backend::http(|_| http::Response::new(full("a long answer"))).await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").offers("web", backend.address).reaches("orders").start();
    web.finds("orders", 1).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-00");
    call(web.way("orders"), with(post("/cart?token=secret", "12345"), &[("traceparent", &parent)])).await;
    let (out, into) = (logged(&web, 1).await.remove(0), logged(&orders, 1).await.remove(0));
    for (line, direction) in [(&out, "outbound"), (&into, "inbound")] {
        for (name, value) in [
            ("direction", Value::from(direction)),
            ("src", "web".into()),
            ("dst", "orders".into()),
            ("endpoint", "orders-1".into()),
            ("protocol", "http".into()),
            ("method", "POST".into()),
            ("path", "/cart".into()),
            ("status", 200.into()),
            ("bytes_in", 5.into()),
            ("bytes_out", 13.into()),
            ("attempts", 1.into()),
            ("trace_id", trace.into()),
        ] {
            assert_eq!(line[name], value, "{name} of {line}");
        }
        assert!(line.get("error").is_none() && line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert!(out["peer"].as_str().unwrap().starts_with("127."), "{out}");
    assert_eq!(into["peer"], "spiffe://demo.example/node/web-1");
}

#[tokio::test]
async fn a_failure_stands_in_the_access_log_with_its_word() {
    let world = World::new();
    let _orders = world.node("orders-1").offers("orders", nobody().await).start();
    let web = world.node("web-1").reaches("orders").reaches("nothing").start();
    web.finds("orders", 1).await;
    call(web.way("orders"), get("/")).await;
    call(web.way("nothing"), get("/")).await;
    let lines = logged(&web, 2).await;
    let told: Vec<_> = lines.iter().map(|line| (&line["dst"], &line["status"], &line["error"])).collect();
    let word = |dst: &str, error: &str| (Value::from(dst), Value::from(503), Value::from(error));
    let expected = [word("orders", "upstream-connect"), word("nothing", "no-such-service")];
    assert_eq!(told, expected.iter().map(|(dst, status, error)| (dst, status, error)).collect::<Vec<_>>());
    assert!(lines[0]["attempts"].as_u64().unwrap() > 1 && lines[1]["attempts"] == 0, "{lines:#?}");
}

#[tokio::test]
async fn requests_are_counted_on_both_sides_of_their_route() {
    let backend = Backend::says("ok").await;
    let world = World::new();
    let orders = world.node("orders-1").offers("orders", backend.address).start();
    let web = world.node("web-1").offers("web", backend.address).reaches("orders").start();
    web.finds("orders", 1).await;
    for _ in 0..7 {
        call(web.way("orders"), get("/")).await;
    }
    for (node, direction) in [(&web, "outbound"), (&orders, "inbound")] {
        let direction = format!("direction=\"{direction}\"");
        let labels =
            [&direction, "src=\"web\"", "dst=\"orders\"", "method=\"GET\"", "status_class=\"2xx\"", "tls=\"true\""];
        eventually("seven requests", || node.metric("starling_requests_total", &labels) == 7).await;
        let labels = [&direction[..], "src=\"web\"", "dst=\"orders\""];
        assert_eq!(node.metric("starling_request_duration_seconds_count", &labels), 7);
    }
}
