//! A client that asks a node what it has, and leaves.

use clique::{clique::Heights, wire::Dialect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use turmoil::net::TcpStream;

use crate::{
    hearing::{self, Ear, Heard, Memory},
    nodes::{CHAT_PORT, host},
};

/// The heights that a node tells somebody who registers: everything that it has applied.
pub async fn heights(name: &str, node: u16) -> turmoil::Result<Heights> {
    let mut stream = TcpStream::connect((host(node), CHAT_PORT)).await?;
    let mut out = Vec::new();
    hearing::ask_for_name(&mut out, Dialect::Extended, name, &Memory::default());
    stream.write_all(&out).await?;
    let (mut ear, mut buffer) = (Ear::new(Dialect::Extended), [0; 4_096]);
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(format!("node {node} closes the connection of a probe").into());
        }
        for heard in ear.take(&buffer[..count]) {
            if let Heard::Registered { heights, .. } = heard {
                return Ok(heights);
            }
        }
    }
}
