//! The simulated world of a node: turmoil's sockets, simulated time, chance from the seed.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use clique::node::world::World;
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    dice::Dice,
    faults::{Fault, FaultyStream},
    nodes::CHAT_PORT,
};

/// When a run begins, in Unix seconds.
pub const EPOCH_S: u64 = 1_750_000_000;

#[derive(Clone)]
pub struct SimWorld {
    dice: Arc<Mutex<Dice>>,
    fault: Option<Fault>,
}

impl SimWorld {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        Self { dice: Arc::new(Mutex::new(Dice::new(seed))), fault }
    }
}

pub struct SimListener {
    listener: TcpListener,
    /// What is wrong with the connections to it.
    fault: Option<(Fault, SimWorld)>,
}

/// Since the beginning of the run. Of two hosts one can be ahead of the other by a tick.
pub fn now_ms() -> u64 {
    u64::try_from(turmoil::sim_elapsed().unwrap().as_millis()).unwrap()
}

impl World for SimWorld {
    type Stream = FaultyStream;
    type Listener = SimListener;

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        let fault = self.fault.filter(|_| address.port() == CHAT_PORT).map(|fault| (fault, self.clone()));
        Ok(SimListener { listener: TcpListener::bind(address).await?, fault })
    }

    fn local_address(listener: &SimListener) -> io::Result<SocketAddr> {
        listener.listener.local_addr()
    }

    async fn accept(listener: &mut SimListener) -> io::Result<(FaultyStream, SocketAddr)> {
        let (stream, address) = listener.listener.accept().await?;
        let fault = listener.fault.as_ref().map(|(fault, world)| (*fault, Dice::new(world.random())));
        Ok((FaultyStream { stream, fault }, address))
    }

    async fn resolve(&self, target: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<FaultyStream> {
        Ok(FaultyStream { stream: TcpStream::connect(address).await?, fault: None })
    }

    fn unix_us(&self) -> u64 {
        u64::try_from(turmoil::since_epoch().unwrap().as_micros()).unwrap()
    }

    fn random(&self) -> u64 {
        self.dice.lock().unwrap().between(0, u64::MAX)
    }
}
