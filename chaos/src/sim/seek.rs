//! When a node looks for its seeds: the machine is the one that `node` drives.

use starling_gossip::{Sought, State};

use super::control::Why;
use super::world::{Happening, World};

impl World {
    /// Looks for the seeds whose time has come, as `node` does.
    pub(super) fn on_seeds(&mut self, n: usize) {
        self.hosts[n].seeds_at = None;
        for seed in self.hosts[n].seeds.poll_due(self.base + self.now) {
            if self.state_of(n, seed).is_some_and(State::is_up) {
                self.on_sought(n, seed, Sought::Met);
            } else {
                self.join(n, seed, Why::Seed);
            }
        }
        self.schedule_seeds(n);
    }

    /// Takes what came of a look at a seed.
    pub(super) fn on_sought(&mut self, n: usize, seed: usize, sought: Sought) {
        let (jitter, now) = (self.jitter(n), self.base + self.now);
        self.hosts[n].seeds.on_result(&seed, sought, jitter, now);
        self.schedule_seeds(n);
    }

    /// What one node has another for; `None` if it does not list it.
    pub(super) fn state_of(&self, observer: usize, subject: usize) -> Option<State> {
        let view = self.hosts[observer].engine.as_ref()?.view();
        view.members.get(&self.hosts[subject].id).map(|member| member.state)
    }

    /// Takes note of when a node wants to look for seeds next.
    pub(super) fn schedule_seeds(&mut self, n: usize) {
        let host = &mut self.hosts[n];
        let Some(due) = host.seeds.poll_timeout() else { return };
        let due = due.duration_since(self.base).max(self.now);
        if host.seeds_at.is_none_or(|at| due < at) {
            host.seeds_at = Some(due);
            self.queue.push(due, Happening::Seeds(n));
        }
    }
}
