//! Bytes ⇄ types: the raw TCP dialects, the extended frames, and the gRPC messages between nodes.
//!
//! No sockets, clocks or async. `proto` alone knows the types that are generated from `proto/`.

pub mod dialect;
pub mod entry;
pub mod extended;
mod fields;
pub mod frames;
pub mod lines;
pub mod peer;
pub mod peer_codec;
pub mod proto;
pub mod traceparent;

pub use dialect::Dialect;

/// Bytes that do not say what they should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("malformed {0}; the other side speaks another protocol or version")]
    Malformed(&'static str),
}
