//! One client connection: bytes in become inputs for the router, and what the router has for it becomes bytes out.
//!
//! The node never speaks first: the first byte says which dialect it is. While a client's output is over its bound
//! nothing more is read from it, so that one who does not read cannot make the node work.

mod parse;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf, WriteHalf},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::parse::Parser;
use super::{
    hub::{ClientId, FromClient, Mark},
    metrics::Metrics,
    outbox::{Batch, ClientOutbox},
    router::RouterHandle,
    settings::Limits,
    spans::NodeSpans,
    warnings::Warnings,
    world::World,
};
use crate::wire::Dialect;

/// Bytes read at once. One buffer per thread, so that an idle client costs none.
const READ_BYTES: usize = 64 * 1024;
/// After this long without progress a closing client does not get the rest.
const CLOSING_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What sessions share.
#[derive(Debug, Clone)]
pub struct SessionContext<W> {
    pub router: RouterHandle,
    pub world: W,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
    pub spans: NodeSpans,
    pub warnings: Warnings,
    /// Ends every session, after the router's last word.
    pub stop: CancellationToken,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Failed(#[from] io::Error),
    #[error("the first byte {0:#04x} begins no dialect; clients speak the frame protocol or lines of text")]
    NoDialect(u8),
    #[error("{0}")]
    Protocol(String),
    #[error("no name was asked for, or something was left half sent, for {0} ms")]
    TooSlow(u64),
    #[error("nothing was said for {0} ms")]
    Idle(u64),
    #[error("said goodbye, or was told to leave")]
    Finished,
}

/// Serves one connection to its end.
pub async fn run<W: World>(stream: W::Stream, address: SocketAddr, context: SessionContext<W>) {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let handshake = Duration::from_millis(context.limits.handshake_ms);
    let first = tokio::select! {
        read = timeout(handshake, read_some(&mut reader, &mut buffer)) => match read {
            Ok(Ok(0)) => return,
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(End::Failed(error)),
            Err(_) => Err(End::TooSlow(context.limits.handshake_ms)),
        },
        () = context.stop.cancelled() => return,
    };
    let dialect = first.and_then(|()| {
        let byte = buffer.first().copied().unwrap_or_default();
        Dialect::of_first_byte(byte).ok_or(End::NoDialect(byte))
    });
    let dialect = match dialect {
        Ok(dialect) => dialect,
        Err(end) => {
            context.metrics.count_protocol_error();
            tracing::info!(client = %address, "connection refused: {end}");
            return;
        }
    };
    let outbox = Arc::new(ClientOutbox::new(context.limits.max_client_output_bytes));
    let id = context.router.next_id();
    context.router.open_client(id, dialect, outbox.clone()).await;
    let mut session = Session { id, reader, writer, buffer, outbox, parser: Parser::new(dialect), context };
    let end = session.serve().await;
    session.finish(address, &end).await;
}

struct Session<W: World> {
    id: ClientId,
    reader: ReadHalf<W::Stream>,
    writer: WriteHalf<W::Stream>,
    buffer: BytesMut,
    outbox: Arc<ClientOutbox>,
    parser: Parser,
    context: SessionContext<W>,
}

impl<W: World> Session<W> {
    async fn serve(&mut self) -> End {
        let limits = self.context.limits;
        let opened = Instant::now();
        let mut heard = opened;
        let mut is_half_closed = false;
        let mut writing = Writing::default();
        // What came with the first byte.
        if let Err(end) = self.take_input().await {
            self.write_rest(&mut writing).await;
            return end;
        }
        loop {
            let may_read = !is_half_closed && self.outbox.has_room();
            // Who is not read from cannot finish what it began.
            let is_slow = may_read && (!self.parser.has_registered() || !self.buffer.is_empty());
            let deadline = if is_half_closed {
                heard + CLOSING_WRITE_TIMEOUT
            } else if is_slow {
                heard.max(opened) + Duration::from_millis(limits.handshake_ms)
            } else {
                heard + Duration::from_millis(limits.idle_ms)
            };
            tokio::select! {
                biased;
                () = self.context.stop.cancelled() => return End::Finished,
                written = writing.step(&mut self.writer), if writing.is_busy() => {
                    if let Err(error) = written {
                        writing.give_back(&self.outbox);
                        return error.into();
                    }
                    heard = heard.max(Instant::now());
                    self.report_written(&mut writing).await;
                }
                () = self.outbox.woken(), if !writing.is_busy() => writing.begin(&self.outbox),
                read = read_some(&mut self.reader, &mut self.buffer), if may_read => {
                    let count = match read {
                        Ok(count) => count,
                        Err(error) => { writing.give_back(&self.outbox); return error.into(); }
                    };
                    if count == 0 {
                        // It may still read: what it sent last is answered before the connection ends.
                        is_half_closed = true;
                        heard = Instant::now();
                        if !self.buffer.is_empty() {
                            self.tell(self.parser.unfinished().to_owned()).await;
                        }
                        self.context.router.client(self.id, FromClient::HalfClosed).await;
                        continue;
                    }
                    // A frame or line that trickles in does not count as being heard until it is whole.
                    match self.take_input().await {
                        Ok(came_whole) if came_whole || !is_slow => heard = Instant::now(),
                        Ok(_) => {}
                        Err(end) => {
                            self.write_rest(&mut writing).await;
                            return end;
                        }
                    }
                }
                () = sleep_until(deadline) => {
                    if is_half_closed {
                        writing.give_back(&self.outbox);
                        return End::Closed;
                    }
                    let end = if is_slow { End::TooSlow(limits.handshake_ms) } else { End::Idle(limits.idle_ms) };
                    self.tell(end.to_string()).await;
                    self.write_rest(&mut writing).await;
                    return end;
                }
            }
            if self.outbox.is_finished() && !writing.is_busy() {
                return End::Finished;
            }
        }
    }

    /// Hands everything that has come whole to the router. False if nothing has.
    async fn take_input(&mut self) -> Result<bool, End> {
        let received_unix_us = self.context.world.unix_us();
        let mut came_whole = false;
        loop {
            let parsed = self.parser.next(&mut self.buffer, received_unix_us, &self.context.spans);
            match parsed {
                Ok(Some(input)) => {
                    came_whole = true;
                    self.context.router.client(self.id, input).await;
                }
                Ok(None) => break,
                Err(error) => {
                    self.context.metrics.count_protocol_error();
                    let text = format!("{error}; the connection is closed");
                    self.tell(text.clone()).await;
                    return Err(End::Protocol(text));
                }
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(came_whole)
    }

    async fn tell(&mut self, text: String) {
        self.context.router.client(self.id, FromClient::Tell(text)).await;
    }

    async fn report_written(&mut self, writing: &mut Writing) {
        if writing.is_busy() {
            return;
        }
        let Writing { batch, .. } = std::mem::take(writing);
        self.context.metrics.count_written(batch.bytes.len(), batch.marks.len());
        let is_drained = self.outbox.written();
        if !batch.marks.is_empty() {
            let written_unix_us = self.context.world.unix_us();
            let mut reports = Vec::new();
            for (_, mark) in batch.marks {
                self.context.spans.delivered(&mark, self.parser.name(), written_unix_us);
                if mark.wants_receipt {
                    reports.push(mark);
                }
            }
            if !reports.is_empty() {
                self.context.router.client(self.id, FromClient::Written(reports)).await;
            }
        }
        if is_drained {
            self.context.router.client(self.id, FromClient::Drained).await;
        }
        // More may have come while this was written.
        writing.begin(&self.outbox);
    }

    /// Writes what there is, within a bound, before the connection is closed.
    async fn write_rest(&mut self, writing: &mut Writing) {
        let closed = async {
            // The router's answer to the last input comes before the answer to this.
            self.context.router.status().await;
            loop {
                if !writing.is_busy() {
                    self.outbox.written();
                    writing.begin(&self.outbox);
                }
                if !writing.is_busy() {
                    return;
                }
                while writing.is_busy() {
                    if writing.step(&mut self.writer).await.is_err() {
                        return;
                    }
                }
                writing.batch = Batch::default();
            }
        };
        let _ = timeout(CLOSING_WRITE_TIMEOUT, closed).await;
        writing.give_back(&self.outbox);
    }

    async fn finish(mut self, address: SocketAddr, end: &End) {
        if matches!(end, End::Finished) {
            let mut writing = Writing::default();
            self.write_rest(&mut writing).await;
        }
        let _ = timeout(CLOSING_WRITE_TIMEOUT, self.writer.shutdown()).await;
        let unwritten = self.outbox.unwritten();
        self.context.router.client(self.id, FromClient::Closed { unwritten }).await;
        match end {
            End::Protocol(_) => {
                tracing::info!(client = %address, name = self.parser.name(), "connection closed: {end}")
            }
            _ => tracing::debug!(client = %address, name = self.parser.name(), "connection closed: {end}"),
        }
    }
}

/// What is being written now.
#[derive(Debug, Default)]
struct Writing {
    batch: Batch,
    written: usize,
}

impl Writing {
    fn is_busy(&self) -> bool {
        self.written < self.batch.bytes.len()
    }

    fn begin(&mut self, outbox: &ClientOutbox) {
        if let Some(batch) = outbox.take() {
            *self = Self { batch, written: 0 };
        }
    }

    /// Writes as much as the socket takes. Safe to cancel: nothing is lost between two calls.
    async fn step(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let count = writer.write(&self.batch.bytes[self.written..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.written += count;
        Ok(())
    }

    /// The connection ends: marks of what was not written are not to be reported as delivered.
    fn give_back(&mut self, outbox: &ClientOutbox) {
        let written = self.written;
        let unwritten = std::mem::take(&mut self.batch).marks.into_iter().filter(|(end, _)| *end > written);
        outbox.return_marks(unwritten.map(|(_, mark)| mark).collect::<Vec<Mark>>());
        self.written = 0;
    }
}

/// Appends what the stream has; 0 at its end. Safe to cancel.
async fn read_some(reader: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|context| {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *reader).poll_read(context, &mut read))?;
            buffer.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    })
    .await
}
