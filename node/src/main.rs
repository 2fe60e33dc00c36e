//! The binary `starling`: one screen, since everything it does is a verb of [`starling::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A request allocates some dozens of small things on one thread and frees them there: docs/performance.md has what this
/// saves over the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    starling::cli::run()
}
