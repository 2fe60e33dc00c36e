//! What peers ask of this node, on connections of either side.

use std::sync::Arc;
use std::time::Duration;

use starling_gossip::catalog::wire;
use starling_proto::mesh::v1::{self, control_push, control_request, control_response};
use starling_proto::{ErrorCode, NodeId};
use starling_transport::{Connection, RecvHalf, SendHalf, StreamError};
use tokio::sync::{Semaphore, oneshot};

use super::ask::MAX_ANSWER;
use super::{ANSWERS_EACH, AskError, Peers, TAKES_EACH};
use crate::mesh::catalog::Incoming;
use crate::mesh::counters::add;
use crate::mesh::driver::Job;

/// A control stream ends after this, whatever its peer does.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that a push may have, in bytes: a chitchat message and its field's head.
const MAX_PUSH: usize = wire::MAX_MESSAGE + 16;
/// Nodes asked for in one `Resolve`.
const MAX_RESOLVE: usize = 512;

impl Peers {
    /// Serves a peer's streams for as long as the connection lives.
    pub(in crate::mesh) fn serve(self: &Arc<Self>, connection: Connection) {
        let peer = connection.peer().spiffe.clone();
        if !self.count_in(&peer) {
            self.counters.refuse("control", "too-many-connections", &peer);
            connection.close(ErrorCode::Overloaded, "too many control connections");
            return;
        }
        self.adopt(&connection);
        let peers = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::select! {
                () = peers.accept(&connection) => {}
                () = peers.stop.cancelled() => {}
            }
            peers.discard(&connection);
            peers.count_out(&peer);
        });
    }

    async fn accept(self: &Arc<Self>, connection: &Connection) {
        tokio::select! {
            () = self.accept_requests(connection) => {}
            () = self.accept_pushes(connection) => {}
        }
    }

    // Waiting for a permit leaves the peer's other streams unread: it feels the bounds as back-pressure.

    async fn accept_requests(self: &Arc<Self>, connection: &Connection) {
        let own = Arc::new(Semaphore::new(ANSWERS_EACH));
        loop {
            let Ok(permit) = Arc::clone(&own).acquire_owned().await else { return };
            let Some((send, recv)) = connection.accept().await else { return };
            let (peers, from) = (Arc::clone(self), connection.clone());
            self.runtime.spawn(async move {
                let Ok(_all) = peers.answers.acquire().await else { return };
                peers.touch(&from);
                peers.bounded(peers.answer(&from, send, recv)).await;
                drop(permit);
            });
        }
    }

    async fn accept_pushes(self: &Arc<Self>, connection: &Connection) {
        let own = Arc::new(Semaphore::new(TAKES_EACH));
        loop {
            let Ok(permit) = Arc::clone(&own).acquire_owned().await else { return };
            let Some(recv) = connection.accept_uni().await else { return };
            let (peers, from) = (Arc::clone(self), connection.clone());
            self.runtime.spawn(async move {
                let Ok(_all) = peers.takes.acquire().await else { return };
                peers.touch(&from);
                peers.bounded(peers.take(&from, recv)).await;
                drop(permit);
            });
        }
    }

    async fn bounded(&self, stream: impl Future<Output = Result<(), AskError>>) {
        let well = tokio::time::timeout(STREAM_TIMEOUT, stream).await.is_ok_and(|outcome| outcome.is_ok());
        add(if well { &self.counters.control_requests } else { &self.counters.control_failed });
    }

    async fn answer(
        self: &Arc<Self>,
        from: &Connection,
        mut send: SendHalf,
        mut recv: RecvHalf,
    ) -> Result<(), AskError> {
        let request: v1::ControlRequest = match recv.recv_head(MAX_ANSWER).await {
            Ok(request) => request,
            Err(error) => {
                self.on_malformed(from, &error);
                return Err(error.into());
            }
        };
        let name = &from.peer().spiffe;
        let kind = match request.kind {
            Some(control_request::Kind::Join(state)) => {
                let (reply, outcome) = oneshot::channel();
                let state = Box::new(state);
                self.tell(Job::Joined { peer: name.clone(), state, answer: true, reply }).await?;
                let outcome = self.reply(outcome).await?;
                self.adopt(from);
                match outcome {
                    Ok(state) => state.map(|state| control_response::Kind::Join(*state)),
                    Err(error) => Some(control_response::Kind::Error(error)),
                }
            }
            Some(_) if !self.is_member(name) => Some(error("not-admitted", "join first")),
            Some(control_request::Kind::Resolve(resolve)) => {
                let ids = resolve.node_ids.iter().take(MAX_RESOLVE);
                let ids = ids.filter_map(|id| NodeId::try_from(&id[..]).ok()).collect();
                let (reply, resolved) = oneshot::channel();
                self.tell(Job::Resolve { ids, reply }).await?;
                Some(control_response::Kind::Resolved(self.reply(resolved).await?))
            }
            Some(control_request::Kind::Ping(ping)) => {
                let from = self.roster.load().named(name).map(|(node, _)| node);
                let (reply, pong) = oneshot::channel();
                self.tell(Job::Ping { from, ping, reply }).await?;
                Some(control_response::Kind::Pong(self.reply(pong).await?))
            }
            Some(control_request::Kind::Pull(pull)) => {
                let (reply, pulled) = oneshot::channel();
                self.tell(Job::Pull { pull, reply }).await?;
                Some(control_response::Kind::Pulled(self.reply(pulled).await?))
            }
            Some(control_request::Kind::Keyring(state)) => {
                let (reply, own) = oneshot::channel();
                self.tell(Job::Keys { peer: name.clone(), state, reply: Some(reply) }).await?;
                Some(control_response::Kind::Keyring(self.reply(own).await?))
            }
            None => Some(error("unknown-request", "this version knows no such request")),
        };
        send.send_head(&v1::ControlResponse { kind }).await?;
        send.finish()?;
        Ok(())
    }

    async fn take(&self, from: &Connection, mut recv: RecvHalf) -> Result<(), AskError> {
        let push: v1::ControlPush = match recv.recv_head(MAX_PUSH).await {
            Ok(push) => push,
            Err(error) => {
                self.on_malformed(from, &error);
                return Err(error.into());
            }
        };
        match push.kind {
            Some(control_push::Kind::Chitchat(bytes)) => {
                let peer = from.peer().spiffe.clone();
                let known = self.roster.load().named(&peer).map(|(_, member)| member.address);
                match known {
                    Some(address) => self.tell(Job::Chitchat(Incoming { peer, from: address, bytes })).await?,
                    // Most often it has admitted us and we are about to admit it.
                    None => self.counters.refuse_quietly("chitchat", "not-admitted"),
                }
            }
            Some(control_push::Kind::GoAway(_)) => {
                add(&self.counters.go_aways);
                from.on_leaving();
                tracing::info!(peer = %from.peer().spiffe, "peer drains");
            }
            None => {}
        }
        Ok(())
    }

    fn on_malformed(&self, from: &Connection, error: &StreamError) {
        if matches!(error, StreamError::Malformed(_)) {
            self.counters.refuse("control", "malformed", &format_args!("{error} (from {})", from.peer().spiffe));
        }
    }
}

fn error(code: &str, detail: &str) -> control_response::Kind {
    control_response::Kind::Error(v1::ControlError { code: code.to_owned(), detail: detail.to_owned() })
}
