//! The output of a client, with a bound: what the router has for it, until its task has written it.
//!
//! The router appends and never waits; the task swaps the whole content out and writes it in as few writes as
//! possible. Both sides touch the lock for an instant only.

use std::{
    future::poll_fn,
    mem,
    task::{Poll, Waker},
};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;

use super::{hub::Mark, pieces::Pieces};

/// What is written to a client next.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Pieces,
    /// Bytes that were put in, written or not.
    pub total_bytes: usize,
    /// What to report.
    pub marks: Vec<Mark>,
    /// At which byte each message that has a mark is written.
    ends: Vec<usize>,
}

impl Batch {
    /// Appends bytes, with marks that stand in them.
    pub fn push(&mut self, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        let start = self.total_bytes;
        self.bytes.copy(bytes);
        self.total_bytes += bytes.len();
        for (end, mark) in marks {
            self.ends.push(start + end);
            self.mark(mark);
        }
    }

    /// Appends bytes that others are sent too. The messages that the marks are for end at `ends`.
    pub fn share(&mut self, bytes: &Bytes, ends: &[usize], marks: impl IntoIterator<Item = Mark>) {
        let start = self.total_bytes;
        self.bytes.share(bytes);
        self.total_bytes += bytes.len();
        self.ends.extend(ends.iter().map(|end| start + end));
        marks.into_iter().for_each(|mark| self.mark(mark));
    }

    fn mark(&mut self, mark: Mark) {
        if !self.marks.last_mut().is_some_and(|last| last.take_next(&mark)) {
            self.marks.push(mark);
        }
    }

    fn append(&mut self, other: &mut Self) {
        let start = self.total_bytes;
        self.bytes.append(&mut other.bytes);
        self.total_bytes += mem::take(&mut other.total_bytes);
        self.ends.extend(other.ends.drain(..).map(|end| start + end));
        other.marks.drain(..).for_each(|mark| self.mark(mark));
    }

    /// Messages that have a mark.
    #[must_use]
    pub fn marked_messages(&self) -> usize {
        self.ends.len()
    }

    /// The marks of the messages of which not all bytes were taken off.
    #[must_use]
    pub fn unwritten(self) -> Vec<Mark> {
        let written_bytes = self.total_bytes - self.bytes.remaining();
        let mut written = self.ends.partition_point(|end| *end <= written_bytes) as u64;
        let left = self.marks.into_iter().filter_map(|mark| {
            let count = written.min(mark.count);
            written -= count;
            mark.without(count)
        });
        left.collect()
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn is_written(&self) -> bool {
        !self.bytes.has_remaining()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.total_bytes = 0;
        self.marks.clear();
        self.ends.clear();
    }
}

/// Batches are in boxes of their own: an idle client has none.
#[derive(Debug, Default)]
struct ClientState {
    next: Option<Box<Batch>>,
    /// Emptied, for use again; only while there is much to write.
    spare: Option<Box<Batch>>,
    /// Bytes that the task has taken and not yet written.
    writing_bytes: usize,
    is_closing: bool,
    /// Something did not fit; what comes after it must not be written either.
    is_overflown: bool,
    tell_when_drained: bool,
    /// Of the task, while it waits for something to write.
    waker: Option<Waker>,
}

impl ClientState {
    fn next_bytes(&self) -> usize {
        self.next.as_ref().map_or(0, |next| next.total_bytes)
    }

    fn take(&mut self) -> Option<Box<Batch>> {
        let batch = self.next.take_if(|next| !next.is_written())?;
        self.writing_bytes = batch.total_bytes;
        Some(batch)
    }

    fn waiting_bytes(&self) -> usize {
        self.next_bytes() + self.writing_bytes
    }
}

/// The output of one client connection.
#[derive(Debug)]
pub struct ClientOutbox {
    state: Mutex<ClientState>,
    max_bytes: usize,
}

/// Beyond this many times its bound even answers and notices are too much: the connection is given up.
const MAX_OVERFLOW: usize = 4;

impl ClientOutbox {
    /// Entries are appended while fewer than `max_bytes` wait.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), max_bytes }
    }

    /// An empty batch to fill.
    pub fn begin(&self) -> Box<Batch> {
        self.state.lock().spare.take().unwrap_or_default()
    }

    /// Appends what is in the batch, and wakes the task. If it is the last, the connection ends behind it.
    pub fn push(&self, mut batch: Box<Batch>, is_last: bool) {
        let waker = {
            let mut state = self.state.lock();
            state.is_overflown |= state.next_bytes() > self.max_bytes.saturating_mul(MAX_OVERFLOW);
            if state.is_overflown {
                state.is_closing = true;
            } else if let Some(next) = &mut state.next {
                next.append(&mut batch);
            } else {
                state.next = Some(batch);
            }
            // Under one lock: the task must not see the one without the other.
            state.is_closing |= is_last;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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

    /// Waits for something to write, and takes everything; or for the end, and then there is nothing. `written` must
    /// follow. Safe to cancel.
    pub async fn next(&self) -> Option<Box<Batch>> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            let batch = state.take();
            if batch.is_some() || state.is_closing {
                return Poll::Ready(batch);
            }
            match &mut state.waker {
                Some(waker) => waker.clone_from(context.waker()),
                waker => *waker = Some(context.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// Takes everything; `None` if there is nothing. `written` must follow.
    pub fn take(&self) -> Option<Box<Batch>> {
        self.state.lock().take()
    }

    /// What was taken is written. True if the router waits to hear that there is room.
    pub fn written(&self, mut batch: Box<Batch>) -> bool {
        let mut state = self.state.lock();
        state.writing_bytes = 0;
        state.spare = state.next.is_some().then(|| {
            batch.clear();
            batch
        });
        state.next_bytes() < self.max_bytes / 2 && mem::take(&mut state.tell_when_drained)
    }

    /// Whether the connection ends now: it is being closed and everything is written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.is_closing && state.next_bytes() == 0 && state.writing_bytes == 0
    }

    /// What was taken and could not be written, when the connection has ended.
    pub fn return_marks(&self, marks: Vec<Mark>) {
        let mut state = self.state.lock();
        state.writing_bytes = 0;
        state.next.get_or_insert_default().marks.splice(0..0, marks);
    }

    /// What was never written, when the connection has ended.
    pub fn unwritten(&self) -> Vec<Mark> {
        self.state.lock().next.take().map(|next| next.marks).unwrap_or_default()
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
            prop_assert_eq!((all.bytes.remaining(), all.marked_messages()), (end, naive.len()));
            all.bytes.advance(written.min(end));
            let left = all.unwritten();
            let mut neighbours = left.windows(2).filter_map(|pair| <&[Mark; 2]>::try_from(pair).ok());
            prop_assert!(neighbours.all(|[one, next]| !one.clone().take_next(next)));
            let left: Vec<u64> = left.iter().flat_map(|mark| mark.number..mark.number + mark.count).collect();
            let expected: Vec<u64> =
                naive.iter().filter(|(end, _)| *end > written).map(|(_, number)| *number).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
