//! Generates the client and the server of `weft.issuer.v1`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::compile_protos("weft/issuer/v1/issuer.proto")?;
    Ok(())
}
