//! Compiles `mesh/v1/*.proto` with protox, so that no `protoc` is needed on a fresh machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "mesh/v1/hop.proto",
        "mesh/v1/membership.proto",
        "mesh/v1/catalog.proto",
        "mesh/v1/keyring.proto",
        "mesh/v1/control.proto",
        "mesh/v1/policy.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.btree_map(["."]);
    // A secret: it is shown by hand, without its key.
    config.skip_debug([".mesh.v1.GroupKey"]);
    config.compile_fds(descriptors)?;
    Ok(())
}
