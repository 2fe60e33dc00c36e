//! Which service a program of this host is: by the user and the control group that its socket belongs to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use starling_proto::ServiceName;
use tokio::net::TcpStream;

use super::peer_socket;
use crate::config::Config;
use crate::sock_diag::{SocketOwner, control_groups, is_within};

/// Control groups whose place is remembered, at most.
const KNOWN_MAX: usize = 1_024;

/// Knows who calls.
#[derive(Debug)]
pub(crate) struct Attestor {
    /// Those of the node's services that say who their programs are.
    declared: Vec<Declared>,
    /// For whom a caller speaks that is none of these; `None`: for the node itself.
    otherwise: Option<ServiceName>,
    /// Which of `declared` a control group lies in. A group's number is never given to another.
    groups: Mutex<HashMap<u64, Box<[bool]>>>,
}

#[derive(Debug)]
struct Declared {
    service: ServiceName,
    uid: Option<u32>,
    /// The group's directory.
    group: Option<PathBuf>,
}

impl Attestor {
    /// As the services of a configuration say.
    pub(crate) fn new(config: &Config) -> Self {
        let root = control_groups().unwrap_or_default();
        let group = |path: &PathBuf| root.join(path.strip_prefix("/").unwrap_or(path));
        let says = |service: &&crate::config::Service| service.user.is_some() || service.cgroup.is_some();
        let declared = config.services.iter().filter(says).map(|service| Declared {
            service: service.name.clone(),
            // A user that has gone since the start matches nobody: no socket belongs to the highest number.
            uid: service.user.as_ref().map(|user| user.uid().unwrap_or(u32::MAX)),
            group: service.cgroup.as_ref().map(group),
        });
        // A node of one service speaks for it; of several it cannot be told which of them calls.
        let otherwise = match &config.services[..] {
            [only] if only.user.is_none() && only.cgroup.is_none() => Some(only.name.clone()),
            _ => None,
        };
        Self { declared: declared.collect(), otherwise, groups: Mutex::default() }
    }

    /// For whom a caller speaks that nothing is known of.
    pub(crate) fn only(&self) -> Option<ServiceName> {
        self.otherwise.clone()
    }

    /// The service whose program opened this connection.
    pub(crate) fn source_of(&self, stream: &TcpStream) -> Option<ServiceName> {
        if self.declared.is_empty() {
            return self.otherwise.clone();
        }
        match peer_socket::owner(stream) {
            Ok(Some(owner)) => self.service_of(owner),
            Ok(None) => self.otherwise.clone(),
            Err(error) => {
                tracing::warn!(%error, "it cannot be told who calls");
                self.otherwise.clone()
            }
        }
    }

    fn service_of(&self, owner: SocketOwner) -> Option<ServiceName> {
        if owner.orphaned && owner.uid == 0 {
            // What the kernel keeps of a connection that has ended has no owner any more, and says 0.
            return self.otherwise.clone();
        }
        let groups = owner.cgroup.filter(|_| self.declared.iter().any(|declared| declared.group.is_some()));
        let within = groups.map(|number| self.within(number));
        let fits = |(index, declared): &(usize, &Declared)| {
            let in_group = || within.as_ref().is_some_and(|within| within.get(*index) == Some(&true));
            declared.uid.is_none_or(|uid| uid == owner.uid) && (declared.group.is_none() || in_group())
        };
        let mut fitting = self.declared.iter().enumerate().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some((_, only)), None) => Some(only.service.clone()),
            _ => self.otherwise.clone(),
        }
    }

    fn within(&self, number: u64) -> Box<[bool]> {
        let known = self.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned();
        known.unwrap_or_else(|| {
            let lies_in = |declared: &Declared| declared.group.as_ref().is_some_and(|top| is_within(top, number));
            let found: Box<[bool]> = self.declared.iter().map(lies_in).collect();
            let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
            if groups.len() >= KNOWN_MAX {
                groups.clear();
            }
            groups.insert(number, found.clone());
            found
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn attestor(declared: Vec<(&str, Option<u32>, Option<PathBuf>)>) -> Attestor {
        let declared = declared
            .into_iter()
            .map(|(service, uid, group)| Declared { service: service.parse().unwrap(), uid, group })
            .collect();
        Attestor { declared, otherwise: None, groups: Mutex::default() }
    }

    fn owner(uid: u32, cgroup: Option<u64>) -> SocketOwner {
        SocketOwner { uid, cgroup, orphaned: false }
    }

    fn says(attestor: &Attestor, owner: SocketOwner) -> Option<String> {
        attestor.service_of(owner).map(|service| service.to_string())
    }

    #[test]
    fn exactly_one_service_must_fit() {
        let attestor = attestor(vec![("web", Some(1000), None), ("api", Some(1001), None), ("job", Some(1001), None)]);
        assert_eq!(says(&attestor, owner(1000, None)).as_deref(), Some("web"));
        assert_eq!(says(&attestor, owner(1001, None)), None, "it may be either");
        assert_eq!(says(&attestor, owner(0, None)), None, "not even root is one of them");
    }

    #[test]
    fn what_is_left_of_a_connection_is_not_roots() {
        let attestor = attestor(vec![("admin", Some(0), None)]);
        assert_eq!(says(&attestor, owner(0, None)).as_deref(), Some("admin"));
        assert_eq!(says(&attestor, SocketOwner { orphaned: true, ..owner(0, None) }), None);
    }

    #[test]
    fn a_group_counts_with_all_below_it_and_together_with_the_user() {
        let root = tempfile::tempdir().unwrap();
        let directory = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(&path).unwrap();
            (std::fs::metadata(&path).unwrap().ino(), path)
        };
        let ((web, web_path), (deep, _), (other, _)) = (directory("web"), directory("web/1"), directory("other"));
        let attestor = attestor(vec![("web", Some(1000), Some(web_path.clone())), ("any", None, Some(web_path))]);
        assert_eq!(says(&attestor, owner(7, Some(web))).as_deref(), Some("any"));
        assert_eq!(says(&attestor, owner(7, Some(deep))).as_deref(), Some("any"));
        assert_eq!(says(&attestor, owner(1000, Some(deep))), None, "both fit");
        assert_eq!(says(&attestor, owner(1000, Some(other))), None);
        assert_eq!(says(&attestor, owner(1000, None)), None, "the kernel does not say");
    }
}
