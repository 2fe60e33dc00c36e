//! Packets, notices and values as one can make them who holds the keys of a member and keeps to no rule: for the fuzzers
//! and the hostile members of tests. No program of the mesh uses it.

use bytes::Bytes;
use foca::{Header, Member, Message};
use starling_proto::mesh::v1;
use starling_proto::{MemberIdentity, NodeId};

pub use foca::State as SwimState;

use crate::catalog;
use crate::swim::{SwimIdentity, SwimPacket};
use crate::{Keyring, Rejection, SigningKey, envelope, notice, verify};

/// The most a datagram may have, in bytes.
pub const MAX_DATAGRAM: usize = envelope::MAX_DATAGRAM;

/// Signs a packet and seals it with the key in use. `None` if it does not fit into a datagram.
#[must_use]
pub fn seal(packet: &v1::Packet, key: &SigningKey, keyring: &Keyring, nonce: [u8; 12]) -> Option<Bytes> {
    envelope::seal(packet, key, keyring, keyring.in_use(), nonce)
}

/// Seals bytes that may be no packet.
#[must_use]
pub fn seal_bytes(inside: &[u8], keyring: &Keyring, nonce: [u8; 12]) -> Option<Bytes> {
    envelope::seal_bytes(inside.to_vec(), keyring, keyring.in_use(), nonce)
}

/// Opens a datagram, whoever signed what is in it.
///
/// # Errors
/// As an engine refuses it.
pub fn open(datagram: &[u8], keyring: &Keyring) -> Result<v1::Packet, Rejection> {
    envelope::open(datagram, keyring).map(|opened| opened.packet)
}

/// Reads a packet of the SWIM engine and writes it anew.
///
/// # Errors
/// Says what is wrong with it.
pub fn swim(bytes: &[u8]) -> Result<Bytes, String> {
    let packet = SwimPacket::parse(bytes).map_err(|error| error.to_string())?;
    packet.encode().map_err(|error| error.to_string())
}

/// A packet of the SWIM engine in which `from` tells `to` of others. `None` if it is too large.
#[must_use]
pub fn gossip(from: MemberIdentity, to: MemberIdentity, of: &[(MemberIdentity, u16, SwimState)]) -> Option<Bytes> {
    let header =
        Header { src: SwimIdentity(from), src_incarnation: 0, dst: SwimIdentity(to), message: Message::Gossip };
    let updates = of.iter().map(|(of, incarnation, state)| Member::new(SwimIdentity(*of), *incarnation, *state));
    SwimPacket { header, updates: updates.collect() }.encode().ok()
}

/// Signs a notice as it is.
pub fn sign_notice(notice: &mut v1::Notice, key: &SigningKey) {
    notice.signature = Bytes::copy_from_slice(&key.sign(&notice::statement(notice)));
}

/// Reads a notice, whoever signed it.
///
/// # Errors
/// As an engine refuses it.
pub fn read_notice(notice: &v1::Notice) -> Result<NodeId, Rejection> {
    let author = notice::author(notice)?;
    notice::read(notice).map(|_| author)
}

/// Signs a value as it is.
pub fn sign_value(value: &mut v1::SignedValue, key: &SigningKey) {
    value.signature = Bytes::copy_from_slice(&key.sign(&catalog::statement(value)));
}

/// Did the owner of this key sign this value?
#[must_use]
pub fn is_signed_by(value: &v1::SignedValue, public_key: &[u8; 32]) -> bool {
    verify(public_key, &catalog::statement(value), &value.signature)
}
