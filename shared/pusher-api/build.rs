//! Generates the client and the server of `weft.pusher.v1`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = std::env::var("OUT_DIR")? + "/pusher.bin";
    tonic_prost_build::configure()
        .file_descriptor_set_path(descriptors)
        .compile_protos(&["weft/pusher/v1/pusher.proto"], &["."])?;
    Ok(())
}
