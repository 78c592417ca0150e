//! Generates the client and the server of `weft.pusher.v1`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::compile_protos("weft/pusher/v1/pusher.proto")?;
    Ok(())
}
