//! What one client hears: judged, counted, and told to the senders.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hdrhistogram::Histogram;

use super::{
    flow::{Clock, Flow, Notes, Progress},
    payload::{self, PROBE, STAMP_BYTES, Stamp},
    speech::Event,
    verify::{Faults, Verifier},
};

/// Digits of a latency that are right.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Longest time that is told from longer ones: an hour.
const MAX_LATENCY_NS: u64 = 3_600_000_000_000;

/// An empty histogram of nanoseconds.
///
/// # Errors
/// None, for digits that are allowed.
pub fn histogram() -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    // Recording never makes it larger: its range is given at once.
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, SIGNIFICANT_DIGITS)
}

/// What the clients of a run share.
#[derive(Debug)]
pub struct Run {
    /// How the names of its clients begin.
    pub prefix: String,
    /// What follows the stamp in its messages.
    pub filler: Vec<u8>,
    pub clock: Clock,
    pub notes: Notes,
    /// Latencies count for messages that were due from then on.
    pub measure_from_ns: AtomicU64,
}

impl Run {
    /// A run of messages of a size, whose clients' names begin with `prefix`. It does not measure yet.
    #[must_use]
    pub fn new(prefix: String, size_bytes: usize) -> Self {
        Self {
            prefix,
            filler: payload::filler(size_bytes),
            clock: Clock::start(),
            notes: Notes::default(),
            measure_from_ns: AtomicU64::new(u64::MAX),
        }
    }
}

/// The messages of one sender to one recipient.
#[derive(Debug)]
pub struct Lane {
    sender: u16,
    progress: Arc<Progress>,
    flow: Arc<Flow>,
    verifier: Verifier,
    received: u64,
}

impl Lane {
    /// The lane from a sender.
    #[must_use]
    pub fn new(sender: u16, flow: Arc<Flow>, progress: Arc<Progress>) -> Self {
        Self { sender, progress, flow, verifier: Verifier::default(), received: 0 }
    }
}

/// What one client has heard.
#[derive(Debug)]
pub struct Inbox {
    run: Arc<Run>,
    lanes: Vec<Lane>,
    /// What the client sends itself, and hears of again in acknowledgements.
    sending: Option<(Arc<Flow>, Verifier)>,
    /// Acknowledged since `publish`.
    acknowledged_now: u64,
    latencies: Option<Histogram<u64>>,
    corrupt: u64,
    misrouted: u64,
    foreign: u64,
    is_ping_unanswered: bool,
}

/// The result of one client.
#[derive(Debug, Default)]
pub struct Heard {
    pub faults: Faults,
    pub latencies: Option<Histogram<u64>>,
    /// Messages of people who are not of this run.
    pub foreign: u64,
}

impl Inbox {
    /// An inbox for the messages of some senders.
    #[must_use]
    pub fn new(run: Arc<Run>, lanes: Vec<Lane>, latencies: Option<Histogram<u64>>) -> Self {
        Self {
            run,
            lanes,
            sending: None,
            acknowledged_now: 0,
            latencies,
            corrupt: 0,
            misrouted: 0,
            foreign: 0,
            is_ping_unanswered: false,
        }
    }

    /// An inbox for the acknowledgements of a client that only sends.
    #[must_use]
    pub fn of_sender(run: Arc<Run>, flow: Arc<Flow>) -> Self {
        Self { sending: Some((flow, Verifier::default())), ..Self::new(run, Vec::new(), None) }
    }

    /// Takes an event that was read at `now_ns`.
    pub fn take(&mut self, event: Event<'_>, now_ns: u64) {
        match event {
            Event::Message { from, text } => self.message(from, text, now_ns),
            // Probes may come before their addressee is known everywhere; losses show in the count.
            Event::Refused(reason) | Event::Notice(reason) => {
                self.run.notes.add(format!("the other side says: {}", String::from_utf8_lossy(reason)));
            }
            Event::Receipt { first, count, refusal: None } => self.acknowledged(first..first.saturating_add(count)),
            Event::Receipt { refusal: Some(reason), .. } => {
                self.run.notes.add(format!("the other side refuses: {}", String::from_utf8_lossy(reason)));
            }
            Event::Ping => self.is_ping_unanswered = true,
            Event::Registered | Event::Other => {}
        }
    }

    fn acknowledged(&mut self, sequences: Range<u64>) {
        let Some((flow, verifier)) = &mut self.sending else { return };
        // Probes are acknowledged too, and further receipts say more of a message that was acknowledged before.
        let sent = sequences.start..sequences.end.min(flow.sent.load(Ordering::SeqCst));
        self.acknowledged_now += sent.filter(|sequence| verifier.take(*sequence)).count() as u64;
    }

    fn message(&mut self, from: &[u8], text: &[u8], now_ns: u64) {
        if !from.is_empty() && !from.starts_with(self.run.prefix.as_bytes()) {
            self.foreign += 1;
            return;
        }
        let Some(stamp) = Stamp::decode(text) else {
            self.corrupt += 1;
            return;
        };
        if stamp.sender == PROBE {
            // Probes carry the number of their sender in the place of the time.
            if let Some(lane) = self.lanes.iter().find(|lane| u64::from(lane.sender) == stamp.time_ns) {
                lane.progress.is_reached.store(true, Ordering::SeqCst);
            }
            return;
        }
        if text[STAMP_BYTES..] != self.run.filler[..] {
            self.corrupt += 1;
            return;
        }
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.sender == stamp.sender) else {
            self.misrouted += 1;
            return;
        };
        if !lane.verifier.take(stamp.sequence) {
            return;
        }
        lane.received += 1;
        if let Some(latencies) = &mut self.latencies
            && stamp.time_ns >= self.run.measure_from_ns.load(Ordering::Relaxed)
        {
            latencies.saturating_record(now_ns.saturating_sub(stamp.time_ns));
        }
    }

    /// Tells the senders, once per read. True if a PING wants an answer.
    pub fn publish(&mut self, now_ns: u64) -> bool {
        for lane in &self.lanes {
            if lane.progress.received.load(Ordering::Relaxed) != lane.received {
                lane.progress.last_ns.store(now_ns, Ordering::Relaxed);
                lane.progress.received.store(lane.received, Ordering::SeqCst);
                lane.flow.advanced();
            }
        }
        if let Some((flow, _)) = &self.sending
            && self.acknowledged_now > 0
        {
            flow.receipts.last_ns.store(now_ns, Ordering::Relaxed);
            flow.receipts.received.fetch_add(std::mem::take(&mut self.acknowledged_now), Ordering::SeqCst);
            flow.advanced();
        }
        std::mem::take(&mut self.is_ping_unanswered)
    }

    /// The verdict.
    #[must_use]
    pub fn close(self) -> Heard {
        let mut faults = Faults { corrupt: self.corrupt, misrouted: self.misrouted, ..Faults::default() };
        for lane in &self.lanes {
            faults.add(&lane.verifier.faults(lane.flow.sent.load(Ordering::SeqCst)));
        }
        if let Some((flow, _)) = &self.sending {
            faults.unacknowledged = flow.unacknowledged();
        }
        Heard { faults, latencies: self.latencies, foreign: self.foreign }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::flow::Awaits, *};

    const NOW_NS: u64 = 7_000_001_000;

    fn inbox(flow: &Arc<Flow>) -> Inbox {
        let run = Run::new("b1".into(), STAMP_BYTES + 2);
        run.measure_from_ns.store(1_000, Ordering::Relaxed);
        let lane = Lane::new(3, flow.clone(), flow.lanes[0].clone());
        Inbox::new(Arc::new(run), vec![lane], Some(histogram().unwrap()))
    }

    fn say(inbox: &mut Inbox, from: &str, sender: u16, sequence: u64, time_ns: u64, filler: &str) {
        let text = [&Stamp { sender, sequence, time_ns }.encode()[..], filler.as_bytes()].concat();
        inbox.take(Event::Message { from: from.as_bytes(), text: &text }, NOW_NS);
    }

    #[test]
    fn messages_are_judged_and_told_to_their_sender() {
        let flow = Arc::new(Flow::new(1, Awaits::Delivery));
        flow.sent.store(4, Ordering::SeqCst);
        let mut inbox = inbox(&flow);
        say(&mut inbox, "b1s", PROBE, 0, 3, "ab");
        say(&mut inbox, "b1s", 3, 0, 500, "ab");
        say(&mut inbox, "b1s", 3, 1, 1_000, "ab");
        say(&mut inbox, "b1s", 3, 1, 1_000, "ab");
        say(&mut inbox, "b1s", 3, 2, 1_000, "xx");
        say(&mut inbox, "b1s", 2, 0, 1_000, "ab");
        say(&mut inbox, "carol", 3, 2, 1_000, "ab");
        inbox.take(Event::Message { from: b"b1s", text: b"hello" }, 2_000);
        inbox.take(Event::Ping, 2_000);
        assert!(inbox.publish(2_000) && !inbox.publish(2_001));
        assert!(flow.lanes[0].is_reached.load(Ordering::SeqCst));
        assert_eq!(flow.under_way(), 2);
        assert_eq!(flow.lanes[0].last_ns.load(Ordering::SeqCst), 2_000);
        let heard = inbox.close();
        assert_eq!(heard.faults, Faults { loss: 2, duplicates: 1, corrupt: 2, misrouted: 1, ..Faults::default() });
        assert_eq!(heard.foreign, 1);
        let latencies = heard.latencies.unwrap();
        assert_eq!(latencies.len(), 1);
        assert!(latencies.equivalent(latencies.max(), NOW_NS - 1_000), "{}", latencies.max());
    }

    #[test]
    fn a_message_is_acknowledged_once() {
        let flow = Arc::new(Flow::new(1, Awaits::Both));
        flow.sent.store(3, Ordering::SeqCst);
        let run = Arc::new(Run::new("b1".into(), STAMP_BYTES));
        let mut inbox = Inbox::of_sender(run.clone(), flow.clone());
        for (first, count) in [(0, 1), (1 << 35, 4), (2, 1), (2, 9)] {
            inbox.take(Event::Receipt { first, count, refusal: None }, 5);
        }
        inbox.take(Event::Receipt { first: 1, count: 1, refusal: Some(b"full") }, 5);
        inbox.publish(5);
        assert_eq!((flow.unacknowledged(), flow.receipts.last_ns.load(Ordering::SeqCst)), (1, 5));
        assert_eq!(inbox.close().faults.unacknowledged, 1);
        assert_eq!(run.notes.take(), ["the other side refuses: full"]);
    }
}
