//! Outputs with a bound: what the router has for a client or a peer, until its task has written it.
//!
//! The router appends and never waits; the task swaps the whole content out and writes it in as few writes as
//! possible. Both sides touch the lock for an instant only.

use std::mem;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::hub::Mark;
use crate::wire::peer::PeerFrame;

/// What is written to a client next.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// What to report.
    pub marks: Vec<Mark>,
    /// At which byte each message that has a mark is written.
    ends: Vec<usize>,
}

impl Batch {
    /// Appends bytes, with marks that stand in them.
    pub fn push(&mut self, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        for (end, mark) in marks {
            self.ends.push(start + end);
            self.mark(mark);
        }
    }

    fn mark(&mut self, mark: Mark) {
        if !self.marks.last_mut().is_some_and(|last| last.take_next(&mark)) {
            self.marks.push(mark);
        }
    }

    fn append(&mut self, other: &mut Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.drain(..).map(|end| start + end));
        other.marks.drain(..).for_each(|mark| self.mark(mark));
        other.bytes.clear();
    }

    /// Messages that have a mark.
    #[must_use]
    pub fn marked_messages(&self) -> usize {
        self.ends.len()
    }

    /// The marks of the messages of which not all bytes are within the first so many.
    #[must_use]
    pub fn unwritten(self, written_bytes: usize) -> Vec<Mark> {
        let mut written = self.ends.partition_point(|end| *end <= written_bytes) as u64;
        let left = self.marks.into_iter().filter_map(|mark| {
            let count = written.min(mark.count);
            written -= count;
            mark.without(count)
        });
        left.collect()
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[derive(Debug, Default)]
struct ClientState {
    next: Batch,
    /// Emptied, for use again; only while there is much to write, so that an idle client costs none.
    spare: Option<Batch>,
    /// Bytes that the task has taken and not yet written.
    writing_bytes: usize,
    is_closing: bool,
    /// Something did not fit; what comes after it must not be written either.
    is_overflown: bool,
    tell_when_drained: bool,
}

impl ClientState {
    fn waiting_bytes(&self) -> usize {
        self.next.bytes.len() + self.writing_bytes
    }
}

/// The output of one client connection.
#[derive(Debug)]
pub struct ClientOutbox {
    state: Mutex<ClientState>,
    wake: Notify,
    max_bytes: usize,
}

/// Beyond this many times its bound even answers and notices are too much: the connection is given up.
const MAX_OVERFLOW: usize = 4;

impl ClientOutbox {
    /// Entries are appended while fewer than `max_bytes` wait.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), max_bytes }
    }

    /// An empty batch to fill.
    pub fn begin(&self) -> Batch {
        self.state.lock().spare.take().unwrap_or_default()
    }

    /// Appends what is in the batch, and wakes the task. If it is the last, the connection ends behind it.
    pub fn push(&self, batch: &mut Batch, is_last: bool) {
        {
            let mut state = self.state.lock();
            state.is_overflown |= state.next.bytes.len() > self.max_bytes.saturating_mul(MAX_OVERFLOW);
            if state.is_overflown {
                state.is_closing = true;
                *batch = Batch::default();
            } else if state.next.is_empty() && state.next.marks.is_empty() {
                state.next = mem::take(batch);
            } else {
                state.next.append(batch);
            }
            // Under one lock: the task must not see the one without the other.
            state.is_closing |= is_last;
        }
        self.wake.notify_one();
    }

    /// How many bytes of entries may be appended, where so many are to be already; if none, `written` will say when.
    #[must_use]
    pub fn room_bytes(&self, staged_bytes: usize) -> usize {
        let mut state = self.state.lock();
        let room = self.max_bytes.saturating_sub(state.waiting_bytes() + staged_bytes);
        // Under one lock: were it asked for later, the last write could have come between.
        state.tell_when_drained |= room == 0;
        room
    }

    /// Whether the client is so far behind that nothing more is read from it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.lock().waiting_bytes() >= self.max_bytes
    }

    /// Whether the connection is to end once everything is written.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state.lock().is_closing
    }

    /// Waits for something to do.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes everything; `None` if there is nothing. `written` must follow.
    pub fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.next.is_empty() {
            return None;
        }
        state.writing_bytes = state.next.bytes.len();
        Some(mem::take(&mut state.next))
    }

    /// What was taken is written. True if the router waits to hear that there is room.
    pub fn written(&self, mut batch: Batch) -> bool {
        let mut state = self.state.lock();
        state.writing_bytes = 0;
        state.spare = (!state.next.is_empty()).then(|| {
            batch.bytes.clear();
            batch.marks.clear();
            batch.ends.clear();
            batch
        });
        state.next.bytes.len() < self.max_bytes / 2 && mem::take(&mut state.tell_when_drained)
    }

    /// Whether the connection ends now: it is being closed and everything is written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.is_closing && state.next.bytes.is_empty() && state.writing_bytes == 0
    }

    /// What was taken and could not be written, when the connection has ended.
    pub fn return_marks(&self, marks: Vec<Mark>) {
        let mut state = self.state.lock();
        state.writing_bytes = 0;
        state.next.marks.splice(0..0, marks);
    }

    /// What was never written, when the connection has ended.
    pub fn unwritten(&self) -> Vec<Mark> {
        mem::take(&mut self.state.lock().next.marks)
    }
}

#[derive(Debug, Default)]
struct LinkState {
    frames: Vec<PeerFrame>,
    bytes: usize,
    closing: Option<String>,
    tell_when_drained: bool,
}

/// The output of one link.
#[derive(Debug)]
pub struct LinkOutbox {
    state: Mutex<LinkState>,
    wake: Notify,
    /// Apart from `wake`, because a peer that takes nothing holds up the writing.
    closed: Notify,
    max_bytes: usize,
}

impl LinkOutbox {
    /// Entries are appended while fewer than `max_bytes` wait.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), closed: Notify::new(), max_bytes }
    }

    pub fn push(&self, frame: PeerFrame) {
        let mut state = self.state.lock();
        state.bytes += frame.cost_bytes();
        state.frames.push(frame);
    }

    /// Ends the link after what is there now.
    pub fn close(&self, reason: &str) {
        self.state.lock().closing.get_or_insert_with(|| reason.to_owned());
        self.closed.notify_one();
    }

    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether entries may be appended; if not, `take` will say when.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.state.lock();
        let has_room = state.bytes < self.max_bytes;
        state.tell_when_drained |= !has_room;
        has_room
    }

    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes all frames, and whether the router waits to hear that there is room.
    pub fn take(&self) -> (Vec<PeerFrame>, bool) {
        let mut state = self.state.lock();
        state.bytes = 0;
        (mem::take(&mut state.frames), mem::take(&mut state.tell_when_drained))
    }

    /// Waits until the link is to end, and says why.
    pub async fn closed(&self) -> String {
        self.closed.notified().await;
        self.state.lock().closing.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{chat::Registration, clique::Origin};

    fn mark(number: u64, is_mail: bool) -> Mark {
        Mark {
            origin: Origin { node: 1, incarnation: 2 },
            number,
            count: 1,
            recipient: Registration { time: 3, node: 1 },
            is_direct: true,
            is_mail,
            wants_receipt: true,
            trace: None,
            queued_unix_us: number,
            replayed_from_unix_ms: None,
        }
    }

    proptest! {
        #[test]
        fn marks_of_neighbours_are_one_and_fall_apart_where_the_writing_ended(
            pieces in prop::collection::vec(
                (prop::collection::vec((1..5_usize, 0..3_u64, prop::bool::weighted(0.1)), 1..8), any::<bool>()), 1..8,
            ),
            written in 0..200_usize,
        ) {
            let (mut all, mut staged, mut naive) = (Batch::default(), Batch::default(), Vec::new());
            let (mut number, mut end) = (0, 0);
            for (messages, is_handed_over) in pieces {
                let (mut marks, start) = (Vec::new(), end);
                for (bytes, gap, is_mail) in messages {
                    (end, number) = (end + bytes, number + 1 + gap / 2);
                    marks.push((end - start, mark(number, is_mail)));
                    naive.push((end, number));
                }
                staged.push(&vec![0; end - start], marks);
                if is_handed_over {
                    all.append(&mut staged);
                }
            }
            all.append(&mut staged);
            prop_assert_eq!((all.bytes.len(), all.marked_messages()), (end, naive.len()));
            let left = all.unwritten(written);
            let mut neighbours = left.windows(2).filter_map(|pair| <&[Mark; 2]>::try_from(pair).ok());
            prop_assert!(neighbours.all(|[one, next]| !one.clone().take_next(next)));
            let left: Vec<u64> = left.iter().flat_map(|mark| mark.number..mark.number + mark.count).collect();
            let expected: Vec<u64> =
                naive.iter().filter(|(end, _)| *end > written).map(|(_, number)| *number).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
