//! The world that a node lives in: its network, its disk, its clock and its chance. The real one here; the simulation brings
//! its own.
//!
//! What a node does follows from these, so that a run can be repeated: that is why every `select!` of it is `biased`.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, lookup_host},
    task::JoinError,
};

use super::store::{Files, Medium, Work, on_a_thread};

/// Sockets, disks, wall clock and chance. Timers are tokio's in either world.
pub trait World: Clone + Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    type Listener: Send + Sync + 'static;

    /// Opens a port.
    fn bind(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Where a port was opened; tells the number where the system chose it.
    ///
    /// # Errors
    /// If the system does not say.
    fn local_address(listener: &Self::Listener) -> io::Result<SocketAddr>;

    /// The next connection.
    fn accept(listener: &mut Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// The addresses of "host:port".
    fn resolve(&self, target: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Where the database of a data directory lies.
    fn medium(&self, directory: &Path) -> Arc<dyn Medium>;

    /// Does something that may wait for the disk.
    fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send;

    /// Drives something that may wait for the disk beside everything else, until it ends by itself.
    ///
    /// # Errors
    /// If the system has no room for it.
    fn drive(&self, name: &'static str, work: Work) -> io::Result<()>;

    /// Wall-clock time in Unix microseconds.
    fn unix_us(&self) -> u64;

    /// A number that nobody can guess; in the simulation, one that follows from the run's seed.
    fn random(&self) -> u64;
}

/// The machine's own network, clock and random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealWorld;

/// Connections waiting to be accepted; enough for ten thousand that come at once.
const LISTEN_BACKLOG: u32 = 4_096;
/// A silent connection is probed after this.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// No delay for small writes; and a silent connection whose other end is gone ends within a minute.
///
/// No `TCP_USER_TIMEOUT`: it would also end the connections of people who do not read for a while.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY).with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

impl World for RealWorld {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // A node that restarts takes its port back at once; a port that somebody listens on is still refused.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(LISTEN_BACKLOG)
    }

    fn local_address(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(listener: &mut TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        prepare(&stream)?;
        Ok((stream, address))
    }

    async fn resolve(&self, target: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host(target).await?.collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        prepare(&stream)?;
        Ok(stream)
    }

    fn medium(&self, directory: &Path) -> Arc<dyn Medium> {
        Arc::new(Files::new(directory))
    }

    fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, JoinError>> + Send {
        tokio::task::spawn_blocking(work)
    }

    fn drive(&self, name: &'static str, work: Work) -> io::Result<()> {
        on_a_thread(name, work)
    }

    fn unix_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}
