//! The shell: sockets, clocks, tasks.
pub mod hub;
