//! A raw TCP connection whose reads have a deadline.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use super::PATIENCE;

pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address} takes no connection: {error}"))
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node takes what it is sent");
    }

    /// Sends to a node that may have closed the connection.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// How long `try_send` waits for a node that takes nothing.
    pub fn set_write_timeout_ms(&self, timeout_ms: u64) {
        self.stream.set_write_timeout(Some(Duration::from_millis(timeout_ms))).unwrap();
    }

    /// Nothing more will be sent.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// The same to a node that may have closed the connection.
    pub fn try_half_close(&self) -> std::io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Exactly so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(
                self.fill(),
                "the node closed the connection where {count} bytes were due; it sent: {:?}",
                self.shown()
            );
        }
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Up to and including the next such byte; `None` if the connection ends instead.
    pub fn take_until(&mut self, end: u8) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == end) {
                return Some(self.take(searched + at + 1));
            }
            searched = self.buffer.len();
            if !self.fill() {
                return None;
            }
        }
    }

    /// Everything up to the end of the connection, whichever way it ends.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// Bytes that can be read without waiting are read. False once the connection has ended.
    pub fn poll(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let is_open = self.fill_once().is_none_or(|is_open| is_open);
        self.stream.set_nonblocking(false).unwrap();
        is_open
    }

    /// Has come and was not taken.
    pub fn pending(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits for more. False at the end of the connection.
    pub fn fill(&mut self) -> bool {
        match self.fill_once() {
            Some(is_open) => is_open,
            None => panic!("nothing came within {} s; before that: {:?}", PATIENCE.as_secs(), self.shown()),
        }
    }

    /// `None` if nothing came.
    fn fill_once(&mut self) -> Option<bool> {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Some(false),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Some(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(true),
            // A reset: the node closed while there was something that it had not read.
            Err(_) => Some(false),
        }
    }

    fn shown(&self) -> String {
        self.buffer.iter().take(200).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect()
    }
}
