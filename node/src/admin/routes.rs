use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use starling_proto::ServiceName;
use tokio::sync::Semaphore;

use super::{Complaint, Source};

/// Who may come in by a listener, and so what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Whoever may open the file.
    File,
    /// Programs of this host.
    Loopback,
    /// Anyone: only what monitoring needs.
    Open,
}

type Node = Arc<dyn Source>;

/// Answers one request at a time, together with all that share `turns`.
pub(super) fn router(source: Node, reach: Reach, turns: Arc<Semaphore>) -> Router {
    let monitoring =
        Router::new().route("/metrics", get(metrics)).route("/live", get(live)).route("/ready", get(ready));
    let api = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/members", get(|State(node): State<Node>| async move { Json(node.members()) }))
        .route("/v1/services", get(|State(node): State<Node>| async move { Json(node.services()) }))
        .route("/v1/stat", get(|State(node): State<Node>| async move { Json(node.routes()) }))
        .route("/v1/endpoints/{service}", get(endpoints));
    let routes = match reach {
        Reach::File => monitoring.merge(api),
        Reach::Loopback => monitoring.merge(api.layer(middleware::from_fn(local_names_only))),
        Reach::Open => monitoring.merge(api.layer(middleware::from_fn(not_from_here))),
    };
    let routes = routes.fallback(not_found).method_not_allowed_fallback(not_allowed).with_state(source);
    routes.layer(middleware::from_fn_with_state(turns, in_turn))
}

/// Gossip runs on the same thread: however much is asked here, it has its turn after each answer, or the others would take
/// this node for dead.
async fn in_turn(State(turns): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let turn = turns.acquire().await;
    let response = next.run(request).await;
    tokio::task::yield_now().await;
    drop(turn);
    response
}

fn complain(status: StatusCode, error: impl Into<String>, hint: impl Into<String>) -> Response {
    (status, Json(Complaint { error: error.into(), hint: hint.into() })).into_response()
}

async fn metrics(State(node): State<Node>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], node.metrics())
}

async fn live(State(node): State<Node>) -> Response {
    probe(node.live(), "live")
}

async fn ready(State(node): State<Node>) -> Response {
    probe(node.ready(), "ready")
}

fn probe(result: Result<(), String>, word: &str) -> Response {
    match result {
        Ok(()) => format!("{word}\n").into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not {word}: {why}\n")).into_response(),
    }
}

async fn status(State(node): State<Node>) -> impl IntoResponse {
    let mut report = node.status();
    report.not_ready = node.ready().err();
    Json(report)
}

async fn endpoints(State(node): State<Node>, Path(service): Path<String>) -> Response {
    let name: ServiceName = match service.parse() {
        Ok(name) => name,
        Err(error) => return complain(StatusCode::BAD_REQUEST, format!("{error}"), ""),
    };
    match node.endpoints(&name) {
        Some(endpoints) => Json(endpoints).into_response(),
        None => complain(
            StatusCode::NOT_FOUND,
            format!("nobody offers '{name}'"),
            "`starling services` lists what is offered",
        ),
    }
}

async fn not_found(uri: Uri) -> Response {
    let hint = "known: /metrics /live /ready /v1/status /v1/members /v1/services /v1/endpoints/SERVICE /v1/stat";
    complain(StatusCode::NOT_FOUND, format!("nothing is at {}", uri.path()), hint)
}

async fn not_allowed() -> Response {
    complain(StatusCode::METHOD_NOT_ALLOWED, "this can only be read", "use GET")
}

/// A page in a browser of this host can reach loopback through a name of its own choice (DNS rebinding).
async fn local_names_only(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    if name == "localhost" || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        next.run(request).await
    } else {
        complain(StatusCode::FORBIDDEN, "asked for by a foreign name", "use 127.0.0.1 or localhost in the address")
    }
}

async fn not_from_here(_: Request, _: Next) -> Response {
    let hint = "ask over the unix socket, or set admin.listen to a loopback address";
    complain(StatusCode::FORBIDDEN, "only /metrics, /live and /ready are served beyond loopback", hint)
}
