//! What stands in a value's body.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use starling_proto::mesh::v1;
use starling_proto::{Endpoint, EndpointKey, NodeId, Protocol, ServiceName, SpiffeId, decode};

use super::key::Key;
use super::{MAX_VALUE, RecordError};

/// The highest weight an instance may claim: a hundred times the usual.
const MAX_WEIGHT: u32 = 10_000;
const USUAL_WEIGHT: u32 = 100;

/// A value's body, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing: its owner took it back.
    Withdrawn,
    /// What a node says of itself.
    Node(NodeRecord),
    /// A service instance.
    Service(ServiceEntry),
    /// Something that this version does not know: passed on unread.
    Unread,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its name, for humans: the one that counts is in its certificate.
    pub name: String,
    /// Where it stands; empty if it does not say.
    pub zone: Arc<str>,
    /// Of its software.
    pub version: String,
    /// Threads of its data plane.
    pub shards: u32,
}

/// A service instance, as its owner describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The service.
    pub service: ServiceName,
    /// Which instance, where a node offers several.
    pub instance: u32,
    /// The port callers use.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where it stands; empty if its owner does not say.
    pub zone: Arc<str>,
    /// Free words of its owner.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Its owner says that it can serve.
    pub healthy: bool,
    /// Its owner asks for no new requests.
    pub draining: bool,
    /// Capacity relative to others, 1 to 10,000, 100 being the usual.
    pub weight: u32,
}

impl ServiceEntry {
    /// The endpoint that the data plane sees: this entry on the node `owner`, which is called `spiffe` and accepts QUIC at
    /// `address`.
    pub fn endpoint(&self, owner: NodeId, spiffe: SpiffeId, address: SocketAddr) -> Endpoint {
        Endpoint {
            key: EndpointKey { node: owner, service: self.service.clone(), instance: self.instance },
            spiffe,
            address,
            port: self.port,
            protocol: self.protocol,
            zone: Arc::clone(&self.zone),
            labels: Arc::clone(&self.labels),
            healthy: self.healthy,
            draining: self.draining,
            weight: self.weight,
        }
    }
}

impl Content {
    /// Reads a value's body as its key says.
    pub(super) fn read(value: &v1::SignedValue) -> Result<Self, RecordError> {
        let key = Key::parse(&value.key)?;
        if value.withdrawn {
            return if value.body.is_empty() { Ok(Self::Withdrawn) } else { Err(RecordError::WithdrawnBody) };
        }
        match key {
            Key::Node => node(value.body.clone()).map(Self::Node),
            Key::Service { service, instance } => read_service(service, instance, value.body.clone()),
            Key::Other(_) => Ok(Self::Unread),
        }
    }
}

fn body(what: &'static str, reason: impl Into<String>) -> RecordError {
    RecordError::Body { what, reason: reason.into() }
}

fn decode<M: prost::Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, RecordError> {
    decode::message(what, bytes, MAX_VALUE).map_err(|error| body(what, error.to_string()))
}

/// Words of a peer end up in logs and on terminals.
fn plain(what: &'static str, text: &str) -> Result<(), RecordError> {
    if text.chars().any(char::is_control) { Err(body(what, "has control characters")) } else { Ok(()) }
}

fn node(bytes: Bytes) -> Result<NodeRecord, RecordError> {
    let record: v1::NodeRecord = decode("NodeRecord", bytes)?;
    plain("NodeRecord.name", &record.name)?;
    plain("NodeRecord.zone", &record.zone)?;
    plain("NodeRecord.version", &record.version)?;
    Ok(NodeRecord { name: record.name, zone: record.zone.into(), version: record.version, shards: record.shards })
}

fn read_service(service: ServiceName, instance: u32, bytes: Bytes) -> Result<Content, RecordError> {
    let record: v1::ServiceRecord = decode("ServiceRecord", bytes)?;
    if record.service != service.path() || record.instance != instance {
        return Err(body("ServiceRecord", "its service or instance is not its key's"));
    }
    let port = u16::try_from(record.port).ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| body("ServiceRecord.port", "is not 1 to 65535"))?;
    if record.weight > MAX_WEIGHT {
        return Err(body("ServiceRecord.weight", format!("is over {MAX_WEIGHT}")));
    }
    plain("ServiceRecord.zone", &record.zone)?;
    for (name, value) in &record.labels {
        plain("ServiceRecord.labels", name)?;
        plain("ServiceRecord.labels", value)?;
    }
    // A protocol of a later version: not offered here, yet passed on to those who know it.
    let Ok(protocol) = Protocol::try_from(record.protocol()) else {
        return Ok(Content::Unread);
    };
    Ok(Content::Service(ServiceEntry {
        service,
        instance,
        port,
        protocol,
        zone: record.zone.into(),
        labels: Arc::new(record.labels),
        healthy: record.healthy,
        draining: record.draining,
        weight: if record.weight == 0 { USUAL_WEIGHT } else { record.weight },
    }))
}
