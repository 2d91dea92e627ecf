//! The simulated world of a node: turmoil's sockets, simulated time, chance from the seed.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use clique::node::world::World;
use turmoil::net::{TcpListener, TcpStream};

use crate::dice::Dice;

#[derive(Clone)]
pub struct SimWorld(Arc<Mutex<Dice>>);

impl SimWorld {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Dice::new(seed))))
    }
}

/// Since the beginning of the run. Of two hosts one can be ahead of the other by a tick.
pub fn now_ms() -> u64 {
    u64::try_from(turmoil::sim_elapsed().unwrap().as_millis()).unwrap()
}

impl World for SimWorld {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    fn local_address(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(listener: &mut TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept().await
    }

    async fn resolve(&self, target: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(address).await
    }

    fn unix_us(&self) -> u64 {
        u64::try_from(turmoil::since_epoch().unwrap().as_micros()).unwrap()
    }

    fn random(&self) -> u64 {
        self.0.lock().unwrap().between(0, u64::MAX)
    }
}
