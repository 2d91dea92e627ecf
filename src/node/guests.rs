//! Connections to the gRPC and HTTP ports: not more than a bound, and none for long unless it has proved the secret.
//! Otherwise strangers who connect and say nothing would take all the open files that a node can have.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

use super::{
    places::{Place, Places},
    world::World,
};

/// Connections to one port at once: peers, probes, scrapers, and strangers until they are turned away.
const MAX_CONNECTIONS: usize = 1_024;
/// The same from one address, so that no stranger can take all places.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 256;
/// Pause after the system refuses a connection (for want of file descriptors, as a rule).
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What the services are told of a connection.
#[derive(Debug, Clone)]
pub struct Guest {
    pub address: SocketAddr,
    /// Set once somebody has proved the secret on it: then it may stay.
    pub is_proved: Arc<AtomicBool>,
}

/// One accepted connection, with its place.
pub struct GuestStream<S> {
    stream: S,
    guest: Guest,
    unproved_until: Pin<Box<Sleep>>,
    _place: Place,
}

/// The connections of one port.
pub struct Guests<W: World> {
    listener: W::Listener,
    places: Places,
    max_stay: Duration,
}

impl<W: World> Guests<W> {
    /// A connection on which nobody has proved the secret after `max_stay` is closed.
    #[must_use]
    pub fn new(listener: W::Listener, max_stay: Duration) -> Self {
        Self { listener, places: Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS), max_stay }
    }

    pub async fn next(&mut self) -> GuestStream<W::Stream> {
        loop {
            let Ok((stream, address)) = W::accept(&mut self.listener).await else {
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            };
            let Ok(place) = self.places.take(address.ip()) else { continue };
            let guest = Guest { address, is_proved: Arc::default() };
            return GuestStream { stream, guest, unproved_until: Box::pin(sleep(self.max_stay)), _place: place };
        }
    }

    /// For the gRPC server.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<GuestStream<W::Stream>>> {
        stream::unfold(self, async |mut guests| Some((Ok(guests.next().await), guests)))
    }
}

/// For the HTTP server.
impl<W: World> axum::serve::Listener for Guests<W> {
    type Io = GuestStream<W::Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let accepted = self.next().await;
        let address = accepted.guest.address;
        (accepted, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        W::local_address(&self.listener)
    }
}

impl<S> Connected for GuestStream<S> {
    type ConnectInfo = Guest;

    fn connect_info(&self) -> Guest {
        self.guest.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuestStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.guest.is_proved.load(Ordering::Relaxed) && self.unproved_until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuestStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
