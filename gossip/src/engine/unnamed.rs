//! Services that their owners' certificates do not name, as far as this node knows those certificates.
//!
//! Such a record is shown to nobody. It is kept, so that catalogs stay equal; and since the owner may have a newer
//! certificate than this node knows, it is asked for it before it is blamed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starling_proto::NodeId;

use super::Engine;
use crate::Offence;

/// Its owner has this long to show a certificate that names the service.
const GRACE: Duration = Duration::from_secs(10);
/// It is asked so often until then.
const AGAIN: Duration = Duration::from_secs(1);

/// Owners that are to show a newer certificate. Bounded by the members.
#[derive(Default)]
pub(super) struct Unnamed {
    owners: BTreeMap<NodeId, Doubt>,
}

struct Doubt {
    since: Instant,
    next: Instant,
}

impl Unnamed {
    /// When somebody is to be asked or blamed.
    pub(super) fn next(&self) -> Option<Instant> {
        self.owners.values().map(|doubt| doubt.next).min()
    }
}

impl Engine {
    /// A record is new: does its owner's certificate name the service?
    pub(super) fn check_named(&mut self, owner: NodeId, key: &str, now: Instant) {
        let Some(entry) = self.catalog.service(owner, key) else { return };
        // Of one that is not admitted yet this is looked at again when it is.
        if self.admission.get(owner).is_some_and(|peer| !peer.verified.may_run(&entry.service)) {
            self.doubt(owner, now);
        }
    }

    /// A node was admitted: do certificate and records that came before agree?
    pub(super) fn check_all_named(&mut self, owner: NodeId, now: Instant) {
        if !self.unnamed_services(owner).is_empty() {
            self.doubt(owner, now);
        }
    }

    fn doubt(&mut self, owner: NodeId, now: Instant) {
        self.unnamed.owners.entry(owner).or_insert(Doubt { since: now, next: now });
        self.ask_for_certificates(now);
    }

    /// Those of a member's services that its certificate does not name.
    fn unnamed_services(&self, owner: NodeId) -> Vec<String> {
        let Some(peer) = self.admission.get(owner) else { return Vec::new() };
        let of_owner = self.catalog.services_of(owner).filter(|entry| !peer.verified.may_run(&entry.service));
        of_owner.map(|entry| entry.service.to_string()).collect()
    }

    /// Asks those whose time has come for their certificates, and blames who had its chance.
    pub(super) fn ask_for_certificates(&mut self, now: Instant) {
        let due: Vec<_> =
            self.unnamed.owners.iter().filter(|(_, doubt)| doubt.next <= now).map(|(id, _)| *id).collect();
        for owner in due {
            let services = self.unnamed_services(owner);
            let Some(doubt) = self.unnamed.owners.get_mut(&owner) else { continue };
            let over = doubt.since + GRACE <= now;
            doubt.next = now + AGAIN;
            if services.is_empty() {
                self.unnamed.owners.remove(&owner);
            } else if over {
                self.unnamed.owners.remove(&owner);
                self.blame(owner, Offence::ServiceNotNamed, now);
                self.reject_record(owner, format!("its certificate does not name {}", services.join(", ")));
            } else if let Some(at) = self.quic_address(owner) {
                self.ask_after(owner, at, vec![owner], now);
            }
        }
    }
}
