//! A node's sockets. When its process dies they are closed in the order in which they were opened: the order in which
//! Tokio drops the tasks that hold them follows from what else ran in this process.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use crate::{dice::Dice, faults::Fault};

/// How often a fault on a connection strikes.
const PERCENT: u64 = 3;

#[derive(Default)]
struct Open {
    streams: BTreeMap<u64, TcpStream>,
    last: u64,
    is_dying: bool,
}

/// See the module's head.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Open>>);

impl Sockets {
    fn all(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap()
    }

    pub fn open(&self, stream: TcpStream, fault: Option<(Fault, Dice)>) -> SimStream {
        let mut open = self.all();
        open.last += 1;
        let id = open.last;
        open.streams.insert(id, stream);
        SimStream { id, sockets: self.clone(), fault }
    }

    /// Whether the process is about to end.
    pub fn set_dying(&self, is_dying: bool) {
        self.all().is_dying = is_dying;
    }
}

/// A node's side of a connection, and what is wrong with it.
pub struct SimStream {
    id: u64,
    sockets: Sockets,
    fault: Option<(Fault, Dice)>,
}

impl SimStream {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.sockets.all().streams.get_mut(&self.id) {
            Some(stream) => work(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut open = self.sockets.all();
        if open.is_dying {
            while open.streams.pop_first().is_some() {}
        } else {
            open.streams.remove(&self.id);
        }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_read(context, read))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let struck = self.fault.as_mut().and_then(|(fault, dice)| dice.chance(PERCENT).then_some(*fault));
        if struck == Some(Fault::LoseWrites) {
            return Poll::Ready(Ok(bytes.len()));
        }
        if struck == Some(Fault::WriteTwice) {
            // Turmoil takes all or nothing.
            let _ = self.with(|stream| stream.poll_write(context, bytes))?;
        }
        self.with(|stream| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(context))
    }
}
