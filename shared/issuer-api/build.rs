//! Generates the client and the server of `weft.issuer.v1`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = std::env::var("OUT_DIR")? + "/issuer.bin";
    tonic_prost_build::configure()
        .file_descriptor_set_path(descriptors)
        .compile_protos(&["weft/issuer/v1/issuer.proto"], &["."])?;
    Ok(())
}
