//! Compiles the schema without a system `protoc`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    // No frame has a `MessageBody`: it is between clients.
    let roots = ["columba/v1/frame.proto", "columba/v1/message.proto"];
    let descriptors = protox::compile(roots, ["proto"])?;
    // A change is rare, and would make every frame twice as large in memory.
    let rare = ["columba.v1.Send.change", "columba.v1.Deliver.change"];
    let mut config = prost_build::Config::new();
    rare.iter().for_each(|field| {
        config.boxed(field);
    });
    config.bytes(["."]).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
