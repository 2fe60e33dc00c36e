//! What this node asks of its peers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use starling_proto::mesh::v1::{self, control_request, control_response};
use starling_proto::{NodeId, SpiffeId};
use starling_transport::{Connection, StreamError};
use tokio::sync::oneshot;

use super::{AskError, Peers};
use crate::mesh::driver::Job;

/// An answer takes at most this. A full state of 500 members has about 1 MB.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// A message is taken within this, or counted as lost.
const PUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that an answer may have, in bytes: a full state of 500 members with many records.
pub(super) const MAX_ANSWER: usize = 8 << 20;

impl Peers {
    /// Exchanges full states with whoever accepts QUIC at an address: admission. The peer's state goes to the driver.
    pub(in crate::mesh) async fn join(self: &Arc<Self>, at: SocketAddr, node: Option<NodeId>) -> Result<(), AskError> {
        if at == self.own_address {
            return Ok(());
        }
        let (reply, state) = oneshot::channel();
        self.tell(Job::State { receiver: node, reply }).await?;
        let state = self.reply(state).await?;
        let (peer, answer) = self.ask(at, control_request::Kind::Join(state)).await?;
        match answer {
            control_response::Kind::Join(state) => {
                let (reply, outcome) = oneshot::channel();
                self.tell(Job::Joined { peer, state: Box::new(state), answer: false, reply }).await?;
                let outcome = self.reply(outcome).await?;
                outcome.map(drop).map_err(AskError::Answer)
            }
            _ => Err(AskError::Other),
        }
    }

    /// Asks a member whether it is there. Nobody else can answer for it: the name in the certificate must be its own.
    pub(in crate::mesh) async fn ping(
        self: &Arc<Self>,
        at: SocketAddr,
        node: NodeId,
        ping: v1::Ping,
    ) -> Result<v1::Pong, AskError> {
        let (name, answer) = self.ask(at, control_request::Kind::Ping(ping)).await?;
        let asked = self.roster.load().named(&name).is_some_and(|(named, _)| named == node);
        match answer {
            control_response::Kind::Pong(pong) if asked => Ok(pong),
            _ => Err(AskError::Other),
        }
    }

    /// Asks for the credentials of nodes.
    pub(in crate::mesh) async fn resolve(
        self: &Arc<Self>,
        at: SocketAddr,
        ids: &[NodeId],
    ) -> Result<Vec<v1::MemberState>, AskError> {
        let node_ids = ids.iter().map(NodeId::to_bytes).collect();
        match self.ask(at, control_request::Kind::Resolve(v1::Resolve { node_ids })).await?.1 {
            control_response::Kind::Resolved(resolved) => Ok(resolved.members),
            _ => Err(AskError::Other),
        }
    }

    /// Asks whoever accepts QUIC at an address for values of a node: those under some keys, or all.
    pub(in crate::mesh) async fn pull(
        self: &Arc<Self>,
        at: SocketAddr,
        owner: NodeId,
        keys: Vec<String>,
    ) -> Result<Vec<v1::SignedValue>, AskError> {
        let pull = v1::Pull { keys, owner: owner.to_bytes() };
        match self.ask(at, control_request::Kind::Pull(pull)).await?.1 {
            control_response::Kind::Pulled(pulled) => Ok(pulled.values),
            _ => Err(AskError::Other),
        }
    }

    /// Asks a member whether it is there, and for all that a look at the path to it needs.
    pub(in crate::mesh) async fn look(self: &Arc<Self>, at: SocketAddr, node: NodeId) -> Result<v1::Pong, AskError> {
        let ping = v1::Ping { target: node.to_bytes(), nudge: true, ..v1::Ping::default() };
        match self.ask(at, control_request::Kind::Ping(ping)).await?.1 {
            control_response::Kind::Pong(pong) => Ok(pong),
            _ => Err(AskError::Other),
        }
    }

    /// Gives a member our group keys. Gives its own, and its name.
    pub(in crate::mesh) async fn exchange_keys(
        self: &Arc<Self>,
        at: SocketAddr,
        state: v1::KeyringState,
    ) -> Result<(SpiffeId, v1::KeyringState), AskError> {
        match self.ask(at, control_request::Kind::Keyring(state)).await? {
            (peer, control_response::Kind::Keyring(state)) => Ok((peer, state)),
            _ => Err(AskError::Other),
        }
    }

    /// Asks whoever accepts QUIC at an address. Gives the name in its certificate too.
    async fn ask(
        self: &Arc<Self>,
        at: SocketAddr,
        kind: control_request::Kind,
    ) -> Result<(SpiffeId, control_response::Kind), AskError> {
        let request = v1::ControlRequest { kind: Some(kind) };
        let connection = self.connection(at).await?;
        match self.ask_on(&connection, &request).await {
            Ok(answer) => Ok((connection.peer().spiffe.clone(), answer)),
            // The peer may have restarted since the connection was last used. Requests may be repeated.
            Err(AskError::Silent | AskError::Lost(_) | AskError::Stream(StreamError::ConnectionLost(_))) => {
                let connection = self.connection(at).await?;
                let answer = self.ask_on(&connection, &request).await?;
                Ok((connection.peer().spiffe.clone(), answer))
            }
            Err(error) => Err(error),
        }
    }

    /// One request and its answer. A connection that gave none is not used again.
    async fn ask_on(
        &self,
        connection: &Connection,
        request: &v1::ControlRequest,
    ) -> Result<control_response::Kind, AskError> {
        let outstanding = connection.begin_request();
        let exchange = async {
            let (mut send, mut recv) = connection.open().await?;
            send.send_head(request).await?;
            send.finish()?;
            let response: v1::ControlResponse = recv.recv_head(MAX_ANSWER).await?;
            match response.kind {
                Some(control_response::Kind::Error(error)) => Err(AskError::Answer(error)),
                Some(kind) => Ok(kind),
                None => Err(AskError::Other),
            }
        };
        let outcome = tokio::select! {
            outcome = exchange => outcome,
            () = connection.silent() => Err(AskError::Silent),
            () = tokio::time::sleep(ANSWER_TIMEOUT) => Err(AskError::Timeout(ANSWER_TIMEOUT)),
            () = self.stop.cancelled() => Err(AskError::Stopped),
        };
        drop(outstanding);
        if matches!(outcome, Err(AskError::Silent | AskError::Timeout(_) | AskError::Lost(_) | AskError::Stream(_))) {
            self.discard(connection);
        }
        outcome
    }

    /// Sends one message, without an answer.
    pub(super) async fn push(self: &Arc<Self>, at: SocketAddr, push: &v1::ControlPush) -> Result<(), AskError> {
        let connection = self.connection(at).await?;
        let outstanding = connection.begin_request();
        let sending = async {
            let mut send = connection.open_uni().await?;
            send.send_head(push).await?;
            send.finish()?;
            // Taken by the peer: an unreachable one shows here, and is dialed anew.
            send.stopped().await?;
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = sending => outcome,
            () = connection.silent() => Err(AskError::Silent),
            () = tokio::time::sleep(PUSH_TIMEOUT) => Err(AskError::Timeout(PUSH_TIMEOUT)),
            () = self.stop.cancelled() => Err(AskError::Stopped),
        };
        drop(outstanding);
        if outcome.is_err() {
            self.discard(&connection);
        }
        outcome
    }

    /// Hands something to the driver.
    pub(super) async fn tell(&self, job: Job) -> Result<(), AskError> {
        self.jobs.send(job).await.map_err(|_| AskError::Stopped)
    }

    /// What the driver says, unless it ends first.
    pub(super) async fn reply<T>(&self, reply: oneshot::Receiver<T>) -> Result<T, AskError> {
        tokio::select! {
            biased;
            reply = reply => reply.map_err(|_| AskError::Stopped),
            () = self.stop.cancelled() => Err(AskError::Stopped),
        }
    }

    /// Is this name a member's?
    pub(super) fn is_member(&self, name: &SpiffeId) -> bool {
        self.roster.load().named(name).is_some()
    }
}
