use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};

use super::{Node, complain};
use crate::admin::KeyringError;

/// A change has less than a kilobyte.
const CHANGE_MAX: usize = 16 << 10;

/// Who has which group keys: no secret.
pub(super) fn list() -> MethodRouter<Node> {
    get(|State(node): State<Node>| async move {
        match node.keyring().await {
            Ok(report) => Json(report).into_response(),
            Err(error) => refused(&error),
        }
    })
}

/// Brings a change of the group keys, an encoded `mesh.v1.KeyringState`; answered with who has which then.
pub(super) fn change() -> MethodRouter<Node> {
    let change = post(|State(node): State<Node>, state: Bytes| async move {
        let changed = node.change_keyring(state).await;
        match changed {
            Ok(report) => Json(report).into_response(),
            Err(error) => refused(&error),
        }
    });
    change.layer(DefaultBodyLimit::max(CHANGE_MAX))
}

fn refused(error: &KeyringError) -> Response {
    let (status, hint) = match error {
        KeyringError::Malformed => {
            (StatusCode::BAD_REQUEST, "`starling keyring install --out FILE` writes such a file")
        }
        KeyringError::Refused(_) => {
            (StatusCode::FORBIDDEN, "is this the authority that the node's identity came from? see its admin.pub")
        }
        KeyringError::Stale(_) => {
            (StatusCode::CONFLICT, "another change was made meanwhile: look at `starling keyring list`, then try again")
        }
        KeyringError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, ""),
    };
    complain(status, error.to_string(), hint)
}
