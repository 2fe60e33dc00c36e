mod keyring;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use starling_proto::ServiceName;
use tokio::sync::Semaphore;

use super::{Complaint, DismissError, Source};

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

/// Answers one request at a time, together with all that share `turns`; apart from these one check at a time, together
/// with all that share `checks`.
pub(super) fn router(source: Node, reach: Reach, turns: Arc<Semaphore>, checks: Arc<Semaphore>) -> Router {
    let monitoring =
        Router::new().route("/metrics", get(metrics)).route("/live", get(live)).route("/ready", get(ready));
    let api = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/members", get(|State(node): State<Node>| async move { Json(node.members()) }))
        .route("/v1/services", get(|State(node): State<Node>| async move { Json(node.services()) }))
        .route("/v1/stat", get(|State(node): State<Node>| async move { Json(node.routes()) }))
        .route("/v1/keyring", keyring::list())
        .route("/v1/endpoints/{service}", get(endpoints));
    // These wait, for other nodes or for a change: the others do not wait for them.
    let watch = {
        let turns = Arc::clone(&turns);
        move |State(node): State<Node>, Query(Watch { after }): Query<Watch>| watch(node, after, turns)
    };
    let slow = Router::new().route("/v1/check", get(check)).layer(middleware::from_fn_with_state(checks, in_turn));
    let slow = slow.route("/v1/members/watch", get(watch));
    let deeds =
        Router::new().route("/v1/force-leave/{member}", post(force_leave)).route("/v1/keyring", keyring::change());
    let quick = middleware::from_fn_with_state(turns, in_turn);
    let (routes, slow) = match reach {
        Reach::File => (monitoring.merge(api).merge(deeds), slow),
        Reach::Loopback => {
            let local = || middleware::from_fn(local_names_only);
            (monitoring.merge(api.layer(local())), slow.layer(local()))
        }
        Reach::Open => {
            let elsewhere = || middleware::from_fn(not_from_here);
            (monitoring.merge(api.layer(elsewhere())), slow.layer(elsewhere()))
        }
    };
    let routes = routes.fallback(not_found).method_not_allowed_fallback(not_allowed).layer(quick);
    routes.merge(slow).with_state(source)
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

async fn check(State(node): State<Node>) -> impl IntoResponse {
    Json(node.check().await)
}

/// What whoever watches the members knows already.
#[derive(Debug, Deserialize)]
struct Watch {
    after: Option<u64>,
}

async fn watch(node: Node, after: Option<u64>, turns: Arc<Semaphore>) -> impl IntoResponse {
    let members = node.members_after(after).await;
    let _turn = turns.acquire().await;
    Json(members)
}

/// How a member is to be dismissed.
#[derive(Debug, Deserialize)]
struct ForceLeave {
    #[serde(default)]
    prune: bool,
}

async fn force_leave(State(node): State<Node>, Path(member): Path<String>, Query(how): Query<ForceLeave>) -> Response {
    let error = match node.force_leave(&member, how.prune).await {
        Ok(report) => return Json(report).into_response(),
        Err(error) => error,
    };
    let (status, hint) = match &error {
        DismissError::Unknown(_) => (StatusCode::NOT_FOUND, "`starling members` lists who is known"),
        DismissError::Up { .. } => (
            StatusCode::CONFLICT,
            "stop its agent, which then leaves by itself; if its host died, wait until it is down",
        ),
        DismissError::Ambiguous { .. } => (StatusCode::CONFLICT, "name it by its id: `starling members -o wide`"),
        DismissError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, ""),
    };
    complain(status, error.to_string(), hint)
}

async fn not_found(uri: Uri) -> Response {
    let hint = "known: /metrics /live /ready /v1/status /v1/members /v1/services /v1/endpoints/SERVICE /v1/stat /v1/keyring /v1/check";
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
