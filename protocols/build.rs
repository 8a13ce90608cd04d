//! Compiles `proto/*.proto` without `protoc`.

use std::error::Error;

const FILES: [&str; 10] =
    ["common", "hello", "register", "watch", "resolve", "admin", "produce", "fetch", "group", "gossip"];

fn main() -> Result<(), Box<dyn Error>> {
    let files = FILES.map(|name| format!("proto/{name}.proto"));
    for file in &files {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(&files, ["proto"])?;
    // `bytes` fields become `Bytes`: slices of the frame that they came in.
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
