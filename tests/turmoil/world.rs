//! The simulated world of a node: turmoil's sockets, a disk that outlives it, simulated time, chance from the seed.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use clique::node::{
    store::{Medium, Work},
    world::World,
};
use tokio::{task::JoinError, time::sleep};
use turmoil::net::{TcpListener, TcpStream};

use crate::{
    dice::Dice,
    disk::SimDisk,
    faults::Fault,
    nodes::CHAT_PORT,
    sockets::{SimStream, Sockets},
};

/// When a run begins, in Unix seconds.
pub const EPOCH_S: u64 = 1_750_000_000;

#[derive(Clone)]
pub struct SimWorld {
    dice: Arc<Mutex<Dice>>,
    fault: Option<Fault>,
    sockets: Sockets,
    disk: SimDisk,
}

impl SimWorld {
    pub fn new(seed: u64, fault: Option<Fault>, sockets: Sockets, disk: SimDisk) -> Self {
        Self { dice: Arc::new(Mutex::new(Dice::new(seed))), fault, sockets, disk }
    }
}

pub struct SimListener {
    listener: TcpListener,
    world: SimWorld,
    /// What is wrong with the connections to it.
    fault: Option<Fault>,
}

/// Since the beginning of the run. Of two hosts one can be ahead of the other by a tick.
pub fn now_ms() -> u64 {
    u64::try_from(turmoil::sim_elapsed().unwrap().as_millis()).unwrap()
}

impl World for SimWorld {
    type Stream = SimStream;
    type Listener = SimListener;

    async fn bind(&self, address: SocketAddr) -> io::Result<SimListener> {
        let fault = self.fault.filter(|_| address.port() == CHAT_PORT);
        Ok(SimListener { listener: TcpListener::bind(address).await?, world: self.clone(), fault })
    }

    fn local_address(listener: &SimListener) -> io::Result<SocketAddr> {
        listener.listener.local_addr()
    }

    async fn accept(listener: &mut SimListener) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, address) = listener.listener.accept().await?;
        let fault = listener.fault.map(|fault| (fault, Dice::new(listener.world.random())));
        Ok((listener.world.sockets.open(stream, fault), address))
    }

    async fn resolve(&self, target: &str) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(vec![SocketAddr::new(turmoil::lookup(host), port)])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimStream> {
        Ok(self.sockets.open(TcpStream::connect(address).await?, None))
    }

    fn medium(&self, _: &Path) -> Arc<dyn Medium> {
        Arc::new(self.disk.clone())
    }

    async fn wait_for<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
        let done = work();
        sleep(self.disk.is_busy_for()).await;
        Ok(done)
    }

    fn drive(&self, _: &'static str, work: Work) -> io::Result<()> {
        tokio::spawn(work);
        Ok(())
    }

    fn unix_us(&self) -> u64 {
        u64::try_from(turmoil::since_epoch().unwrap().as_micros()).unwrap()
    }

    fn random(&self) -> u64 {
        self.dice.lock().unwrap().between(0, u64::MAX)
    }
}
