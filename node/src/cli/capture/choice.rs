use std::collections::BTreeSet;
use std::fmt::Display;

use clap::Args;
use ipnet::IpNet;
use nix::unistd;

use super::super::failure::{Exit, Failure};
use crate::capture::{self, Selection};
use crate::config::User;

/// The user that the packages run the agent as.
const AGENT: &str = "starling";

/// What is captured beside the VIPs.
#[derive(Debug, Args)]
pub(in super::super) struct Choice {
    /// Captures TCP to this port; with --user, of that user only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
    /// Captures TCP of this user, by name or number
    #[arg(long, value_name = "USER")]
    user: Vec<String>,
    /// Captures TCP of this group, by name or number
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// Captures all TCP that leaves the host; the default with --netns
    #[arg(long, conflicts_with_all = ["port", "user", "group"])]
    all: bool,
    /// Never captures TCP to this port
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    exclude_port: Vec<u16>,
    /// Never captures TCP to this network or address
    #[arg(long, value_name = "CIDR", value_parser = capture::network)]
    exclude_cidr: Vec<IpNet>,
    /// The user that an agent without privilege runs as, whose own connections are never captured [default: starling, where
    /// there is such a user]
    #[arg(long, value_name = "USER")]
    agent_user: Option<String>,
    /// Resets what other hosts send to this TCP port: they must come through the mesh
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    shut: Vec<u16>,
}

impl Choice {
    /// What is chosen; a whole namespace if nothing else is said of it.
    pub(super) fn selection(self, of_namespace: bool, mesh_ports: [u16; 2]) -> Result<Selection, Failure> {
        let nothing = self.port.is_empty() && self.user.is_empty() && self.group.is_empty();
        let agent_users = match &self.agent_user {
            Some(name) => Some(uid(name)?),
            None => User::Name(AGENT.to_owned()).uid(),
        };
        if agent_users == Some(0) {
            let what = "the agent's user is root, whose programs would none be captured";
            return Err(Failure::new(
                Exit::Failed,
                what,
                "leave --agent-user out: an agent of root marks its connections",
            ));
        }
        Ok(Selection {
            all: self.all || (of_namespace && nothing),
            ports: self.port.into_iter().collect(),
            users: self.user.iter().map(|name| uid(name)).collect::<Result<_, _>>()?,
            groups: self.group.iter().map(|name| gid(name)).collect::<Result<_, _>>()?,
            exclude_ports: self.exclude_port.into_iter().chain(mesh_ports).collect(),
            exclude_nets: self.exclude_cidr,
            agent_users: agent_users.into_iter().collect(),
            shut: self.shut.into_iter().collect(),
        })
    }
}

fn uid(text: &str) -> Result<u32, Failure> {
    let user = text.parse().map_or_else(|_| User::Name(text.to_owned()), User::Id);
    user.uid().ok_or_else(|| Failure::new(Exit::NotFound, format!("this host has no user '{text}'"), ""))
}

fn gid(text: &str) -> Result<u32, Failure> {
    let named = || unistd::Group::from_name(text).ok().flatten().map(|group| group.gid.as_raw());
    let none = || Failure::new(Exit::NotFound, format!("this host has no group '{text}'"), "");
    text.parse().ok().or_else(named).ok_or_else(none)
}

/// `5432, 6379`
pub(super) fn listed<T: Display>(all: &BTreeSet<T>) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is captured beside the VIPs, if anything is.
pub(super) fn in_words(selection: &Selection) -> Option<String> {
    if !selection.captures() {
        return None;
    }
    if selection.all {
        return Some("all TCP".to_owned());
    }
    let mut owners = Vec::new();
    if !selection.users.is_empty() {
        owners.push(format!("user {}", listed(&selection.users)));
    }
    if !selection.groups.is_empty() {
        owners.push(format!("group {}", listed(&selection.groups)));
    }
    let ports = (!selection.ports.is_empty()).then(|| format!(" to port {}", listed(&selection.ports)));
    let owners = (!owners.is_empty()).then(|| format!(" of {}", owners.join(" or ")));
    Some(format!("TCP{}{}", ports.unwrap_or_default(), owners.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_told_in_words() {
        let ports = Selection { ports: [80, 5432].into(), ..Selection::default() };
        assert_eq!(in_words(&ports).as_deref(), Some("TCP to port 80, 5432"));
        let users = Selection { users: [7].into(), groups: [9].into(), ..ports };
        assert_eq!(in_words(&users).as_deref(), Some("TCP to port 80, 5432 of user 7 or group 9"));
        assert_eq!(in_words(&Selection { all: true, ..users }).as_deref(), Some("all TCP"));
        assert_eq!(in_words(&Selection { shut: [1].into(), ..Selection::default() }), None);
    }
}
