//! Deliberate faults, to prove that the checker bites. A run without any must be clean; a run with one must not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use clique::clique::Heights;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::TcpStream;

use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Now and then what a node writes to somebody vanishes on a connection that stays up.
    LoseWrites,
    /// Now and then it is written twice.
    WriteTwice,
    /// A resuming client claims one message more than it had from each origin.
    SkipOnResume,
    /// A resuming client claims one message less.
    ForgetOnResume,
}

impl Fault {
    pub fn on_resuming(self, received: &Heights) -> Heights {
        let shifted = |height: u64| match self {
            Self::SkipOnResume => height + 1,
            Self::ForgetOnResume => height.saturating_sub(1),
            _ => height,
        };
        received.iter().map(|(origin, height)| (origin, shifted(height))).collect()
    }
}

/// How often a fault on a connection strikes.
const PERCENT: u64 = 3;

/// A node's side of a connection, and what is wrong with it.
pub struct FaultyStream {
    pub stream: TcpStream,
    pub fault: Option<(Fault, Dice)>,
}

impl AsyncRead for FaultyStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, read: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, read)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let struck = self.fault.as_mut().and_then(|(fault, dice)| dice.chance(PERCENT).then_some(*fault));
        if struck == Some(Fault::LoseWrites) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let stream = Pin::new(&mut self.stream);
        if struck == Some(Fault::WriteTwice) {
            // Turmoil takes all or nothing.
            let _ = stream.poll_write(context, bytes)?;
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
