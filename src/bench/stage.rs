//! Everybody of a run in place: senders and recipients connected, the recipients listening, and each proven to be
//! reached before anything counts.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use hdrhistogram::Histogram;
use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::OwnedWriteHalf,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    BenchError,
    connection::Connection,
    flow::{Awaits, Flow},
    inbox::{Heard, Inbox, Lane, Run, histogram},
    layout::Layout,
    payload::{PROBE, Stamp},
    sender::Sender,
    settings::Settings,
    speech::PONG,
    verify::Faults,
};

/// Clients that register at the same time, where that is not what is measured.
pub const CONCURRENCY: usize = 64;
/// How long it may take until every recipient is known to its sender's node.
const PROBE_TIMEOUT: Duration = Duration::from_secs(20);
const FIRST_PROBE_PAUSE: Duration = Duration::from_millis(10);
const MAX_PROBE_PAUSE: Duration = Duration::from_millis(500);
/// After everything has arrived, duplicates and late refusals still may.
const QUIET: Duration = Duration::from_millis(200);
/// Sequence numbers of probes, far from those of messages.
const FIRST_PROBE: u64 = 1 << 35;

/// The clients of a run.
#[derive(Debug)]
pub struct Stage<'a> {
    settings: &'a Settings,
    layout: Layout,
    size_bytes: usize,
    pub run: Arc<Run>,
    pub flows: Vec<Arc<Flow>>,
    pub stop: CancellationToken,
    listeners: JoinSet<Heard>,
    /// Ends the listeners.
    end: CancellationToken,
}

/// What all recipients have heard.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sent: u64,
    /// Sent, times recipients.
    pub expected: u64,
    pub delivered: u64,
    pub acknowledged: u64,
    pub faults: Faults,
    pub foreign: u64,
    pub latencies: Option<Histogram<u64>>,
    pub last_ns: u64,
}

impl<'a> Stage<'a> {
    /// A stage with nobody on it.
    #[must_use]
    pub fn new(settings: &'a Settings, layout: Layout, size_bytes: usize, awaits: Awaits) -> Self {
        // Names are new in every run, so that nothing of an earlier one can come in between.
        let prefix = format!("b{:05x}", rand::random::<u32>() & 0xf_ffff);
        let flow = |sender| Arc::new(Flow::new(layout.recipients_of(sender).len(), awaits));
        let flows = (0..layout.senders.len()).map(flow).collect();
        Self {
            settings,
            layout,
            size_bytes,
            run: Arc::new(Run::new(prefix, size_bytes)),
            flows,
            stop: CancellationToken::new(),
            listeners: JoinSet::new(),
            end: CancellationToken::new(),
        }
    }

    fn recipient_name(&self, recipient: usize) -> String {
        format!("{}r{recipient}", self.run.prefix)
    }

    /// Where the messages of a run go.
    #[must_use]
    pub fn addressees(&self) -> Vec<String> {
        let count = if self.layout.is_broadcast { 1 } else { self.layout.recipients.len() };
        (0..count).map(|recipient| self.addressee(recipient)).collect()
    }

    /// Where messages for a recipient are sent.
    fn addressee(&self, recipient: usize) -> String {
        if self.layout.is_broadcast {
            self.settings.speech.everyone(&self.run.prefix)
        } else {
            self.recipient_name(recipient)
        }
    }

    /// Connects all recipients, so many at once; they listen from then on. `each` is told how long each took.
    ///
    /// # Errors
    /// If one cannot connect.
    pub async fn seat_recipients(
        &mut self,
        concurrency: usize,
        measures_latency: bool,
        mut each: impl FnMut(Duration),
    ) -> Result<(), BenchError> {
        let (settings, count) = (self.settings, self.layout.recipients.len());
        let seats: Vec<_> = (0..count)
            .map(|seat| (seat, self.layout.recipients[seat], self.recipient_name(seat), self.addressee(seat)))
            .collect();
        let open = |(seat, node, name, subject): (usize, usize, String, String)| async move {
            let address = &settings.nodes[node];
            Connection::open(settings.speech, address, name, Some(&subject)).await.map(|connection| (seat, connection))
        };
        let mut opened = stream::iter(seats).map(open).buffer_unordered(concurrency.max(1));
        while let Some(seated) = opened.next().await {
            let (seat, connection) = seated?;
            each(connection.registered_in);
            self.listen(seat, connection, measures_latency)?;
        }
        Ok(())
    }

    fn listen(&mut self, seat: usize, connection: Connection, measures_latency: bool) -> Result<(), BenchError> {
        let lane = |sender: usize| {
            let flow = &self.flows[sender];
            let place = if self.layout.is_broadcast { seat } else { 0 };
            Lane::new(sender as u16, flow.clone(), flow.lanes[place].clone())
        };
        let lanes = self.layout.senders_of(seat).map(lane).collect();
        let latencies = measures_latency.then(histogram).transpose()?;
        let inbox = Inbox::new(self.run.clone(), lanes, latencies);
        let Connection { ear, mouth, name, .. } = connection;
        let listener = Listener { name, ear, inbox, answers: Answers::Mouth(mouth) };
        self.listeners.spawn(listener.listen(self.run.clone(), self.end.clone()));
        Ok(())
    }

    /// Connects all senders, and proves that each of their recipients can be reached.
    ///
    /// # Errors
    /// If one cannot connect, or a recipient is not reached in time.
    pub async fn seat_senders(&mut self) -> Result<Vec<Sender>, BenchError> {
        let settings = self.settings;
        let mut senders = Vec::new();
        for (number, node) in self.layout.senders.clone().into_iter().enumerate() {
            let name = format!("{}s{number}", self.run.prefix);
            let opened = Connection::open(settings.sender_speech, &settings.nodes[node], name, None).await?;
            let Connection { ear, mouth, name, .. } = opened;
            let flow = self.flows[number].clone();
            let inbox = Inbox::of_sender(self.run.clone(), flow.clone());
            let template = settings.sender_speech.template(&name, &self.addressee(number), self.size_bytes);
            let listener = Listener { name, ear, inbox, answers: Answers::Sender(flow.clone()) };
            self.listeners.spawn(listener.listen(self.run.clone(), self.end.clone()));
            let (run, stop) = (self.run.clone(), self.stop.clone());
            senders.push(Sender { number: number as u16, mouth, template, flow, run, stop });
        }
        self.probe(&mut senders).await?;
        Ok(senders)
    }

    /// Names and subscriptions take a moment to be known on other nodes, and what is sent before is refused or lost.
    async fn probe(&self, senders: &mut [Sender]) -> Result<(), BenchError> {
        let deadline = Instant::now() + PROBE_TIMEOUT;
        let mut pause = FIRST_PROBE_PAUSE;
        let mut sequence = FIRST_PROBE;
        let unreached = |flow: &Flow| flow.lanes.iter().filter(|lane| !lane.is_reached.load(Ordering::SeqCst)).count();
        loop {
            for sender in senders.iter_mut().filter(|sender| unreached(&sender.flow) > 0) {
                let mut probe = Vec::new();
                let stamp = Stamp { sender: PROBE, sequence, time_ns: sender.number.into() };
                sender.template.append(&mut probe, stamp);
                sender.mouth.write_all(&probe).await.map_err(BenchError::Failed)?;
                sequence += 1;
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PROBE_PAUSE);
            let missing = self.flows.iter().map(|flow| unreached(flow)).sum::<usize>();
            if missing == 0 {
                break;
            }
            if Instant::now() > deadline {
                let notes = self.run.notes.take().join("; ");
                return Err(BenchError::Unreached { missing, seconds: PROBE_TIMEOUT.as_secs(), notes });
            }
        }
        // Refusals of the first probes say nothing about the run.
        sleep(FIRST_PROBE_PAUSE * 5).await;
        self.run.notes.clear();
        Ok(())
    }

    /// Ends the run, when the senders are done or given up.
    pub async fn close(mut self) -> Verdict {
        sleep(QUIET).await;
        self.end.cancel();
        let mut verdict = Verdict::default();
        for flow in &self.flows {
            let sent = flow.sent.load(Ordering::SeqCst);
            verdict.sent += sent;
            verdict.expected += sent * flow.lanes.len() as u64;
            verdict.delivered += flow.delivered();
            verdict.acknowledged += flow.receipts.received.load(Ordering::SeqCst);
            let all = flow.lanes.iter().map(|lane| &**lane).chain([&flow.receipts]);
            let last_ns = all.map(|progress| progress.last_ns.load(Ordering::SeqCst)).max();
            verdict.last_ns = verdict.last_ns.max(last_ns.unwrap_or_default());
        }
        while let Some(heard) = self.listeners.join_next().await {
            let Ok(heard) = heard else { continue };
            verdict.faults.add(&heard.faults);
            verdict.foreign += heard.foreign;
            match (&mut verdict.latencies, heard.latencies) {
                (Some(all), Some(one)) => {
                    // Both grow as they must.
                    let _ = all.add(&one);
                }
                (all, one) => *all = all.take().or(one),
            }
        }
        verdict
    }
}

/// Who answers a PING: the one who may write.
enum Answers {
    Mouth(OwnedWriteHalf),
    Sender(Arc<Flow>),
}

/// A client that is listened to.
struct Listener {
    name: String,
    ear: super::connection::Ear,
    inbox: Inbox,
    answers: Answers,
}

impl Listener {
    async fn listen(mut self, run: Arc<Run>, end: CancellationToken) -> Heard {
        let mut ended = std::pin::pin!(end.cancelled());
        loop {
            // Read off once per read, and only if there was something to read.
            let mut now_ns = None;
            let heard = tokio::select! {
                biased;
                heard = self.ear.hear(|event| {
                    let now_ns = *now_ns.get_or_insert_with(|| run.clock.now_ns());
                    self.inbox.take(event, now_ns);
                }) => heard,
                () = &mut ended => break,
            };
            let is_pong_due = self.inbox.publish(now_ns.unwrap_or_default());
            let mut failed = heard.err().map(|error| error.to_string());
            if is_pong_due {
                match &mut self.answers {
                    Answers::Mouth(mouth) => failed = mouth.write_all(PONG).await.err().map(|error| error.to_string()),
                    Answers::Sender(flow) => {
                        flow.is_pong_due.store(true, Ordering::SeqCst);
                        flow.advanced();
                    }
                }
            }
            if let Some(error) = failed {
                run.notes.add(format!("the connection of {} was lost: {error}", self.name));
                break;
            }
        }
        self.inbox.close()
    }
}
