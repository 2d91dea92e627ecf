//! The two ways to send: as much as the window allows, or when it is due.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;
use nix::sys::prctl;
use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError,
    flow::Flow,
    inbox::{Run, histogram},
    payload::Stamp,
    schedule::Schedule,
    speech::{PONG, Template},
};

/// Bytes of messages that are written at once.
const BATCH_BYTES: usize = 64 * 1024;
/// Pause of the pacing thread while the socket takes nothing.
const FULL_SOCKET_PAUSE: Duration = Duration::from_micros(20);
/// The pacing thread looks at least so often whether it is to stop.
const MAX_SLEEP: Duration = Duration::from_millis(50);

/// One sending client.
#[derive(Debug)]
pub struct Sender {
    pub number: u16,
    pub mouth: OwnedWriteHalf,
    pub template: Template,
    pub flow: Arc<Flow>,
    pub run: Arc<Run>,
    /// Whoever watches gives up.
    pub stop: CancellationToken,
}

/// When a sender that goes by the window ends.
#[derive(Debug, Clone, Copy)]
pub struct Until {
    pub messages: u64,
    pub time_ns: u64,
}

impl Sender {
    /// How many messages a window of so many bytes holds.
    #[must_use]
    pub fn window(&self, bytes: usize) -> u64 {
        (bytes / self.template.wire_bytes()).max(1) as u64
    }

    /// Sends while fewer messages than `window` are under way.
    pub async fn send_by_window(mut self, window: u64, until: Until) {
        let stop = self.stop.clone();
        let sent = tokio::select! {
            sent = self.fill_window(window, until) => sent,
            () = stop.cancelled() => Ok(()),
        };
        self.end(sent);
    }

    async fn fill_window(&mut self, window: u64, until: Until) -> io::Result<()> {
        let wire_bytes = self.template.wire_bytes();
        let batch = (BATCH_BYTES / wire_bytes).max(1) as u64;
        let mut buffer = Vec::with_capacity(BATCH_BYTES.max(wire_bytes));
        let mut sequence = 0;
        while sequence < until.messages {
            let room = self.flow.room(window).await;
            let time_ns = self.run.clock.now_ns();
            if time_ns >= until.time_ns {
                break;
            }
            buffer.clear();
            if self.flow.is_pong_due.swap(false, Ordering::SeqCst) {
                buffer.extend_from_slice(PONG);
            }
            let end = sequence + room.min(batch).min(until.messages - sequence);
            while sequence < end {
                self.template.append(&mut buffer, Stamp { sender: self.number, sequence, time_ns });
                sequence += 1;
            }
            // Before the writing: nothing may arrive that does not count as sent.
            self.flow.sent.store(sequence, Ordering::SeqCst);
            self.mouth.write_all(&buffer).await?;
        }
        Ok(())
    }

    /// Sends each message when it is due, on a thread of its own: the runtime's timers tick in milliseconds. Returns by
    /// how much the generator itself was late.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn send_by_schedule(
        mut self,
        schedule: Schedule,
        start_ns: u64,
        messages: u64,
    ) -> Result<thread::JoinHandle<Option<Histogram<u64>>>, BenchError> {
        let pace = move || {
            // The kernel may delay a sleeper by 50 µs to save energy, unless asked not to. Without it the run is
            // less precise, which the lateness shows.
            let _ = prctl::set_timerslack(1);
            let mut lateness = histogram().ok()?;
            let sent = self.keep_pace(schedule, start_ns, messages, &mut lateness);
            self.end(sent);
            Some(lateness)
        };
        thread::Builder::new().name("pace".to_owned()).spawn(pace).map_err(BenchError::Runtime)
    }

    fn keep_pace(
        &mut self,
        schedule: Schedule,
        start_ns: u64,
        messages: u64,
        lateness: &mut Histogram<u64>,
    ) -> io::Result<()> {
        let batch = (BATCH_BYTES / self.template.wire_bytes()).max(1) as u64;
        let mut buffer = Vec::with_capacity(BATCH_BYTES.max(self.template.wire_bytes()));
        let mut sequence = 0;
        while sequence < messages && !self.stop.is_cancelled() {
            let now_ns = self.run.clock.now_ns();
            let due = now_ns.checked_sub(start_ns).map_or(0, |elapsed| schedule.due(elapsed)).min(messages);
            buffer.clear();
            if self.flow.is_pong_due.swap(false, Ordering::SeqCst) {
                buffer.extend_from_slice(PONG);
            }
            if due <= sequence && buffer.is_empty() {
                let next_ns = start_ns + schedule.time_ns(sequence);
                thread::sleep(Duration::from_nanos(next_ns.saturating_sub(now_ns)).min(MAX_SLEEP));
                continue;
            }
            let end = due.clamp(sequence, sequence + batch);
            while sequence < end {
                let time_ns = start_ns + schedule.time_ns(sequence);
                self.template.append(&mut buffer, Stamp { sender: self.number, sequence, time_ns });
                lateness.saturating_record(now_ns.saturating_sub(time_ns));
                sequence += 1;
            }
            self.flow.sent.store(sequence, Ordering::SeqCst);
            self.write_all(&buffer)?;
        }
        Ok(())
    }

    /// Writes from a thread that has no runtime. What is late because the socket was full is charged to the system
    /// under test: the latency counts from when it was due.
    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() && !self.stop.is_cancelled() {
            match self.mouth.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_SOCKET_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn end(self, sent: io::Result<()>) {
        if let Err(error) = sent {
            self.run.notes.add(format!("a sender's connection failed: {error}"));
        }
        self.flow.is_done.store(true, Ordering::SeqCst);
        // The half that reads goes on; closing this one would look like leaving.
        self.mouth.forget();
    }
}
