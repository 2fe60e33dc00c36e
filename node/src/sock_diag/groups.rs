//! Control groups (version 2): a socket's group is known by number, which is the inode of the group's directory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories that are looked through below one group. More are no tree of a service.
const MOST_DIRECTORIES: usize = 4096;

/// Where the hierarchy is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside the old ones. `None` if nowhere.
pub(crate) fn control_groups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounted(&mounts)
}

fn mounted(mounts: &str) -> Option<PathBuf> {
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then_some(point)
    })?;
    Some(PathBuf::from(mount.replace("\\040", " ")))
}

/// Is the group of this number the one at `top`, or one below it? A group that is gone is not.
pub(crate) fn is_within(top: &Path, number: u64) -> bool {
    let mut left = vec![top.to_owned()];
    for _ in 0..MOST_DIRECTORIES {
        let Some(directory) = left.pop() else { return false };
        let Ok(found) = fs::metadata(&directory) else { continue };
        if found.ino() == number {
            return true;
        }
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        left.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    tracing::warn!(group = %top.display(), "has more control groups below it than are looked through");
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mounted(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mounted("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn a_group_is_found_below_another_and_not_beside_it() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("web.service/a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir(top.path().join("web.service2")).unwrap();
        let number = |path: &str| fs::metadata(top.path().join(path)).unwrap().ino();
        let web = top.path().join("web.service");
        assert!(is_within(&web, number("web.service")));
        assert!(is_within(&web, number("web.service/a/b")));
        assert!(!is_within(&web, number("web.service2")), "whole names count");
        assert!(!is_within(&top.path().join("gone"), number("web.service")));
    }
}
