//! Compiles the schema without a system `protoc`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = protox::compile(["columba/v1/frame.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
