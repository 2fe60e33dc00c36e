//! Messages of chitchat 0.11.2, read and checked as bytes before chitchat itself sees them.
//!
//! Chitchat believes its peers: versions, tombstones, collection marks and heartbeats are unsigned, a crafted delta trips
//! an `assert!`, a heartbeat of `u64::MAX` freezes a node, and a delta has no bound once it is decompressed. So [`check`]
//! reads a message with a small decoder of our own and *writes a new one* that holds only what may be believed.
//! Two kinds of things go no further:
//!
//! - what no honest node sends refuses the whole message, with a [`WireError`] of its own;
//! - what an honest node may send but this node can't use (an id not admitted here, a version that is known, more than
//!   fits) is left out, and counted in [`Skipped`].
//!
//! Heartbeats are ours: whatever a message says, a live member's becomes [`Context::beat`] and another's 1. Liveness
//! is foca's to tell; chitchat's failure detector, which only picks its peers, follows it.
//!
//! The layout (all numbers little-endian; text is a u16 length and UTF-8):
//!
//! ```text
//! message   0xb053: u16 | 0: u8 | kind: u8 | 0 Syn: digest, cluster: text | 1 SynAck: digest, delta | 2 Ack: delta
//! digest    count: u16 | count * (id, heartbeat: u64, last_gc_version: u64, max_version: u64)
//! id        node: text | generation: u64 | 4 or 6: u8 | address | port: u16
//! delta     blocks: (1: u8 zstd | 2: u8 plain) | len: u16 | bytes ... then 0: u8; the blocks' bytes are operations
//! operation 0 Node: id, last_gc_version: u64, from_version_excluded: u64
//!           1 KeyValue: key: text, value: text, version: u64, status: u8
//!           2 SetMaxVersion: u64
//! ```

mod blocks;
mod cursor;
mod delta;
mod digest;
mod id;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use starling_proto::{Generation, NodeId};

use super::RecordError;
use super::text::TextError;
use cursor::Cursor;
pub use id::ReplicaId;

/// The most a message may have, in bytes: chitchat fills up to 65,507 and adds its head and the cluster's name.
pub const MAX_MESSAGE: usize = 66 * 1024;
/// The most of a delta that is read, in bytes once decompressed; what follows comes with the next round.
pub const MAX_DELTA: usize = 512 * 1024;
/// The most a block may have once decompressed, in bytes: what chitchat 0.11.2 puts into one.
pub const MAX_BLOCK: usize = 16 * 1024;
/// The most ids chitchat may come to know, former generations included. Its digest then stays below 60 KB; beyond 65 KB it would
/// compute a negative room for its delta.
pub const MAX_IDS: usize = 700;

const MAGIC: u16 = 45_139;
const PROTOCOL: u8 = 0;

/// A member, as far as the catalog has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its boot generation.
    pub generation: Generation,
    /// Where it accepts QUIC.
    pub address: SocketAddr,
    /// Its gossip key.
    pub public_key: [u8; 32],
    /// Neither down nor left.
    pub alive: bool,
}

/// Who is admitted.
pub trait Admission {
    /// What is known of a member, own node included.
    fn admitted(&self, node: NodeId) -> Option<Admitted>;
}

/// What chitchat holds at this moment.
pub trait Replica {
    /// How many ids it knows.
    fn ids(&self) -> usize;
    /// The highest version it has of an id, if it knows it.
    fn max_version(&self, id: &ReplicaId) -> Option<u64>;
    /// The keys it has of an id, each with the length of its value's text.
    fn sizes(&self, id: &ReplicaId) -> BTreeMap<String, usize>;
}

/// What a message is checked against.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Our own id.
    pub this: &'a ReplicaId,
    /// The name of our cluster.
    pub cluster: &'a str,
    /// Who is admitted.
    pub admission: &'a dyn Admission,
    /// What chitchat holds.
    pub replica: &'a dyn Replica,
    /// The heartbeat of every live member now: at least 2, and rising with time.
    pub beat: u64,
}

/// What was left out of a message that is otherwise good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Ids that are not admitted here, or no longer.
    pub unknown: u32,
    /// Deltas that bring nothing new, or don't follow what is known.
    pub stale: u32,
    /// Deltas about ourselves that claim no more than we said: an answer that was overtaken.
    pub own: u32,
    /// Owners whose values do not fit in their share, and ids beyond [`MAX_IDS`].
    pub full: Vec<NodeId>,
    /// The delta was longer than [`MAX_DELTA`].
    pub cut: bool,
}

/// A message that chitchat may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its bytes, written anew.
    pub bytes: Vec<u8>,
    /// What is missing from it.
    pub skipped: Skipped,
}

/// Why a message is refused. Its sender is no honest node, or of a version that this one can't talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes: the limit is {MAX_MESSAGE}")]
    TooLarge(usize),
    /// It ends before it should.
    #[error("the message ends within {0}")]
    Short(&'static str),
    /// It goes on where it should end.
    #[error("{0} bytes follow the message's end")]
    Trailing(usize),
    /// Not a message of chitchat.
    #[error("not a message of chitchat")]
    Magic,
    /// Of another version of its protocol.
    #[error("protocol version {0}")]
    Protocol(u8),
    /// Neither Syn, `SynAck` nor Ack.
    #[error("a message of kind {0}")]
    Kind(u8),
    /// Of another cluster.
    #[error("of another cluster")]
    Cluster,
    /// Text that is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// An id that no node has.
    #[error("an id that no node has")]
    Id,
    /// A digest whose ids are not in rising order, or that has one twice.
    #[error("the digest's ids are out of order")]
    DigestOrder,
    /// A collection mark: nothing is ever collected.
    #[error("a collection mark above zero")]
    Collected,
    /// A block of an unknown kind.
    #[error("a block of kind {0}")]
    Block(u8),
    /// A block that does not decompress, or to more than [`MAX_BLOCK`].
    #[error("a block does not decompress within {MAX_BLOCK} bytes")]
    Decompress,
    /// An unknown operation.
    #[error("an operation of kind {0}")]
    Operation(u8),
    /// A value before any node.
    #[error("a value of no node")]
    NoNode,
    /// Two deltas of one node.
    #[error("two deltas of one node")]
    DuplicateNode,
    /// Two values of one key.
    #[error("two values of one key")]
    DuplicateKey,
    /// `SetMaxVersion`: a jump that skips what its owner signed.
    #[error("a jump of the highest version")]
    MaxVersion,
    /// A tombstone, or a value with a lifetime: neither is signed.
    #[error("a tombstone or a lifetime")]
    Tombstone,
    /// Versions that do not rise.
    #[error("versions do not rise")]
    VersionOrder,
    /// A value at another version than its owner signed.
    #[error("a value at another version than its owner signed")]
    Version,
    /// A value of another generation than its owner signed.
    #[error("a value of another generation than its owner signed")]
    Generation,
    /// News about ourselves that we did not make.
    #[error("a delta about ourselves that we did not make")]
    AboutOurselves,
    /// A value's text is none.
    #[error("a value's text: {0}")]
    Text(#[from] TextError),
    /// A value its owner did not make.
    #[error("a value: {0}")]
    Record(#[from] RecordError),
}

impl WireError {
    /// A stable word for a counter's label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too-large",
            Self::Short(_) | Self::Trailing(_) | Self::Utf8(_) | Self::Id => "malformed",
            Self::Magic | Self::Protocol(_) | Self::Kind(_) => "not-chitchat",
            Self::Cluster => "other-cluster",
            Self::DigestOrder | Self::DuplicateNode | Self::DuplicateKey => "duplicate",
            Self::Collected => "collected",
            Self::Block(_) | Self::Decompress => "compression",
            Self::Operation(_) | Self::NoNode => "operation",
            Self::MaxVersion => "max-version",
            Self::Tombstone => "tombstone",
            Self::VersionOrder | Self::Version | Self::Generation => "version",
            Self::AboutOurselves => "about-ourselves",
            Self::Text(_) | Self::Record(_) => "unsigned",
        }
    }
}

/// A Syn that names these ids, each with the highest version that is held of it.
pub fn syn(cluster: &str, mut held: Vec<(ReplicaId, u64)>) -> Vec<u8> {
    held.sort_unstable();
    held.truncate(usize::from(u16::MAX));
    let mut message = MAGIC.to_le_bytes().to_vec();
    message.extend_from_slice(&[PROTOCOL, 0]);
    message.extend_from_slice(&u16::try_from(held.len()).unwrap_or(u16::MAX).to_le_bytes());
    for (id, max_version) in held {
        id.write(&mut message);
        for number in [0, 0, max_version] {
            message.extend_from_slice(&u64::to_le_bytes(number));
        }
    }
    cursor::put_text(&mut message, cluster);
    message
}

/// Is it a Syn, which begins a round?
pub fn is_syn(message: &[u8]) -> bool {
    message.get(3) == Some(&0)
}

/// Checks a message of an admitted peer and writes the one that chitchat may have.
pub fn check(bytes: &[u8], context: &Context<'_>) -> Result<Checked, WireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let mut input = Cursor::new(bytes);
    if input.u16("the magic number")? != MAGIC {
        return Err(WireError::Magic);
    }
    let protocol = input.u8("the protocol version")?;
    if protocol != PROTOCOL {
        return Err(WireError::Protocol(protocol));
    }
    let kind = input.u8("the kind")?;
    let mut output = bytes[..4].to_vec();
    let mut skipped = Skipped::default();
    match kind {
        0 => {
            digest::check(&mut input, &mut output, context, &mut skipped)?;
            let cluster = input.text("the cluster's name")?;
            if cluster != context.cluster {
                return Err(WireError::Cluster);
            }
            cursor::put_text(&mut output, cluster);
            input.end()?;
        }
        1 => {
            digest::check(&mut input, &mut output, context, &mut skipped)?;
            delta::check(&mut input, &mut output, context, &mut skipped)?;
        }
        2 => delta::check(&mut input, &mut output, context, &mut skipped)?,
        other => return Err(WireError::Kind(other)),
    }
    Ok(Checked { bytes: output, skipped })
}

#[cfg(test)]
mod tests;
