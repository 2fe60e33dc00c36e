//! Holds the redirects of ports, users and namespaces in force while the node serves, and ends them when it drains.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bind::Bound;
use crate::capture::{Families, Flag};
use crate::config::{Config, Listen};

/// How often the flags are raised again. They stand for five seconds by themselves.
const RAISE_EVERY: Duration = Duration::from_secs(1);

/// The flag of each namespace that the node listens for captured connections in.
pub(super) struct Redirects {
    flags: Vec<(Flag, Families)>,
    over: CancellationToken,
}

impl Redirects {
    /// None of them is raised yet.
    pub(super) fn of(bound: &Bound, config: &Config) -> Arc<Self> {
        let mut flags = Vec::new();
        let mut add = |flag: io::Result<Flag>, families| match flag {
            Ok(flag) => flags.push((flag, families)),
            Err(error) => tracing::debug!(%error, "this kernel has no nftables: nothing but VIPs is captured"),
        };
        let listens = |Listen { address, .. }: Listen| address.is_ipv4() && bound.is_bound(address);
        if config.capture.listen.is_some_and(listens) {
            add(Flag::open(), Families { ipv4: true, ipv6: bound.captures_ipv6 });
        }
        for outpost in &bound.outposts {
            let families = Families { ipv4: true, ipv6: outpost.captures_ipv6 };
            add(outpost.netns.run(Flag::open).and_then(|flag| flag), families);
        }
        Arc::new(Self { flags, over: CancellationToken::new() })
    }

    /// Raises the flags again and again until [`Redirects::end`].
    pub(super) async fn hold(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(RAISE_EVERY);
        let mut told = vec![None; self.flags.len()];
        while let Some(_tick) = self.over.run_until_cancelled(ticks.tick()).await {
            for ((flag, families), told) in self.flags.iter().zip(&mut told) {
                let state = flag.raise(*families).map_err(|error| error.kind());
                if *told != Some(state) {
                    match state {
                        Ok(true) => tracing::info!("chosen ports, users or a namespace are captured"),
                        Ok(false) => {}
                        // Most nodes have no privilege, and nothing to do with it.
                        Err(error) => tracing::debug!(%error, "redirects cannot be held in force from here"),
                    }
                }
                *told = Some(state);
            }
        }
    }

    /// Ends the redirects: whoever connects from now on goes where they were going.
    pub(super) fn end(&self) {
        self.over.cancel();
        for (flag, _) in &self.flags {
            if let Err(error) = flag.lower() {
                tracing::debug!(%error, "redirects were not ended from here");
            }
        }
    }
}
