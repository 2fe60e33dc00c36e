//! A mesh of real agents, a host each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::host::{Host, NOBODY, Output, Process, Program};
use crate::{Net, binary, wait_until};

mod node_config;

pub use node_config::{NodeConfig, ServiceConfig};

/// The mesh's trust domain.
const TRUST_DOMAIN: &str = "chaos.example";

/// Nodes that the others ask for admission, unless it is said: more than one, so that each may be away.
const SEEDS: usize = 3;

/// What mesh to start.
#[derive(Debug, Clone)]
pub struct MeshPlan {
    name: String,
    hosts: usize,
    seeds: usize,
    unprivileged: bool,
    captured: bool,
}

/// A mesh of agents; ended and removed when dropped.
pub struct MeshOfHosts {
    // Agents end before their hosts.
    nodes: Vec<MeshNode>,
    net: Net,
    starling: PathBuf,
}

/// The agent of a host, running or not.
pub struct MeshNode {
    name: String,
    config: PathBuf,
    socket: PathBuf,
    unprivileged: bool,
    agent: Option<Process>,
}

impl MeshPlan {
    /// A mesh of that many hosts, whose agents run as root of their hosts and without `starling capture install`.
    pub fn new(name: &str, hosts: usize) -> Self {
        Self { name: name.to_owned(), hosts, seeds: SEEDS, unprivileged: false, captured: false }
    }

    /// The agents run without any privilege.
    #[must_use]
    pub const fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// `starling capture install` is run on every host before its agent.
    #[must_use]
    pub const fn captured(mut self) -> Self {
        self.captured = true;
        self
    }

    /// So many nodes, the first ones, are the seeds of all.
    #[must_use]
    pub const fn seeds(mut self, seeds: usize) -> Self {
        self.seeds = seeds;
        self
    }

    /// Starts it, as [`MeshPlan::lay_out`] made it. Returns without waiting for anything.
    #[track_caller]
    pub fn start(&self, complete: impl FnMut(usize, &mut NodeConfig)) -> MeshOfHosts {
        let mut mesh = self.lay_out(complete);
        (0..self.hosts).for_each(|number| mesh.start_agent(number));
        mesh
    }

    /// Makes hosts, certificates and configurations, and starts no agent. The closure gets each node's number and completes
    /// its configuration, which has a name (`node-0`...), an address, seeds, an identity, files of its own and nothing to
    /// offer.
    #[track_caller]
    pub fn lay_out(&self, mut complete: impl FnMut(usize, &mut NodeConfig)) -> MeshOfHosts {
        let net = Net::new(&self.name, self.hosts);
        let starling = net.within_reach(&binary::starling());
        let ca = net.directory().join("ca");
        let run = |host: &Host, arguments: &[&str]| {
            host.run(&starling, arguments).expect_success(&format!("starling {}", arguments.join(" ")));
        };
        run(net.host(0), &["ca", "init", "--dir", &text(&ca), "--trust-domain", TRUST_DOMAIN]);
        let seeds: Vec<String> =
            net.hosts().iter().take(self.seeds).map(|host| format!("{}:7947", host.address())).collect();
        let mut nodes = Vec::new();
        for host in net.hosts() {
            let name = format!("node-{}", host.number());
            let mut config = NodeConfig::new(&name, host, &seeds);
            complete(host.number(), &mut config);
            let mut issue =
                vec!["ca".to_owned(), "issue".into(), "--dir".into(), text(&ca), "--name".into(), name.clone()];
            issue.extend(config.service_names().flat_map(|service| ["--service".to_owned(), service.to_owned()]));
            issue.extend(["--out".to_owned(), text(&config.identity())]);
            run(host, &issue.iter().map(String::as_str).collect::<Vec<_>>());
            let path = host.directory().join("starling.toml");
            fs::write(&path, config.to_toml()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if self.unprivileged && !host.is_rootless() {
                give_away(host.directory());
            }
            if self.captured {
                run(host, &["capture", "install", "-c", &text(&path)]);
            }
            let socket = config.socket();
            nodes.push(MeshNode { name, config: path, socket, unprivileged: self.unprivileged, agent: None });
        }
        MeshOfHosts { nodes, net, starling }
    }
}

impl MeshOfHosts {
    /// The hosts and what is between them.
    pub const fn net(&self) -> &Net {
        &self.net
    }

    /// A host.
    pub fn host(&self, number: usize) -> &Host {
        self.net.host(number)
    }

    /// A node.
    pub fn node(&self, number: usize) -> &MeshNode {
        &self.nodes[number]
    }

    /// The agent of a node that runs.
    #[track_caller]
    pub fn agent(&mut self, number: usize) -> &mut Process {
        let node = &mut self.nodes[number];
        node.agent.as_mut().unwrap_or_else(|| panic!("{} has no agent", node.name))
    }

    /// Starts a node's agent, again if it was killed.
    #[track_caller]
    pub fn start_agent(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let mut program = Program::new(&self.starling);
        program.arg("agent").arg("-c").arg(&node.config).env("RUST_BACKTRACE", "1");
        if node.unprivileged {
            program.unprivileged();
        }
        node.agent = None;
        node.agent = Some(self.net.host(number).spawn(&program));
    }

    /// Ends all that runs on a host, its agent and its services, with SIGKILL.
    pub fn kill9(&mut self, number: usize) {
        self.net.host(number).kill9();
        self.nodes[number].agent = None;
    }

    /// Runs the command line against a node's agent, as root of its host.
    #[track_caller]
    pub fn starling(&self, number: usize, arguments: &[&str]) -> Output {
        let mut program = Program::new(&self.starling);
        program.args(arguments).env("STARLING_ADMIN", &self.nodes[number].socket);
        self.net.host(number).run_program(&program)
    }

    /// The members as a node sees them: name and state; none while its agent does not answer.
    pub fn members(&self, number: usize) -> Vec<(String, String)> {
        let output = self.starling(number, &["members", "-o", "json"]);
        let members: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
        let word = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_ascii_lowercase();
        members.iter().map(|member| (word(member, "name"), word(member, "state"))).collect()
    }

    /// What a node believes of another: `alive`, `suspect`, `down`, `left`; none if it knows nothing.
    pub fn state(&self, seen_by: usize, of: usize) -> Option<String> {
        let name = &self.nodes[of].name;
        self.members(seen_by).into_iter().find(|(member, _)| member == name).map(|(_, state)| state)
    }

    /// Waits until every node sees every node alive, and says how long that took.
    #[track_caller]
    pub fn wait_until_whole(&self, deadline: Duration) -> Duration {
        let count = self.nodes.len();
        let alive = |seen_by| self.members(seen_by).iter().filter(|(_, state)| state == "alive").count();
        wait_until(deadline, "every node sees every node alive", || (0..count).all(|seen_by| alive(seen_by) == count))
    }
}

impl MeshNode {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Where its agent is spoken to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Makes all in a directory the property of the user that unprivileged programs run as.
fn give_away(directory: &Path) {
    let failed = |error: std::io::Error| panic!("{} was not given away: {error}", directory.display());
    std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap_or_else(failed);
    for entry in fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display())).flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => give_away(&entry.path()),
            _ => std::os::unix::fs::chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap_or_else(failed),
        }
    }
}
