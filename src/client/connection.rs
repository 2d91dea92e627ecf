//! One TCP connection to a node: frames in, frames out.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::nodes::CONNECT_TIMEOUT_MS;
use crate::wire::{
    WireError,
    extended::FromClient,
    frames::{self, Frame, FrameError, kind},
};

/// Room for what one read takes.
const READ_BYTES: usize = 16 * 1024;
/// Above this much unwritten output nothing more is taken in: the node does not keep up.
const MAX_OUTGOING_BYTES: usize = 256 * 1024;

/// Why a connection ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("{}", plainly(.0))]
    Io(#[from] io::Error),
    #[error("it did not answer in time")]
    Silent,
    #[error("it closed the connection")]
    Closed,
    #[error("it is being stopped")]
    Stopping,
    #[error("what it sent cannot be read: {0}")]
    Frame(#[from] FrameError),
    #[error("what it sent cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Refused(String),
}

/// The usual errors without the numbers of the operating system.
fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "the connection was cut".to_owned(),
        _ => error.to_string(),
    }
}

/// A connection with what was read of the next frame, and what is still to be written.
#[derive(Debug)]
pub struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    incoming: BytesMut,
    outgoing: BytesMut,
}

impl Connection {
    /// # Errors
    /// If the node cannot be reached within `CONNECT_TIMEOUT_MS`.
    pub async fn open(address: &str) -> Result<Self, ConnectionError> {
        let limit = Duration::from_millis(CONNECT_TIMEOUT_MS);
        let stream = timeout(limit, TcpStream::connect(address)).await.map_err(|_| ConnectionError::Silent)??;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader, writer, incoming: BytesMut::new(), outgoing: BytesMut::new() })
    }

    /// Queues a frame; it is written while the next one is awaited.
    pub fn send(&mut self, frame: &FromClient) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.outgoing.extend_from_slice(&bytes);
    }

    /// Queues a frame without a body.
    pub fn send_empty(&mut self, kind: (i8, i8)) {
        let mut bytes = Vec::new();
        frames::encode_empty(&mut bytes, kind);
        self.outgoing.extend_from_slice(&bytes);
    }

    /// Whether the node keeps up with what is sent to it.
    pub fn has_room(&self) -> bool {
        self.outgoing.len() < MAX_OUTGOING_BYTES
    }

    /// The next frame; writes what is queued while it waits. May be dropped and called again without loss.
    ///
    /// # Errors
    /// If the connection is over.
    pub async fn next(&mut self) -> Result<Frame, ConnectionError> {
        loop {
            if let Some(frame) = frames::decode(&mut self.incoming)? {
                return Ok(frame);
            }
            self.incoming.reserve(READ_BYTES);
            tokio::select! {
                read = self.reader.read_buf(&mut self.incoming) => {
                    if read? == 0 {
                        return Err(ConnectionError::Closed);
                    }
                }
                written = self.writer.write_buf(&mut self.outgoing), if self.outgoing.has_remaining() => {
                    written?;
                }
            }
        }
    }

    /// How long an echo takes; only before anything else is said.
    ///
    /// # Errors
    /// If the connection ends instead.
    pub async fn round_trip(mut self) -> Result<Duration, ConnectionError> {
        let begin = Instant::now();
        self.send_empty(kind::ECHO);
        while self.next().await?.kind != kind::ECHO_ANSWER {}
        let took = begin.elapsed();
        self.send_empty(kind::GOODBYE);
        self.writer.write_all_buf(&mut self.outgoing).await?;
        Ok(took)
    }
}
