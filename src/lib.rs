//! Clique: a chat service without a centre.

pub mod chat;
pub mod clique;
pub mod node;
pub mod wire;
