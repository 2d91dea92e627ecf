//! Free ports, away from those that services are known by.

use std::net::{Ipv4Addr, TcpListener};

use super::SuiteError;

/// From here on ports are looked for; systems give outgoing connections theirs from 32768 on.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;
/// Chat, gRPC and HTTP port of a node; a server takes two.
pub const BLOCK: u16 = 3;

/// The first port of each of `count` free blocks.
///
/// # Errors
/// If there are not so many.
pub fn free_blocks(count: usize) -> Result<Vec<u16>, SuiteError> {
    // Somewhere else each time, so that two measurements that begin at once do not choose the same.
    let blocks = (LAST - FIRST) / BLOCK;
    let start = rand::random::<u16>() % blocks;
    let all = (0..blocks).map(|block| FIRST + (start + block) % blocks * BLOCK);
    let is_free = |port: &u16| (*port..port + BLOCK).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    let found: Vec<u16> = all.filter(is_free).take(count).collect();
    if found.len() == count { Ok(found) } else { Err(SuiteError::NoPorts) }
}
