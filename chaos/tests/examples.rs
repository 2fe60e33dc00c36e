//! Each example prints what its README says.

use std::path::Path;
use std::process::Command;

use starling_chaos::binary;

/// The last block of `text` in a README: what the example prints.
fn expected(readme: &str) -> &str {
    let (_, block) = readme.rsplit_once("```text\n").expect("a README that ends with the expected output");
    block.split("```").next().unwrap_or_default()
}

#[test]
fn two_services_print_what_their_readme_says() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/two-services");
    let readme = std::fs::read_to_string(example.join("README.md")).unwrap();
    let output = Command::new(example.join("run.sh")).env("STARLING", binary::starling()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected(&readme));
}
