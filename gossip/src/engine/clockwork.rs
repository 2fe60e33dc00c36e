use std::time::Instant;

use super::{Engine, Output};
use crate::contact::Approach;

impl Engine {
    /// See [`Engine::poll_timeout`](super::Engine::poll_timeout).
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let timers = [
            self.membership.next(),
            self.next_suspect(),
            self.next_claim(),
            self.contacts.next(),
            self.redials.next(),
            self.rumours.next(),
            self.renewal.due,
            self.awaited.next(),
            self.owed.next(),
            self.unnamed.next(),
            self.publish.next(),
            self.restless.next(),
            Some(self.sweep_at),
        ];
        timers.into_iter().flatten().min()
    }

    pub(super) fn on_tick(&mut self, now: Instant) {
        self.membership.handle_due(now);
        self.on_news(now);
        self.judge_suspects(now);
        self.poll_claims(now);
        self.calm_down(now);
        self.renew_if_due(now);
        self.approach_contacts(now);
        self.ask_owners(now);
        self.ask_for_owed(now);
        self.ask_for_certificates(now);
        // Notices ride on foca's own gossip where there is some.
        self.flush_swim(now);
        self.tell_notices(now);
        self.try_down_members(now);
        self.sweep(now);
    }

    /// Tries to reach members that are believed down.
    fn try_down_members(&mut self, now: Instant) {
        let up = 1 + self.admission.up();
        let due = self.redials.take_due(up, &self.timings, &mut self.rng, now);
        let knock = self.redials.take_knock(up, &self.timings, &mut self.rng, now);
        if self.me.leaving {
            return;
        }
        for node in due {
            if let Some(peer) = self.admission.get(node) {
                self.out.push(Output::Dial { node: Some(node), at: peer.identity.address.quic() });
            }
        }
        if let Some(peer) = knock.and_then(|node| self.admission.get(node)) {
            self.announce_to(peer.identity, now);
        }
    }

    /// Speaks to those that others named.
    fn approach_contacts(&mut self, now: Instant) {
        let (due, silent) = self.contacts.take_due(now);
        for approach in due {
            match approach {
                Approach::Announce(identity) => self.announce_to(identity, now),
                Approach::Dial(identity) => {
                    self.announce_to(identity, now);
                    self.dial(&identity);
                }
            }
        }
        for node in silent {
            // What it signed was kept for the case that it shows up.
            if self.admission.get(node).is_none() {
                self.catalog.forget(node);
            }
        }
    }
}
