//! The programs under test, built once a process.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// The binary `starling`: `$STARLING_BIN`, or what `cargo build` makes of this workspace in this profile. Panics with
/// cargo's words where it can't be built.
pub fn starling() -> PathBuf {
    static FOUND: LazyLock<PathBuf> =
        LazyLock::new(|| given("STARLING_BIN").unwrap_or_else(|| build("starling", "bin", "starling")));
    FOUND.clone()
}

/// The binary `starling-chaos`: `$STARLING_CHAOS_BIN`, or built as [`starling`] is.
pub fn starling_chaos() -> PathBuf {
    static FOUND: LazyLock<PathBuf> = LazyLock::new(|| {
        let itself = || env::current_exe().ok().filter(|exe| exe.file_name() == Some(OsStr::new("starling-chaos")));
        let found = given("STARLING_CHAOS_BIN").or_else(itself);
        found.unwrap_or_else(|| build("starling-chaos", "bin", "starling-chaos"))
    });
    FOUND.clone()
}

/// The Rust program of the example shop: `$SHOP_ORDERS`, or built as [`starling`] is.
pub fn shop_orders() -> PathBuf {
    given("SHOP_ORDERS").unwrap_or_else(|| build("starling-shop-orders", "bin", "shop-orders"))
}

/// An example of a room, built as [`starling`] is.
pub fn example(package: &str, name: &str) -> PathBuf {
    build(package, "example", name)
}

fn given(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn build(package: &str, kind: &str, binary: &str) -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--message-format=json-render-diagnostics", "-p", package]);
    command.arg(format!("--{kind}")).arg(binary);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = command.output().unwrap_or_else(|error| panic!("cargo could not be run: {error}"));
    assert!(output.status.success(), "cargo did not build {binary}; its words stand above");
    let messages = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut made = messages.filter_map(|message: Value| {
        let ours = message["target"]["name"] == binary && message["target"]["kind"][0] == kind;
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    made.next_back().unwrap_or_else(|| panic!("cargo built {binary} and did not say where"))
}
