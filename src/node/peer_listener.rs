//! Accepted connections of the gRPC port: without Nagle's delay, and not more than a bound.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::world::World;

/// Connections to the gRPC port at once: peers, probes, and strangers until they are turned away.
const MAX_CONNECTIONS: usize = 1_024;

/// One accepted connection, with its place.
pub struct PeerStream<S> {
    stream: S,
    info: TcpConnectInfo,
    _place: OwnedSemaphorePermit,
}

/// The connections of a listener, for the gRPC server.
pub fn incoming<W: World>(listener: W::Listener) -> impl Stream<Item = io::Result<PeerStream<W::Stream>>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    stream::unfold((listener, places), async |(mut listener, places)| {
        // The semaphore is never closed; were it, there would be no more connections.
        let place = places.clone().acquire_owned().await.ok()?;
        let accepted = W::accept(&mut listener).await.map(|(stream, address)| PeerStream {
            stream,
            info: TcpConnectInfo { local_addr: None, remote_addr: Some(address) },
            _place: place,
        });
        Some((accepted, (listener, places)))
    })
}

impl<S> Connected for PeerStream<S> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PeerStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
