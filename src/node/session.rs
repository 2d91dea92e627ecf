//! One client connection: bytes in become inputs for the router, and what the router has for it becomes bytes out.
//!
//! The node never speaks first: the first byte says which dialect it is. While a client's output is over its bound
//! nothing more is read from it, so that one who does not read cannot make the node work.

mod clock;
mod parse;

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
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

use self::{clock::Clock, parse::Parser};
use super::{
    hub::{ClientId, FromClient, Mark},
    metrics::Metrics,
    outbox::{Batch, ClientOutbox},
    router::RouterHandle,
    settings::Limits,
    spans::NodeSpans,
    timer,
    warnings::Warnings,
    world::World,
};
use crate::wire::Dialect;

/// Bytes read at once. One buffer per thread, so that an idle client costs none.
const READ_BYTES: usize = 64 * 1024;
/// After this long without progress a client whose connection is being closed does not get the rest.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests taken from one client before their answers are waited for.
const MAX_INPUTS_AT_ONCE: usize = 16;

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

/// Serves one connection to its end, and has its place among them until then.
pub async fn run<W: World>(stream: W::Stream, address: SocketAddr, context: Arc<SessionContext<W>>, _place: impl Send) {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let handshake = Duration::from_millis(context.limits.handshake_ms);
    let first = tokio::select! {
        biased;
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
    context.router.open_client(id, dialect, address.ip(), outbox.clone()).await;
    let mut session = Session { id, reader, writer, buffer, outbox, parser: Parser::new(dialect), context };
    let end = session.serve().await;
    Box::pin(session.finish(address, &end)).await;
}

struct Session<W: World> {
    id: ClientId,
    reader: ReadHalf<W::Stream>,
    writer: WriteHalf<W::Stream>,
    buffer: BytesMut,
    outbox: Arc<ClientOutbox>,
    parser: Parser,
    context: Arc<SessionContext<W>>,
}

impl<W: World> Session<W> {
    /// What is seldom under way is in a box of its own: an idle client costs no room for it.
    async fn serve(&mut self) -> End {
        let stop = self.context.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut clock = Clock::new(self.context.limits);
        let mut timer = pin!(sleep_until(clock.deadline(true)));
        let mut writing = Writing::default();
        // Whether the buffer may hold something whole: at first what came with the first byte.
        let mut has_input = true;
        loop {
            if self.outbox.is_closing() {
                clock.begin_closing();
            }
            let is_open = !clock.is_half_closed && !clock.is_closing;
            let may_read = is_open && !self.outbox.is_full();
            if has_input && may_read {
                match Box::pin(self.take_input()).await {
                    Ok(taken) => {
                        has_input = taken.may_be_more;
                        // A frame or line that trickles in does not count as being heard until it is whole.
                        if taken.came_whole {
                            clock.heard = Instant::now();
                        }
                    }
                    Err(end) => {
                        Box::pin(self.write_rest(writing)).await;
                        return end;
                    }
                }
            }
            // Who is not read from cannot finish what it began.
            let is_slow = may_read && (!self.parser.has_registered() || !self.buffer.is_empty());
            let deadline = clock.deadline(is_slow);
            tokio::select! {
                biased;
                () = &mut stopped => {
                    Box::pin(self.write_rest(writing)).await;
                    return End::Finished;
                }
                written = writing.step(&mut self.writer), if writing.is_busy() => {
                    if let Err(error) = written {
                        writing.give_back(&self.outbox);
                        return error.into();
                    }
                    clock.heard = Instant::now();
                    if let Some(batch) = writing.end()
                        && let Some(news) = self.report(batch)
                    {
                        Box::pin(self.tell_router(news)).await;
                    }
                }
                batch = self.outbox.next(), if !writing.is_busy() => writing = Writing(batch),
                read = read_some(&mut self.reader, &mut self.buffer), if may_read && !has_input => {
                    match read {
                        Ok(0) => Box::pin(self.half_closed(&mut clock)).await,
                        Ok(_) => {
                            has_input = true;
                            if !is_slow {
                                clock.heard = Instant::now();
                            }
                        }
                        Err(error) => {
                            writing.give_back(&self.outbox);
                            return error.into();
                        }
                    }
                }
                () = tokio::task::yield_now(), if has_input && may_read => {}
                () = timer::until(timer.as_mut(), deadline) => {
                    if let Some(end) = clock.end(is_slow) {
                        Box::pin(self.tell(end.to_string())).await;
                        Box::pin(self.write_rest(writing)).await;
                        return end;
                    }
                    writing.give_back(&self.outbox);
                    return End::Closed;
                }
            }
            if self.outbox.is_finished() && !writing.is_busy() {
                return End::Finished;
            }
        }
    }

    /// The client sends nothing more. It may still read: what it sent last is answered before the connection ends.
    async fn half_closed(&mut self, clock: &mut Clock) {
        clock.is_half_closed = true;
        clock.begin_closing();
        if !self.buffer.is_empty() {
            self.tell(self.parser.unfinished().to_owned()).await;
        }
        self.context.router.client(self.id, FromClient::HalfClosed).await;
    }

    /// Hands what has come whole to the router.
    async fn take_input(&mut self) -> Result<Taken, End> {
        let received_unix_us = self.context.world.unix_us();
        for taken in 0..MAX_INPUTS_AT_ONCE {
            let parsed = self.parser.next(&mut self.buffer, received_unix_us, &self.context.spans);
            match parsed {
                Ok(Some(input)) => self.context.router.client(self.id, input).await,
                Ok(None) => {
                    if self.buffer.is_empty() {
                        self.buffer = BytesMut::new();
                    }
                    return Ok(Taken { came_whole: taken > 0, may_be_more: false });
                }
                Err(error) => {
                    self.context.metrics.count_protocol_error();
                    let text = format!("{error}; the connection is closed");
                    self.tell(text.clone()).await;
                    return Err(End::Protocol(text));
                }
            }
        }
        // Once the router answers, so are the requests before: whether they fill the output is known.
        self.context.router.status().await;
        Ok(Taken { came_whole: true, may_be_more: true })
    }

    async fn tell(&mut self, text: String) {
        self.context.router.client(self.id, FromClient::Tell(text)).await;
    }

    /// A batch is written: it is counted, and shown in traces. Gives what the router is to hear of it, if anything.
    fn report(&self, mut batch: Box<Batch>) -> Option<Written> {
        self.context.metrics.count_written(batch.total_bytes, batch.marked_messages());
        let mut reports = Vec::new();
        if !batch.marks.is_empty() {
            let written_unix_us = self.context.world.unix_us();
            for mark in batch.marks.drain(..) {
                self.context.spans.delivered(&mark, self.parser.name(), written_unix_us);
                if mark.wants_receipt || mark.is_mail {
                    reports.push(mark);
                }
            }
        }
        let is_drained = self.outbox.written(batch);
        (is_drained || !reports.is_empty()).then_some(Written { reports, is_drained })
    }

    async fn tell_router(&mut self, Written { reports, is_drained }: Written) {
        if !reports.is_empty() {
            self.context.router.client(self.id, FromClient::Written(reports)).await;
        }
        if is_drained {
            self.context.router.client(self.id, FromClient::Drained).await;
        }
    }

    /// Writes what there is, within a bound, before the connection is closed.
    async fn write_rest(&mut self, mut writing: Writing) {
        let closed = async {
            // The router's answer to the last input comes before the answer to this.
            self.context.router.status().await;
            loop {
                while writing.is_busy() {
                    if writing.step(&mut self.writer).await.is_err() {
                        return;
                    }
                }
                if let Some(batch) = writing.end() {
                    self.outbox.written(batch);
                }
                writing = Writing(self.outbox.take());
                if !writing.is_busy() {
                    return;
                }
            }
        };
        let _ = timeout(CLOSING_TIMEOUT, closed).await;
        writing.give_back(&self.outbox);
    }

    async fn finish(mut self, address: SocketAddr, end: &End) {
        let _ = timeout(CLOSING_TIMEOUT, self.writer.shutdown()).await;
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

/// What was taken off a client's stream.
struct Taken {
    came_whole: bool,
    /// There is a bound to what is taken before the answers.
    may_be_more: bool,
}

/// What the router hears of a batch that is written.
struct Written {
    reports: Vec<Mark>,
    is_drained: bool,
}

/// What is being written now.
#[derive(Debug, Default)]
struct Writing(Option<Box<Batch>>);

impl Writing {
    fn is_busy(&self) -> bool {
        self.0.as_ref().is_some_and(|batch| !batch.is_written())
    }

    /// What was being written, once it is.
    fn end(&mut self) -> Option<Box<Batch>> {
        self.0.take_if(|batch| batch.is_written())
    }

    /// Writes as much as the socket takes. Safe to cancel: nothing is lost between two calls.
    async fn step(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let Some(batch) = &mut self.0 else { return Ok(()) };
        match writer.write_buf(&mut batch.bytes).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }

    /// The connection ends: marks of what was not written are not to be reported as delivered.
    fn give_back(&mut self, outbox: &ClientOutbox) {
        outbox.return_marks(self.0.take().map(|batch| batch.unwritten()).unwrap_or_default());
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
