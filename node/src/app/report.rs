//! What the node tells of itself through the admin interface.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use starling_gossip::{State as Alive, View};
use starling_proto::mesh::v1;
use starling_proto::{Endpoint, ServiceName};
use starling_routing::{Cluster, Entry};
use starling_transport::{Pool, Tls};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{hop, keyring, numbers};
use crate::admin::{
    CheckReport, DismissError, EndpointReport, KeyringError, KeyringReport, LoadReport, MemberReport, MembersReport,
    NodeReport, RouteStatReport, ServiceReport, ServiceTotals, Source, StatusReport, WayReport,
};
use crate::config::Config;
use crate::mesh::{Mesh, Status};
use crate::plane::Plane;
use crate::telemetry::RouteStats;
use crate::watchdog::{Watchdog, standing_still};

/// How often the mesh side is asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A mesh side that has not answered for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(5);
/// Whoever watches is answered after this even if nothing changed: within a client's usual patience.
const WATCH: Duration = Duration::from_secs(5);
/// A node that reaches none of its seeds for so long serves alone: it may be the first, or all others may be down.
const ALONE_AFTER: Duration = Duration::from_secs(5);

/// All that the answers are made from.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) mesh: Mesh,
    pub(super) plane: Arc<Plane>,
    pub(super) watchdog: Watchdog,
    pools: Vec<Pool>,
    pub(super) tls: Tls,
    ways: Vec<WayReport>,
    started: Instant,
    latest: Mutex<Latest>,
    ready: watch::Sender<bool>,
    /// Rises when a member comes, changes or goes.
    members_version: watch::Sender<u64>,
}

/// What the mesh side said last.
struct Latest {
    status: Option<Status>,
    at: Instant,
}

impl State {
    pub(super) fn new(
        config: &Config,
        mesh: &Mesh,
        plane: &Arc<Plane>,
        pools: Vec<Pool>,
        tls: Tls,
        ways: Vec<WayReport>,
        watchdog: Watchdog,
    ) -> Self {
        let started = Instant::now();
        plane.telemetry.with(numbers::describe);
        Self {
            config: config.clone(),
            mesh: mesh.clone(),
            plane: Arc::clone(plane),
            watchdog,
            pools,
            tls,
            ways,
            started,
            latest: Mutex::new(Latest { status: None, at: started }),
            ready: watch::channel(false).0,
            members_version: watch::channel(0).0,
        }
    }

    /// Asks the mesh side now and then, so that every answer is at hand.
    pub(super) async fn keep_current(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut views = self.mesh.views();
        let mut view = Arc::clone(&views.borrow_and_update());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.plane.telemetry.tick(Instant::now());
                    if let Ok(status) = self.mesh.status().await {
                        let latest = Latest { status: Some(status), at: Instant::now() };
                        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = latest;
                    }
                }
                changed = views.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let newer = Arc::clone(&views.borrow_and_update());
                    let changes = newer.diff(&view);
                    view = newer;
                    if !changes.members.is_empty() || !changes.forgotten.is_empty() {
                        self.members_version.send_modify(|version| *version += 1);
                    }
                }
            }
            self.ready.send_if_modified(|ready| {
                let now = self.check_ready().is_ok();
                std::mem::replace(ready, now) != now
            });
        }
    }

    /// Ends when the node is of use.
    pub(super) async fn ready(&self) {
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn check_ready(&self) -> Result<(), String> {
        if !self.is_alone() || self.started.elapsed() >= ALONE_AFTER {
            return Ok(());
        }
        Err("no seed has answered yet: is one of mesh.seeds up, and reachable?".to_owned())
    }

    /// Are there seeds beside the node itself?
    pub(super) fn has_other_seeds(&self) -> bool {
        let own = self.config.mesh.address().quic();
        self.config.mesh.seeds.iter().any(|seed| !matches!(seed, crate::config::Seed::Addr(a) if *a == own))
    }

    /// See [`Source::live`].
    pub(super) fn is_live(&self) -> Result<(), String> {
        if let Some(late) = self.watchdog.stalled() {
            return Err(standing_still(late));
        }
        let quiet = self.latest.lock().unwrap_or_else(PoisonError::into_inner).at.elapsed();
        if quiet < STANDSTILL { Ok(()) } else { Err(format!("the mesh side has not moved for {quiet:.0?}")) }
    }

    /// See [`Source::ready`].
    pub(super) fn is_ready(&self) -> Result<(), String> {
        if self.plane.drain.is_started() {
            return Err("the node drains".to_owned());
        }
        self.check_ready()
    }

    fn status_of(&self, read: impl FnOnce(&Status) -> BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.status.as_ref().map(read).unwrap_or_default()
    }

    fn quic_refusals(&self) -> BTreeMap<String, u64> {
        self.tls.refusals().iter().map(|(refusal, count)| (refusal.as_str().to_owned(), count)).collect()
    }

    fn usable(&self, entry: &Entry, cluster: &Cluster, now: Instant) -> (&'static str, bool, String) {
        let endpoint: &Endpoint = entry.endpoint();
        let snapshot = cluster.snapshot(entry, now);
        let of_panic = || if cluster.is_panicking(now) { "; used all the same: over half are ejected" } else { "" };
        if !endpoint.healthy {
            return ("unhealthy", false, "its node says that the program behind it accepts no connections".to_owned());
        }
        if endpoint.draining {
            return ("draining", false, "its node says that it drains".to_owned());
        }
        if let Some(left) = snapshot.ejected_for {
            let why = format!("failed {} times in a row, left out for {left:.1?}{}", snapshot.failures, of_panic());
            return ("ejected", cluster.is_panicking(now), why);
        }
        if self.pools.iter().any(|pool| pool.is_silent(&endpoint.spiffe)) {
            return ("silent", false, "the connection to its node has fallen silent".to_owned());
        }
        ("ready", true, "the better of two drawn at random, by requests in flight and recent latency".to_owned())
    }

    fn since(at: Instant) -> Timestamp {
        let ago = SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::ZERO);
        Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn counted_members(view: &View) -> BTreeMap<String, usize> {
        let states = [Alive::Alive, Alive::Suspect, Alive::Down, Alive::Left];
        let count = |state| view.members.values().filter(|member| member.state == state).count();
        states.into_iter().map(|state| (state.to_string(), count(state))).collect()
    }
}

fn load_of(load: &v1::LoadSummary) -> LoadReport {
    let v1::LoadSummary { in_flight, cpu_permille, overload, unhealthy } = *load;
    LoadReport { in_flight, cpu_permille, overload, unhealthy }
}

#[async_trait]
impl Source for State {
    fn status(&self) -> StatusReport {
        let view = self.mesh.view().load_full();
        let clusters = self.plane.clusters.load();
        let this = view.members.get(&view.this);
        let not_after = self.plane.identity.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        StatusReport {
            node: NodeReport {
                name: self.config.node.name.clone(),
                id: self.mesh.id(),
                address: self.config.mesh.address().quic(),
                gossip_port: self.config.mesh.gossip_port,
                zone: self.config.node.zone.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            mesh: self.plane.identity.trust_domain().to_string(),
            generation: this.map(|member| member.generation).unwrap_or_default(),
            uptime: self.started.elapsed().as_secs(),
            not_ready: None,
            members: Self::counted_members(&view),
            services: ServiceTotals {
                offered: self.config.services.iter().map(|service| service.name.clone()).collect(),
                known: clusters.iter().count(),
                endpoints: clusters.iter().map(|cluster| cluster.len()).sum(),
            },
            shards: self.config.node.shards.get(),
            ways: self.ways.clone(),
            gossip: self.status_of(numbers::counted),
            hop: hop::report(&self.tls),
            quic: self.quic_refusals(),
            rejected: self.status_of(numbers::rejected),
            certificate_expires: Timestamp::from_second(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX))
                .unwrap_or(Timestamp::MAX),
        }
    }

    fn members(&self) -> Vec<MemberReport> {
        let view = self.mesh.view().load_full();
        let mut members: Vec<MemberReport> = view
            .members
            .values()
            .map(|member| MemberReport {
                name: member.name.clone(),
                id: member.id,
                address: member.address.quic(),
                zone: member.zone.to_string(),
                state: member.state.to_string(),
                generation: member.generation,
                since: Self::since(member.since),
                version: member.version.clone(),
                load: load_of(&member.load),
                flaky: member.flaky,
                this: member.id == view.this,
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    async fn members_after(&self, after: Option<u64>) -> MembersReport {
        let mut versions = self.members_version.subscribe();
        let newer = versions.wait_for(|version| after != Some(*version));
        // The watcher asks again; what it was told then is as good.
        let _ = tokio::time::timeout(WATCH, newer).await;
        let version = *versions.borrow();
        MembersReport { version, members: self.members() }
    }

    fn services(&self) -> Vec<ServiceReport> {
        let now = Instant::now();
        let clusters = self.plane.clusters.load();
        let report = |cluster: &Arc<Cluster>| {
            let first = cluster.entries().first()?.endpoint();
            Some(ServiceReport {
                name: cluster.service().clone(),
                vip: self.plane.vips.vip_of(cluster.service()).map(Into::into),
                port: first.port,
                protocol: first.protocol,
                endpoints: cluster.len(),
                usable: cluster.entries().iter().filter(|entry| self.usable(entry, cluster, now).1).count(),
            })
        };
        clusters.iter().filter_map(report).collect()
    }

    fn endpoints(&self, service: &ServiceName) -> Option<Vec<EndpointReport>> {
        let now = Instant::now();
        let clusters = self.plane.clusters.load();
        let cluster = clusters.cluster(service)?;
        let report = |entry: &Entry| {
            let endpoint = entry.endpoint();
            let (state, chosen, why) = self.usable(entry, cluster, now);
            let snapshot = cluster.snapshot(entry, now);
            EndpointReport {
                node: endpoint.spiffe.node().to_owned(),
                zone: endpoint.zone.to_string(),
                address: endpoint.address,
                state: state.to_owned(),
                load: snapshot.in_flight,
                chosen,
                why,
                latency: snapshot.latency.map(|latency| latency.as_secs_f64()),
                labels: (*endpoint.labels).clone(),
            }
        };
        let mut reports: Vec<EndpointReport> = cluster.entries().iter().map(report).collect();
        reports.sort_by(|a, b| a.node.cmp(&b.node));
        Some(reports)
    }

    fn routes(&self) -> Vec<RouteStatReport> {
        let report = |stats: RouteStats| RouteStatReport {
            direction: stats.direction.as_str().to_owned(),
            src: stats.src,
            dst: stats.dst,
            requests: stats.requests,
            success: (stats.requests > 0).then(|| 1.0 - stats.failed as f64 / stats.requests as f64),
            rps: stats.last_10s.rps,
            p50: stats.last_60s.p50,
            p99: stats.last_60s.p99,
            retries: stats.retries,
        };
        self.plane.telemetry.stats().into_iter().map(report).collect()
    }

    fn metrics(&self) -> String {
        let view = self.mesh.view().load_full();
        self.plane.telemetry.with(|| {
            for (state, count) in Self::counted_members(&view) {
                metrics::gauge!("starling_members", "state" => state).set(count as f64);
            }
            if let Some(status) = &self.latest.lock().unwrap_or_else(PoisonError::into_inner).status {
                numbers::publish(status, &self.watchdog);
            }
            for (reason, value) in self.quic_refusals() {
                metrics::counter!("starling_quic_refused_total", "reason" => reason).absolute(value);
            }
            hop::publish(&self.tls);
            let now = Instant::now();
            for cluster in self.plane.clusters.load().iter() {
                let service = cluster.service().to_string();
                let remaining = cluster.budget().remaining(now) as f64;
                metrics::gauge!("starling_retry_budget_remaining", "dst" => service.clone()).set(remaining);
                let ejected =
                    cluster.entries().iter().filter(|e| cluster.snapshot(e, now).ejected_for.is_some()).count();
                metrics::gauge!("starling_endpoints", "dst" => service.clone()).set(cluster.len() as f64);
                metrics::gauge!("starling_endpoints_ejected", "dst" => service).set(ejected as f64);
            }
        });
        self.plane.telemetry.render()
    }

    async fn check(&self) -> Vec<CheckReport> {
        self.check_all().await
    }

    async fn keyring(&self) -> Result<KeyringReport, KeyringError> {
        keyring::report(&self.mesh, self.plane.identity.trust_domain().as_str()).await
    }

    async fn change_keyring(&self, state: Bytes) -> Result<KeyringReport, KeyringError> {
        keyring::change(&self.mesh, state).await?;
        self.keyring().await
    }

    async fn force_leave(&self, member: &str, prune: bool) -> Result<MemberReport, DismissError> {
        let known = self.members();
        let node = self.dismiss(member, prune).await?;
        let found = self.members().into_iter().chain(known).find(|report| report.id == node);
        found.ok_or_else(|| DismissError::Unknown(member.to_owned()))
    }

    fn live(&self) -> Result<(), String> {
        self.is_live()
    }

    fn ready(&self) -> Result<(), String> {
        self.is_ready()
    }
}
