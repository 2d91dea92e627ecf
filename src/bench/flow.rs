//! How far a sender's messages have come: shared by the sender, its recipients and the one who watches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Remarks that are kept; more would say the same.
const MAX_NOTES: usize = 8;

/// Nanoseconds since the run began.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What one recipient has had from one sender.
#[derive(Debug, Default)]
pub struct Progress {
    /// Different messages.
    pub received: AtomicU64,
    /// When the last one came.
    pub last_ns: AtomicU64,
    /// Whether a probe has come.
    pub is_reached: AtomicBool,
}

/// What a sender waits for before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// That its recipients have had its messages; nobody acknowledges them.
    Delivery,
    /// That they are acknowledged.
    Receipts,
    Both,
}

/// One sender's messages.
#[derive(Debug)]
pub struct Flow {
    pub sent: AtomicU64,
    /// Nothing more will be sent.
    pub is_done: AtomicBool,
    /// The other side has sent a PING, which only the sender can answer.
    pub is_pong_due: AtomicBool,
    pub lanes: Vec<Arc<Progress>>,
    /// The acknowledgements.
    pub receipts: Progress,
    awaits: Awaits,
    is_waiting: AtomicBool,
    room: Notify,
}

impl Flow {
    /// A flow to so many recipients.
    #[must_use]
    pub fn new(recipients: usize, awaits: Awaits) -> Self {
        Self {
            sent: AtomicU64::new(0),
            is_done: AtomicBool::new(false),
            is_pong_due: AtomicBool::new(false),
            lanes: (0..recipients).map(|_| Arc::default()).collect(),
            receipts: Progress::default(),
            awaits,
            is_waiting: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Messages that the slowest recipient has not had.
    fn undelivered(&self) -> u64 {
        let slowest = self.lanes.iter().map(|lane| lane.received.load(Ordering::SeqCst)).min();
        let sent = self.sent.load(Ordering::SeqCst);
        sent.saturating_sub(slowest.unwrap_or(sent))
    }

    /// Messages that were not acknowledged; none where nobody acknowledges them.
    #[must_use]
    pub fn unacknowledged(&self) -> u64 {
        match self.awaits {
            Awaits::Delivery => 0,
            Awaits::Receipts | Awaits::Both => {
                let acknowledged = self.receipts.received.load(Ordering::SeqCst);
                self.sent.load(Ordering::SeqCst).saturating_sub(acknowledged)
            }
        }
    }

    /// Messages that fill the window.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        match self.awaits {
            Awaits::Delivery => self.undelivered(),
            Awaits::Receipts => self.unacknowledged(),
            Awaits::Both => self.undelivered().max(self.unacknowledged()),
        }
    }

    /// Whether everything that was sent so far has arrived, and is acknowledged where it should be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.undelivered() == 0 && self.unacknowledged() == 0
    }

    /// Waits until at least a quarter of the window is free, so that writes stay large, and says how many messages
    /// may be sent. Where only acknowledgements are awaited the window is small, and one free place is enough.
    pub async fn room(&self, window: u64) -> u64 {
        let enough = if self.awaits == Awaits::Receipts { 1 } else { (window / 4).max(1) };
        loop {
            let free = window.saturating_sub(self.under_way());
            if free >= enough {
                return free;
            }
            self.is_waiting.store(true, Ordering::SeqCst);
            // What came in between is seen here; what comes from now on sees that somebody waits.
            if window.saturating_sub(self.under_way()) < enough && !self.is_pong_due.load(Ordering::SeqCst) {
                self.room.notified().await;
            }
            self.is_waiting.store(false, Ordering::SeqCst);
            if self.is_pong_due.load(Ordering::SeqCst) {
                return 0;
            }
        }
    }

    /// A recipient has had more, or there is something to answer.
    pub fn advanced(&self) {
        if self.is_waiting.swap(false, Ordering::SeqCst) {
            self.room.notify_one();
        }
    }

    /// Whether everything is sent, and all recipients have had it.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        self.is_done.load(Ordering::SeqCst) && self.is_settled()
    }

    /// Messages that all recipients together have had.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.received.load(Ordering::Relaxed)).sum()
    }
}

/// Remarks for the report: each once, the first few.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub fn add(&self, note: String) {
        let mut notes = self.0.lock();
        if notes.len() < MAX_NOTES && !notes.contains(&note) {
            notes.push(note);
        }
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }

    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_sender_waits_for_its_slowest_recipient() {
        let flow = Arc::new(Flow::new(2, Awaits::Delivery));
        assert_eq!(flow.room(8).await, 8);
        flow.sent.store(8, Ordering::SeqCst);
        flow.lanes[0].received.store(8, Ordering::SeqCst);
        let waiting = tokio::spawn({
            let flow = flow.clone();
            async move { flow.room(8).await }
        });
        tokio::task::yield_now().await;
        flow.lanes[1].received.store(1, Ordering::SeqCst);
        flow.advanced();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one of eight is not enough");
        flow.lanes[1].received.store(3, Ordering::SeqCst);
        flow.advanced();
        assert_eq!(timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap(), 3);
        assert_eq!(flow.delivered(), 11);
        assert!(!flow.has_arrived());
    }

    #[tokio::test]
    async fn acknowledgements_open_a_window_of_their_own() {
        let flow = Flow::new(1, Awaits::Receipts);
        flow.sent.store(64, Ordering::SeqCst);
        flow.receipts.received.store(1, Ordering::SeqCst);
        assert_eq!((flow.room(64).await, flow.unacknowledged()), (1, 63));
        flow.receipts.received.store(64, Ordering::SeqCst);
        flow.is_done.store(true, Ordering::SeqCst);
        assert!(!flow.has_arrived(), "acknowledged, but nobody has had it");
        flow.lanes[0].received.store(64, Ordering::SeqCst);
        assert!(flow.has_arrived());
    }
}
