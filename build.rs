//! Compiles `proto/` without `protoc`, and keeps the descriptor set for gRPC reflection.

use std::{env, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["clique/v1/peer.proto", "clique/v1/client.proto"], ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("clique.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        // The stream carries our own frame type: entries pass through as the bytes they were accepted as.
        .extern_path(".clique.v1.PeerFrame", "crate::wire::peer::PeerFrame")
        .codec_path("crate::wire::peer_codec::PeerCodec")
        .compile_fds(files)?;
    Ok(())
}
