//! Clique: chat without a centre.

pub mod chat;
pub mod client;
pub mod clique;
pub mod config;
pub mod health;
pub mod node;
pub mod telemetry;
pub mod up;
pub mod wire;
