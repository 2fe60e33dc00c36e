//! The binary `starling`: one screen, since everything it does is a verb of [`starling::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    starling::cli::run()
}
