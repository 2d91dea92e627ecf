//! One client's connection: registered, then heard in large reads.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{
    BenchError,
    speech::{Event, Speech, SpeechError},
};

/// Bytes read at once; longer than anything that is said in one piece. One buffer per thread, for all clients.
const READ_BYTES: usize = 256 * 1024;
/// How long a node may take to accept a connection and to register a client.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(20);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Why nothing more is heard.
#[derive(Debug, thiserror::Error)]
pub enum HearError {
    #[error("it was closed by the other side")]
    Closed,
    #[error(transparent)]
    Failed(#[from] io::Error),
    #[error(transparent)]
    Speech(#[from] SpeechError),
}

/// A registered client.
#[derive(Debug)]
pub struct Connection {
    pub name: String,
    pub ear: Ear,
    pub mouth: OwnedWriteHalf,
    /// From the first packet to the registration.
    pub registered_in: Duration,
}

/// The reading half.
#[derive(Debug)]
pub struct Ear {
    speech: Speech,
    reader: OwnedReadHalf,
    /// The beginning of something that has not come whole.
    rest: Vec<u8>,
}

impl Connection {
    /// Connects and registers.
    ///
    /// # Errors
    /// If the node cannot be reached, refuses, or is silent.
    pub async fn open(speech: Speech, address: &str, name: String, subject: Option<&str>) -> Result<Self, BenchError> {
        let silent = || BenchError::Silent { address: address.to_owned(), seconds: REGISTER_TIMEOUT.as_secs() };
        timeout(REGISTER_TIMEOUT, Self::register(speech, address, name, subject))
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    async fn register(speech: Speech, address: &str, name: String, subject: Option<&str>) -> Result<Self, BenchError> {
        let failed = |error| BenchError::Connect { address: address.to_owned(), error };
        let lost = |error| BenchError::Lost { address: address.to_owned(), error };
        let begun = Instant::now();
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (reader, mut mouth) = stream.into_split();
        let mut ear = Ear { speech, reader, rest: Vec::new() };
        let mut said = Vec::new();
        speech.register(&mut said, &name, subject);
        mouth.write_all(&said).await.map_err(failed)?;
        let mut answer = None;
        while answer.is_none() {
            ear.hear(|event| match event {
                Event::Registered => answer = Some(Ok(())),
                Event::Refused(reason) => answer = Some(Err(String::from_utf8_lossy(reason).into_owned())),
                _ => {}
            })
            .await
            .map_err(lost)?;
        }
        match answer {
            Some(Err(reason)) => Err(BenchError::Refused { address: address.to_owned(), name, reason }),
            _ => Ok(Self { name, ear, mouth, registered_in: begun.elapsed() }),
        }
    }
}

impl Ear {
    /// Waits until something has come, and gives `take` all that has come whole. Safe to cancel.
    ///
    /// # Errors
    /// If the connection has ended or cannot be understood.
    pub async fn hear(&mut self, mut take: impl FnMut(Event<'_>)) -> Result<(), HearError> {
        poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let held = self.rest.len();
                scratch[..held].copy_from_slice(&self.rest);
                let mut read = ReadBuf::new(&mut scratch[held..]);
                ready!(Pin::new(&mut self.reader).poll_read(context, &mut read))?;
                let count = read.filled().len();
                if count == 0 {
                    return Poll::Ready(Err(HearError::Closed));
                }
                let mut bytes = &scratch[..held + count];
                while let Some((length, event)) = self.speech.hear(bytes)? {
                    take(event);
                    bytes = &bytes[length..];
                }
                self.rest.clear();
                self.rest.extend_from_slice(bytes);
                Poll::Ready(Ok(()))
            })
        })
        .await
    }
}
