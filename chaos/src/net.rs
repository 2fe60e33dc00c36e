use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;

use crate::host::Host;

mod namespaces;

pub(crate) use namespaces::Namespaces;

/// The most hosts on one bridge: addresses are 10.78.0.1 to 10.78.0.200.
const MOST_HOSTS: usize = 200;

/// From so many hosts on each is told where the others are, in place of asking: the kernel's table of neighbours is one for
/// all namespaces, and where it is full (1,024 entries) packets are lost that no network would lose.
const MANY_HOSTS: usize = 24;

/// Hosts on one bridge. The bridge has a namespace of its own, so that every net may use the same addresses and many
/// nets may stand side by side.
pub struct Net {
    // Hosts go before the switch they hang on, and both before the files their processes write.
    hosts: Vec<Host>,
    switch: Arc<Switch>,
    directory: TempDir,
}

/// Why there are no hosts on this machine.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A program is missing.
    #[error("'{program}' is missing: install {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// Where it comes from on Debian.
        package: &'static str,
    },
    /// Neither as root nor in a user namespace.
    #[error(
        "this machine grants no network namespaces ({0}): run as root with CAP_SYS_ADMIN, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )]
    NoNamespaces(String),
    /// A step of the set-up failed.
    #[error("{step} failed: {reason}")]
    Step {
        /// What was tried.
        step: String,
        /// What it said.
        reason: String,
    },
    /// More hosts than a net has addresses.
    #[error("a net has 1 to {MOST_HOSTS} hosts, not {0}")]
    Count(usize),
}

pub(crate) struct Switch {
    namespaces: Namespaces,
    cuts: Mutex<Cuts>,
}

/// Directed pairs of ports that nothing passes, by the cut that wants them.
#[derive(Default)]
struct Cuts {
    next: u64,
    standing: BTreeMap<u64, Vec<(usize, usize)>>,
}

/// A partition. It heals when this is dropped.
#[must_use = "the partition heals at once when this is dropped"]
pub struct Cut {
    switch: Arc<Switch>,
    number: u64,
}

impl Net {
    /// Hosts on one bridge, as [`Net::try_new`]; panics with the reason where that is not possible, so that a test which
    /// can't run fails.
    #[track_caller]
    pub fn new(name: &str, hosts: usize) -> Self {
        Self::try_new(name, hosts).unwrap_or_else(|error| panic!("no hosts for '{name}': {error}"))
    }

    /// That many hosts on one bridge, with addresses from 10.78.0.1 on. As root, or else in a user namespace.
    pub fn try_new(name: &str, hosts: usize) -> Result<Self, HostsError> {
        if !(1..=MOST_HOSTS).contains(&hosts) {
            return Err(HostsError::Count(hosts));
        }
        let step = |reason: std::io::Error| HostsError::Step { step: "a directory".into(), reason: reason.to_string() };
        let directory = tempfile::Builder::new()
            .prefix(&format!("starling-{name}-{}-", std::process::id()))
            .tempdir()
            .map_err(step)?;
        // Unprivileged programs of the hosts must reach what is theirs in it.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).map_err(step)?;
        let namespaces = Namespaces::first(directory.path())?;
        namespaces.batch("link set lo up\nlink add br0 type bridge stp_state 0 forward_delay 0\nlink set br0 up\n")?;
        let switch = Arc::new(Switch { namespaces, cuts: Mutex::default() });
        let hosts = (0..hosts).map(|number| switch.plug(number, directory.path())).collect::<Result<_, _>>()?;
        let net = Self { hosts, switch, directory };
        if net.hosts.len() >= MANY_HOSTS {
            net.hosts.iter().try_for_each(|host| host.learn_neighbours(&net.hosts))?;
        }
        Ok(net)
    }

    /// The host of that number, from 0.
    pub fn host(&self, number: usize) -> &Host {
        &self.hosts[number]
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// A directory for this net's files, gone with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The program where unprivileged programs of the hosts can run it: itself, or a copy in this net's directory if it
    /// lies where another user may not look (a home directory).
    #[track_caller]
    pub fn within_reach(&self, program: &Path) -> PathBuf {
        let open_to_all = |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if program.ancestors().filter(|part| !part.as_os_str().is_empty()).all(open_to_all) {
            return program.to_owned();
        }
        let copy = self.directory().join(program.file_name().unwrap_or_default());
        if !copy.exists() {
            fs::copy(program, &copy).unwrap_or_else(|error| panic!("{} was not copied: {error}", program.display()));
        }
        copy
    }

    /// Nothing passes between these hosts and those, either way.
    pub fn partition(&self, these: &[usize], those: &[usize]) -> Cut {
        let both = these.iter().flat_map(|one| those.iter().flat_map(|other| [(*one, *other), (*other, *one)]));
        self.cut(both.collect())
    }

    /// Nothing passes from these hosts to those; the other way is open.
    pub fn one_way_cut(&self, from: &[usize], to: &[usize]) -> Cut {
        self.cut(from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect())
    }

    fn cut(&self, pairs: Vec<(usize, usize)>) -> Cut {
        let number = self.switch.with_cuts(|cuts| cuts.add(pairs));
        Cut { switch: Arc::clone(&self.switch), number: number.unwrap_or_else(|error| panic!("no partition: {error}")) }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // All at once: each is waited for when its host is dropped.
        self.hosts.iter_mut().for_each(Host::begin_end);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let healed = self.switch.with_cuts(|cuts| cuts.standing.remove(&self.number));
        if let Err(error) = healed {
            eprintln!("a partition did not heal: {error}");
        }
    }
}

/// Of the host with this address: locally administered, and the same four bytes.
pub(crate) fn hardware_address(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

impl Switch {
    fn plug(self: &Arc<Self>, number: usize, directory: &Path) -> Result<Host, HostsError> {
        let namespaces = self.namespaces.another()?;
        let pid = namespaces.pid();
        let last = u8::try_from(number + 1).map_err(|_| HostsError::Count(number))?;
        let address = Ipv4Addr::new(10, 78, 0, last);
        self.namespaces.batch(&format!(
            "link add p{number} type veth peer name eth0 address {} netns {pid}\nlink set p{number} master br0 up\n",
            hardware_address(address)
        ))?;
        namespaces.batch(&format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n"))?;
        let directory: PathBuf = directory.join(format!("host-{number}"));
        Host::try_new(number, address, namespaces, Arc::clone(self), directory)
    }

    /// Pulls the host's cable, or plugs it in again.
    pub(crate) fn set_link(&self, number: usize, up: bool) -> Result<(), HostsError> {
        self.namespaces.batch(&format!("link set p{number} {}\n", if up { "up" } else { "down" }))
    }

    /// Changes the cuts and puts all of them into force in one step.
    fn with_cuts<R>(&self, change: impl FnOnce(&mut Cuts) -> R) -> Result<R, HostsError> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut cuts);
        self.namespaces.feed("nft", &["-f", "-"], &cuts.ruleset())?;
        Ok(result)
    }
}

impl Cuts {
    fn add(&mut self, pairs: Vec<(usize, usize)>) -> u64 {
        self.next += 1;
        self.standing.insert(self.next, pairs);
        self.next
    }

    fn ruleset(&self) -> String {
        let rules = self.standing.values().flatten();
        let rules: Vec<String> = rules.map(|(from, to)| format!("iifname p{from} oifname p{to} drop")).collect();
        format!(
            "table bridge chaos {{}}\ndelete table bridge chaos\ntable bridge chaos {{\nchain forward {{\n\
             type filter hook forward priority 0; policy accept;\n{}\n}}\n}}\n",
            rules.join("\n")
        )
    }
}
