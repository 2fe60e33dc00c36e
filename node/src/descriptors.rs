//! How many files and sockets this process may have open, and how many of them connections of local programs may take.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What is believed where the system does not say: the usual limit of a shell.
const USUAL: u64 = 1_024;
/// However few there are, each shard serves some connections.
const LEAST: usize = 16;
/// More than one shard can carry.
const MOST: usize = 65_536;

/// Raises the limit of this process to the most that it is allowed.
pub(crate) fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays at {soft}");
    }
}

/// Connections of local programs that each of `shards` may have open. Half of all descriptors together: the rest is for what
/// others want of this host, and for the node itself, whatever local programs do.
pub(crate) fn places(shards: usize) -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(USUAL, |(soft, _)| soft);
    share(limit, shards)
}

fn share(limit: u64, shards: usize) -> usize {
    let half = usize::try_from(limit / 2).unwrap_or(usize::MAX);
    (half / shards.max(1)).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_programs_get_half_of_what_there_is() {
        assert_eq!(share(1_024, 2), 256);
        assert_eq!(share(65_536, 8), 4_096);
        assert_eq!(share(20, 4), LEAST);
        assert_eq!(share(u64::MAX, 1), MOST);
    }
}
