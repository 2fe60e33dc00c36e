//! A ready connection to the endpoint that was chosen.

use std::time::Instant;

use starling_proto::{Endpoint, ErrorCode};
use starling_routing::{Cluster, Deadline, Outcome, Pick, Tries};
use starling_transport::{ConnectError, Connection, Target};

use crate::failure::Failure;
use crate::shard::Shard;

/// Chooses an endpoint. One whose connection is silent, or whose node could not be reached just now, is left out while
/// there are others.
pub(super) fn pick(shard: &Shard, cluster: &Cluster, tries: &Tries) -> Result<Pick, Failure> {
    let avoid = |endpoint: &Endpoint| shard.pool.is_unusable(&endpoint.spiffe);
    let picked = cluster.pick(tries.exclude(), avoid, &mut shard.rng(), Instant::now());
    picked.map_err(|error| Failure::new(error.code(), error.to_string()))
}

/// The connection of this shard to the chosen endpoint's node, dialed if there is none. Its certificate must name the
/// service.
pub(super) async fn connect(
    shard: &Shard,
    cluster: &Cluster,
    tries: &Tries,
    deadline: Deadline,
    endpoint: &Endpoint,
) -> Result<Connection, Failure> {
    let target = Target { spiffe: endpoint.spiffe.clone(), address: endpoint.address };
    let connected = if let Some(connected) = shard.pool.try_connection(&target) {
        connected
    } else {
        let wait = deadline.connect_wait(tries.has_elsewhere(&endpoint.key, cluster), Instant::now());
        let connecting = tokio::time::timeout(wait, shard.pool.connection(&target));
        Box::pin(connecting).await.unwrap_or(Err(ConnectError::Timeout(wait)))
    };
    let connection = connected.map_err(|error| Failure::from(&error))?;
    if connection.peer().may_run(&endpoint.key.service) {
        return Ok(connection);
    }
    let detail = format!("the certificate of {} does not name {}", endpoint.spiffe, endpoint.key.service);
    // Not `refused`: that is the last word, and somebody who claims a service must not keep others from serving it.
    Err(Failure::new(ErrorCode::ConnectFailed, detail))
}

/// What a far node said in place of an answer. One that drains is asked no more, long before gossip tells of it.
pub(super) fn refused(connection: &Connection, word: &str, detail: String) -> Failure {
    let failure = Failure::told(word, detail);
    if failure.code == ErrorCode::Draining {
        connection.on_leaving();
    }
    failure
}

/// Says what became of a try that failed.
pub(super) fn failed(pick: Pick, failure: &Failure) {
    pick.finish(Outcome::of_error(failure.code), Instant::now());
}
