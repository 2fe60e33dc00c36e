//! Every target, for a moment. In a process of its own, since what is allocated is counted for the whole of it.

use std::process::Command;

#[test]
fn every_target_withstands_its_corpus_and_some_thousand_mutations() {
    let arguments = ["run", "all", "--seconds", "20", "--runs", "3000", "--seed", "7"];
    let output = Command::new(env!("CARGO_BIN_EXE_starling-fuzz")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
