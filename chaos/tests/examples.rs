//! Each example prints what its README says, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use starling_chaos::{binary, wait_until};
use tempfile::TempDir;

/// The last block of `text` in a README: what the example prints.
fn expected(readme: &str) -> &str {
    let (_, block) = readme.rsplit_once("```text\n").expect("a README that ends with the expected output");
    block.split("```").next().unwrap_or_default()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

#[test]
fn two_services_print_what_their_readme_says() {
    let example = example("two-services");
    let readme = std::fs::read_to_string(example.join("README.md")).unwrap();
    let output = Command::new(example.join("run.sh")).env("STARLING", binary::starling()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected(&readme));
}

/// The shop has fixed addresses: one at a time.
static SHOP: Mutex<()> = Mutex::new(());

/// The shop, with a directory of its own for all that it writes.
fn shop() -> (Command, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // PostgreSQL is another user's where the shop is run by root.
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut command = Command::new(example("shop").join("run.sh"));
    command.env("STARLING", binary::starling()).env("SHOP_ORDERS", binary::shop_orders()).env("TMPDIR", dir.path());
    (command, dir)
}

/// Processes that know of this directory: by an argument, a variable, or because they run there. (Redis and `PostgreSQL`
/// write over their arguments and variables.)
fn processes_of(dir: &Path) -> Vec<String> {
    let text = dir.to_str().unwrap();
    let says = |path: PathBuf| std::fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text));
    let runs = |path: PathBuf| std::fs::read_link(path).is_ok_and(|cwd| cwd.starts_with(dir));
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let known = processes
        .filter(|process| says(process.join("cmdline")) || says(process.join("environ")) || runs(process.join("cwd")));
    known.map(|process| std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned()).collect()
}

fn assert_nothing_stays(dir: &Path) {
    wait_until(Duration::from_secs(20), "all processes of the shop end", || processes_of(dir).is_empty());
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "files stay in {}", dir.display());
}

#[test]
fn the_shop_prints_what_its_readme_says() {
    let _alone = SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let readme = std::fs::read_to_string(example("shop").join("README.md")).unwrap();
    let (mut command, dir) = shop();
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected(&readme), "{stderr}");
    assert_nothing_stays(dir.path());
}

#[test]
fn a_shop_that_is_interrupted_leaves_nothing_behind() {
    let _alone = SHOP.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut command, dir) = shop();
    // As a terminal does it: the signal goes to all of the group.
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let opened = lines.any(|line| line.starts_with("== alice"));
    let running = processes_of(dir.path());
    killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    assert!(opened, "the shop ended before it opened: {status}");
    for program in ["starling", "node", "postgres", "redis-server", "shop-orders"] {
        assert!(running.iter().any(|name| name.contains(program)), "{program} is not among {running:?}");
    }
    assert_eq!(status.code(), Some(130));
    assert_nothing_stays(dir.path());
}
