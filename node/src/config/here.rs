//! What a configuration says of this host, held against it.

use nix::unistd;

use super::problem::{ConfigError, Problem};
use super::{Loaded, User};
use crate::sock_diag::control_groups;

impl User {
    /// Its number on this host; `None` if there is no user of that name.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        match self {
            Self::Id(id) => Some(*id),
            Self::Name(name) => unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw()),
        }
    }
}

impl Loaded {
    /// Are the users, control groups and network namespaces that it names to be had on this host?
    ///
    /// # Errors
    /// All that are not.
    pub fn check_here(&self) -> Result<(), ConfigError> {
        let mut problems: Vec<Problem> = Vec::new();
        for (service, keys) in self.config.services.iter().zip(&self.services) {
            if let (Some(user), Some(key)) = (&service.user, &keys.user)
                && user.uid().is_none()
            {
                let User::Name(name) = user else { continue };
                let what = format!("this host has no user '{name}'");
                problems.push(key.problem(what, "make it first, or write the number of another"));
            }
            if let (Some(_), Some(key)) = (&service.cgroup, &keys.cgroup)
                && control_groups().is_none()
            {
                let hint = "mount it, or tell programs apart by user, listener or namespace";
                problems.push(key.problem("this host has no control groups of version 2 (cgroup2) mounted", hint));
            }
        }
        for (namespace, keys) in self.config.capture.namespaces.iter().zip(&self.namespaces) {
            if let Err(error) = std::fs::File::open(&namespace.path) {
                let what = format!("'{}' cannot be opened: {error}", namespace.path.display());
                problems.push(keys.path.problem(what, "make it before the agent starts, as `ip netns add NAME` does"));
            }
        }
        ConfigError::check(problems)
    }
}
