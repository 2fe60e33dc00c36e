use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use starling_proto::ServiceName;
use tokio::sync::Notify;

use super::VipRange;

mod file;

/// More services than a mesh has; also what bounds the file and the memory of the table (about 2 MB when full).
const MOST_SERVICES: usize = 16_384;

/// For how long a name resolves after its service was last known: the mesh forgets a dead member after a day.
const RETENTION: Duration = Duration::from_hours(24);

/// Writes follow one another at least this far apart.
const PERSIST_EVERY: Duration = Duration::from_millis(500);

/// Which service has which VIP.
///
/// An address is placed by a hash of the service's name, so that nodes tend to agree, and kept on disk, so that it
/// stays the same over restarts. Many readers without a lock; writers ([`VipTable::observe`]) take turns.
pub struct VipTable {
    range: VipRange,
    most: usize,
    path: Option<PathBuf>,
    vips: ArcSwap<Vips>,
    /// On which ports callers reach a service, lowest first. Not kept on disk.
    ports: ArcSwap<BTreeMap<ServiceName, Vec<u16>>>,
    writing: Mutex<()>,
    changed: Notify,
}

/// What [`VipTable::observe`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// Services that have just got an address.
    pub added: Vec<(ServiceName, Ipv4Addr)>,
    /// How many got none because the range is full of known services.
    pub refused: usize,
}

#[derive(Clone, Default)]
struct Vips {
    of_service: BTreeMap<ServiceName, Vip>,
    of_address: BTreeMap<Ipv4Addr, ServiceName>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct Vip {
    address: Ipv4Addr,
    /// Unix seconds at which the service was first found missing; none while it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    absent_since: Option<u64>,
}

impl VipTable {
    /// An empty table, kept in memory only.
    pub fn in_memory(range: VipRange) -> Self {
        Self::with(range, None, Vips::default())
    }

    /// The table kept in this file (`<data_dir>/vips.json`); blocks on the disk. A file that is missing, damaged or
    /// of another range costs at most the stability of addresses: it is named in the log, and the table starts with
    /// what could be used of it.
    pub fn open(range: VipRange, path: PathBuf) -> Self {
        let vips = file::load(&path, range, MOST_SERVICES);
        Self::with(range, Some(path), vips)
    }

    fn with(range: VipRange, path: Option<PathBuf>, vips: Vips) -> Self {
        let most = MOST_SERVICES.min(range.capacity());
        let vips = ArcSwap::from_pointee(vips);
        let ports = ArcSwap::default();
        Self { range, most, path, vips, ports, writing: Mutex::new(()), changed: Notify::new() }
    }

    /// The range that addresses are taken from.
    pub const fn range(&self) -> VipRange {
        self.range
    }

    /// The address of a service that has one.
    pub fn vip_of(&self, service: &ServiceName) -> Option<Ipv4Addr> {
        self.vips.load().of_service.get(service).map(|vip| vip.address)
    }

    /// The service at an address. It may be unknown by now: then the mesh's own error tells the caller.
    pub fn service_of(&self, address: Ipv4Addr) -> Option<ServiceName> {
        self.vips.load().of_address.get(&address).cloned()
    }

    /// The address a name resolves to at `now`: services that are known, or were within the last day.
    pub fn resolve(&self, service: &ServiceName, now: SystemTime) -> Option<Ipv4Addr> {
        self.vips.load().of_service.get(service).filter(|vip| vip.is_resolvable(unix(now))).map(|vip| vip.address)
    }

    /// Does any name of this namespace resolve?
    pub fn has_namespace(&self, namespace: &str, now: SystemTime) -> bool {
        let (now, vips) = (unix(now), self.vips.load());
        vips.of_service.iter().any(|(name, vip)| name.namespace() == namespace && vip.is_resolvable(now))
    }

    /// Takes in on which ports the known services are reached.
    pub fn set_ports(&self, ports: BTreeMap<ServiceName, Vec<u16>>) {
        if **self.ports.load() != ports {
            self.ports.store(Arc::new(ports));
        }
    }

    /// The ports of a service, lowest first; none if nobody offers it now.
    pub fn ports_of(&self, service: &ServiceName) -> Vec<u16> {
        self.ports.load().get(service).cloned().unwrap_or_default()
    }

    /// How many services have an address.
    pub fn len(&self) -> usize {
        self.vips.load().of_service.len()
    }

    /// Has no service an address?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every service that has an address, with it.
    pub fn entries(&self) -> Vec<(ServiceName, Ipv4Addr)> {
        self.vips.load().of_service.iter().map(|(name, vip)| (name.clone(), vip.address)).collect()
    }

    /// Takes in the whole set of services known now: new ones get an address, missing ones keep theirs. Only when the
    /// table is full do new services take the places of missing ones, the longest missing first.
    pub fn observe<'a>(&self, known: impl IntoIterator<Item = &'a ServiceName>, now: SystemTime) -> Observed {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vips = Vips::clone(&self.vips.load());
        let mut missing = vips.of_service.clone();
        let (mut new, mut changed) = (Vec::new(), false);
        for name in known {
            match vips.of_service.get_mut(name) {
                Some(vip) => changed |= vip.absent_since.take().is_some(),
                None => new.push(name.clone()),
            }
            missing.remove(name);
        }
        for name in missing.keys() {
            if let Some(vip) = vips.of_service.get_mut(name).filter(|vip| vip.absent_since.is_none()) {
                vip.absent_since = Some(unix(now));
                changed = true;
            }
        }
        let mut observed = Observed::default();
        for name in new {
            match vips.place(self.range, self.most, &name) {
                Some(address) => observed.added.push((name, address)),
                None => observed.refused += 1,
            }
        }
        if changed || !observed.added.is_empty() {
            self.vips.store(Arc::new(vips));
            self.changed.notify_one();
        }
        observed
    }

    /// Writes the table to its file, whole or not at all; blocks on the disk. Nothing happens without a file.
    pub fn persist(&self) -> io::Result<()> {
        let vips = self.vips.load_full();
        self.path.as_ref().map_or(Ok(()), |path| file::store(path, self.range, &vips))
    }

    /// Writes the table whenever it has changed, off the calling thread. Runs until dropped; a failure is logged and
    /// tried again at the next change. Call [`VipTable::persist`] once more before the process ends.
    pub async fn keep_persisted(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(PERSIST_EVERY).await;
            let table = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || table.persist()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, path = ?self.path, "the addresses of services were not saved"),
                Err(error) => tracing::error!(%error, "saving the addresses of services broke off"),
            }
        }
    }
}

impl Vip {
    fn is_resolvable(&self, now: u64) -> bool {
        self.absent_since.is_none_or(|since| now < since.saturating_add(RETENTION.as_secs()))
    }
}

impl Vips {
    fn insert(&mut self, name: ServiceName, vip: Vip) {
        self.of_address.insert(vip.address, name.clone());
        self.of_service.insert(name, vip);
    }

    fn place(&mut self, range: VipRange, most: usize, name: &ServiceName) -> Option<Ipv4Addr> {
        if self.of_service.len() >= most {
            self.evict_longest_missing()?;
        }
        let (start, size) = (hash(name), range.size());
        let address = (0..size)
            .map(|step| range.address_at(start.wrapping_add(step) % size))
            .find(|address| range.is_assignable(*address) && !self.of_address.contains_key(address))?;
        self.insert(name.clone(), Vip { address, absent_since: None });
        Some(address)
    }

    fn evict_longest_missing(&mut self) -> Option<()> {
        let missing = self.of_service.iter().filter_map(|(name, vip)| Some((vip.absent_since?, name)));
        let name = missing.min()?.1.clone();
        let vip = self.of_service.remove(&name)?;
        self.of_address.remove(&vip.address);
        Some(())
    }
}

/// FNV-1a of the name's path, its high half folded in: the same on every node and in every release.
fn hash(name: &ServiceName) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.path().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The fold loses nothing that matters: any 32 bits of it will do.
    #[allow(clippy::cast_possible_truncation)]
    let folded = (hash ^ (hash >> 32)) as u32;
    folded ^ (folded >> 16)
}

fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
