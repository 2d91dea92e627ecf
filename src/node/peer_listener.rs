//! Accepted connections of the gRPC port: without Nagle's delay, and not more than a bound.

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

/// Connections to the gRPC port at once: peers, probes, and strangers until they are turned away.
const MAX_CONNECTIONS: usize = 1_024;

/// The same from one address, so that no stranger can take all places.
const MAX_CONNECTIONS_PER_ADDRESS: usize = 256;
/// A connection on which nobody has proved the secret by then is closed.
const MAX_UNPROVED: Duration = Duration::from_secs(10);
/// Pause after the system refuses a connection (for want of file descriptors, as a rule).
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What the gRPC service is told of a connection.
#[derive(Debug, Clone)]
pub struct PeerConnection {
    pub address: SocketAddr,
    /// Set once somebody has proved the secret on it.
    pub is_proved: Arc<AtomicBool>,
}

/// One accepted connection, with its place.
pub struct PeerStream<S> {
    stream: S,
    connection: PeerConnection,
    unproved_until: Pin<Box<Sleep>>,
    _place: Place,
}

/// The connections of a listener, for the gRPC server.
pub fn incoming<W: World>(listener: W::Listener) -> impl Stream<Item = io::Result<PeerStream<W::Stream>>> {
    let places = Places::new(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS);
    stream::unfold((listener, places), async |(mut listener, places)| {
        loop {
            let Ok((stream, address)) = W::accept(&mut listener).await else {
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            };
            let Ok(place) = places.take(address.ip()) else { continue };
            let connection = PeerConnection { address, is_proved: Arc::default() };
            let unproved_until = Box::pin(sleep(MAX_UNPROVED));
            let accepted = PeerStream { stream, connection, unproved_until, _place: place };
            return Some((Ok(accepted), (listener, places)));
        }
    })
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = PeerConnection;

    fn connect_info(&self) -> PeerConnection {
        self.connection.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.connection.is_proved.load(Ordering::Relaxed) && self.unproved_until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PeerStream<S> {
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
