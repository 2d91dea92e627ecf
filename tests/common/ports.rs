//! Ports that no other test has, in this process or another.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which the system takes the ports of outgoing connections.
const FIRST: u16 = 10_000;
const BLOCKS: u32 = 5_500;
/// Chat, gRPC, HTTP, and one that says that the other three are taken.
const BLOCK: u16 = 4;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The three ports of one node. They stay its own, whether or not a node listens, as long as this lives.
#[derive(Debug)]
pub struct Ports {
    pub chat: u16,
    _claim: TcpListener,
}

impl Ports {
    pub fn claim() -> Self {
        for _ in 0..BLOCKS {
            let number = process::id().wrapping_mul(331).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
            let chat = FIRST + u16::try_from(number).unwrap() * BLOCK;
            let Ok(claim) = TcpListener::bind(local(chat + 3)) else { continue };
            if (chat..chat + 3).all(|port| TcpListener::bind(local(port)).is_ok()) {
                return Self { chat, _claim: claim };
            }
        }
        panic!("no three free ports in a row from {FIRST} on");
    }

    pub fn chat(&self) -> SocketAddr {
        local(self.chat)
    }

    pub fn grpc(&self) -> SocketAddr {
        local(self.chat + 1)
    }

    pub fn http(&self) -> SocketAddr {
        local(self.chat + 2)
    }
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
