//! The stage of the demo: three hosts on loopback, each a node and its services, every one a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

/// How long anything on the stage may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(25);

/// One service instance of a host.
struct Actor {
    name: &'static str,
    next: Option<&'static str>,
    address: SocketAddr,
    process: Option<Child>,
}

/// One host: a node, its configuration, and its services.
pub(super) struct Host {
    /// Its name: one letter.
    pub(super) name: &'static str,
    dir: PathBuf,
    gossip: u16,
    quic: u16,
    ways_out: Vec<(&'static str, SocketAddr)>,
    actors: Vec<Actor>,
    agent: Option<Child>,
}

/// What runs on a host: services, each with the one it calls.
pub(super) type Cast = &'static [(&'static str, Option<&'static str>)];

/// All hosts, in a directory that goes when the stage does. Processes still running are killed with it.
pub(super) struct Stage {
    hosts: Vec<Host>,
    dir: tempfile::TempDir,
}

/// A free loopback port for TCP and UDP, as far as one can know.
fn free_port() -> anyhow::Result<u16> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no loopback port is free for both TCP and UDP")
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))
}

impl Stage {
    /// An empty stage.
    ///
    /// # Errors
    /// If its directory cannot be made.
    pub(super) fn try_new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("starling-demo-").tempdir().context("a directory for the demo")?;
        Ok(Self { hosts: Vec::new(), dir })
    }

    /// Makes the mesh's root, an identity and a configuration for each host, and starts everything.
    ///
    /// # Errors
    /// If a file cannot be written, a port cannot be had, or a process does not start.
    pub(super) async fn set(&mut self, cast: &[(&'static str, Cast)]) -> anyhow::Result<()> {
        let ca = self.dir.path().join("CA");
        starling(&["ca", "init", "--trust-domain", "demo.example", "--dir"], &ca).await?;
        for (name, services) in cast {
            self.hosts.push(Host::new(self.dir.path(), &ca, name, services).await?);
        }
        let seeds: Vec<String> = self.hosts.iter().map(|host| format!("127.0.0.1:{}", host.quic)).collect();
        for host in &mut self.hosts {
            host.write_configuration(&seeds)?;
            host.start_services()?;
            host.start_agent()?;
        }
        Ok(())
    }

    /// Ends every process of the stage, and removes its directory with the mesh's keys.
    ///
    /// # Errors
    /// If the system refuses. Everything was tried then.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        let mut killed = Ok(());
        for host in &mut self.hosts {
            killed = killed.and(host.kill().await.map(|_| ()));
        }
        // A verb that was cut off may be about to write its last file.
        let path = self.dir.path();
        wait_until("the demo's directory to be removed", async || {
            std::fs::remove_dir_all(path).is_ok() || !path.exists()
        })
        .await?;
        killed
    }

    /// All hosts there are yet.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter()
    }

    /// The host of this name.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.name == name).expect("a host of the cast")
    }

    /// Waits until every host counts `alive` members and knows each of `services` with this many usable endpoints.
    ///
    /// # Errors
    /// If that does not come about in time.
    pub(super) async fn wait_for(&self, alive: usize, services: &[(&str, usize)]) -> anyhow::Result<Duration> {
        let start = Instant::now();
        for host in self.hosts.iter().filter(|host| host.agent.is_some()) {
            let what = format!("{alive} members and {services:?} as seen on host {}", host.name);
            wait_until(&what, async || {
                let members = host.ask(&["members"]).await.unwrap_or_default();
                let count = list(&members).filter(|m| m["state"] == "alive").count();
                let mut complete = count == alive;
                for (service, endpoints) in services {
                    let answer = host.ask(&["endpoints", service]).await.unwrap_or_default();
                    complete &= list(&answer).filter(|e| e["state"] == "ready").count() == *endpoints;
                }
                complete
            })
            .await?;
        }
        Ok(start.elapsed())
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Looks until `condition` holds.
///
/// # Errors
/// If it does not within 20 s; the error says `what` was waited for.
pub(super) async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !condition().await {
        if start.elapsed() > PATIENCE {
            bail!("waited {} s in vain for {what}; {}", PATIENCE.as_secs(), super::BUSY);
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(start.elapsed())
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("the path of this program")
}

/// Runs a verb of this program whose last argument is a path.
async fn starling(arguments: &[&str], path: &Path) -> anyhow::Result<()> {
    let output = Command::new(program()?).args(arguments).arg(path).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("starling {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Host {
    async fn new(root: &Path, ca: &Path, name: &'static str, services: Cast) -> anyhow::Result<Self> {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir)?;
        let ca = ca.to_string_lossy().into_owned();
        let mut arguments = vec!["ca", "issue", "--dir", &ca, "--name", name];
        for (service, _) in services {
            arguments.extend(["--service", service]);
        }
        arguments.push("--out");
        starling(&arguments, &dir.join("identity")).await?;
        let mut actors = Vec::new();
        let mut ways_out = Vec::new();
        for (service, next) in services {
            actors.push(Actor { name: service, next: *next, address: free_address()?, process: None });
            if let Some(next) = next {
                ways_out.push((*next, free_address()?));
            }
        }
        Ok(Self { name, dir, gossip: free_port()?, quic: free_port()?, ways_out, actors, agent: None })
    }

    /// Where a service of this host listens.
    ///
    /// # Panics
    /// If the host has no such service.
    pub(super) fn address_of(&self, service: &str) -> SocketAddr {
        self.actors.iter().find(|actor| actor.name == service).expect("a service of this host").address
    }

    fn write_configuration(&self, seeds: &[String]) -> anyhow::Result<()> {
        use std::fmt::Write as _;
        let (dir, name) = (self.dir.display(), self.name);
        let mut text = format!(
            "[node]\nname = {name:?}\ndata_dir = \"{dir}/data\"\nshards = 1\n\n\
             [mesh]\nadvertise = \"127.0.0.1\"\ngossip_port = {}\nquic_port = {}\nseeds = {seeds:?}\n\n\
             [identity]\ndir = \"{dir}/identity\"\n\n\
             [admin]\nsocket = \"{dir}/admin.sock\"\nlisten = \"127.0.0.1:{}\"\n\n\
             [dns]\nlisten = \"127.0.0.1:{}\"\n\n[capture]\nlisten = \"127.0.0.1:{}\"\n\n\
             [proxy]\nhttp = \"127.0.0.1:{}\"\n",
            self.gossip,
            self.quic,
            free_port()?,
            free_port()?,
            free_port()?,
            free_port()?,
        );
        for actor in &self.actors {
            write!(
                text,
                "\n[[service]]\nname = {:?}\naddress = \"{}\"\nprotocol = \"http\"\nport = 80\n",
                actor.name, actor.address
            )?;
        }
        for (service, address) in &self.ways_out {
            write!(text, "\n[[listener]]\naddress = \"{address}\"\nservice = {service:?}\n")?;
        }
        std::fs::write(self.dir.join("starling.toml"), text)?;
        Ok(())
    }

    fn log(&self, name: &str) -> anyhow::Result<std::fs::File> {
        let path = self.dir.join(format!("{name}.log"));
        Ok(std::fs::OpenOptions::new().create(true).append(true).open(path)?)
    }

    /// Starts this host's node.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(super) fn start_agent(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(program()?);
        command.args(["agent", "-c"]).arg(self.dir.join("starling.toml"));
        command.env_remove("STARLING_ADMIN").stdin(Stdio::null());
        command.stdout(self.log("agent")?).stderr(self.log("agent")?).kill_on_drop(true);
        self.agent = Some(command.spawn()?);
        Ok(())
    }

    fn start_services(&mut self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.actors.iter().map(|actor| actor.name).collect();
        names.into_iter().try_for_each(|name| self.start_service(name))
    }

    /// Starts one of this host's services.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub(super) fn start_service(&mut self, service: &str) -> anyhow::Result<()> {
        let log = self.log(service)?;
        let Some(actor) = self.actors.iter_mut().find(|actor| actor.name == service) else { return Ok(()) };
        let mut command = Command::new(program()?);
        command.args(["demo-service", "--name", actor.name, "--host", self.name]);
        command.args(["--listen", &actor.address.to_string()]);
        if let Some(next) = actor.next {
            let way_out = self.ways_out.iter().find(|(name, _)| *name == next).map(|(_, address)| address);
            command.args(["--next", next, "--next-address", &way_out.context("a way out")?.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        actor.process = Some(command.spawn()?);
        Ok(())
    }

    /// Kills one of this host's services with SIGKILL, and reaps it.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) async fn kill_service(&mut self, service: &str) -> anyhow::Result<Instant> {
        let actor = self.actors.iter_mut().find(|actor| actor.name == service).context("a service of this host")?;
        let mut process = actor.process.take().context("a running service")?;
        let at = Instant::now();
        process.kill().await?;
        Ok(at)
    }

    /// Kills this host's node and services with SIGKILL, all at once, and reaps them.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) async fn kill(&mut self) -> anyhow::Result<Instant> {
        let at = Instant::now();
        let mut victims: Vec<Child> = self.actors.iter_mut().filter_map(|actor| actor.process.take()).collect();
        victims.extend(self.agent.take());
        for victim in &mut victims {
            victim.start_kill()?;
        }
        for victim in &mut victims {
            victim.wait().await?;
        }
        Ok(at)
    }

    /// Starts the node and the services again.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(super) fn revive(&mut self) -> anyhow::Result<()> {
        self.start_services()?;
        self.start_agent()
    }

    /// Asks the node as a user would: `starling <arguments> -o json`.
    ///
    /// # Errors
    /// If the node does not answer, or not in JSON.
    pub(super) async fn ask(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(program()?);
        command.args(arguments).args(["-o", "json", "--admin"]).arg(self.dir.join("admin.sock"));
        let output = command.kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("starling {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The state that this host's node sees `member` in.
    ///
    /// # Errors
    /// If the node does not answer.
    pub(super) async fn state_of(&self, member: &str) -> anyhow::Result<String> {
        let members = self.ask(&["members"]).await?;
        let found = list(&members).find(|m| m["name"] == member).and_then(|m| m["state"].as_str());
        Ok(found.unwrap_or("unknown").to_owned())
    }

    /// Requests that this host's node has sent again.
    ///
    /// # Errors
    /// If the node does not answer.
    pub(super) async fn retries(&self) -> anyhow::Result<u64> {
        let routes = self.ask(&["stat"]).await?;
        Ok(list(&routes).filter_map(|route| route["retries"].as_u64()).sum())
    }

    /// Is the node's process running?
    #[must_use]
    pub(super) const fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// The last lines of the node's log, for an error message.
    #[must_use]
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}
