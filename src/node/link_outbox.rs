//! The output of a link, with a bound: what the router has for a peer, until HTTP/2 can send it.

use std::{
    collections::VecDeque,
    mem,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::wire::peer::PeerFrame;

#[derive(Debug, Default)]
struct LinkState {
    frames: VecDeque<PeerFrame>,
    bytes: usize,
    closing: Option<String>,
    /// Nothing is appended any more.
    is_over: bool,
    /// Nothing is taken any more.
    is_abandoned: bool,
    tell_when_drained: bool,
    /// There is room again, and the router is to hear of it.
    is_drained: bool,
    /// Of the task that writes, while it waits for frames.
    waker: Option<Waker>,
}

/// The output of one link: HTTP/2 takes frames off it as it can send them.
#[derive(Debug)]
pub struct LinkOutbox {
    state: Mutex<LinkState>,
    /// There is room again, or nothing is taken any more.
    news: Notify,
    /// Apart from the rest, because a peer that takes nothing holds that up.
    closed: Notify,
    max_bytes: usize,
}

impl LinkOutbox {
    /// Entries are appended while fewer than `max_bytes` wait.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), news: Notify::new(), closed: Notify::new(), max_bytes }
    }

    pub fn push(&self, frame: PeerFrame) {
        let mut state = self.state.lock();
        state.bytes += frame.cost_bytes();
        state.frames.push_back(frame);
    }

    /// Ends the link after what is there now.
    pub fn close(&self, reason: &str) {
        self.state.lock().closing.get_or_insert_with(|| reason.to_owned());
        self.closed.notify_one();
    }

    /// Has what was appended written.
    pub fn wake(&self) {
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing more is appended: the stream ends behind what is there.
    pub fn end(&self) {
        self.state.lock().is_over = true;
        self.wake();
    }

    /// Nothing more is taken: the stream is gone.
    pub fn abandon(&self) {
        self.state.lock().is_abandoned = true;
        self.news.notify_one();
    }

    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.state.lock().is_abandoned
    }

    /// Whether entries may be appended; if not, `drained` will say when.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.state.lock();
        let has_room = state.bytes < self.max_bytes;
        state.tell_when_drained |= !has_room;
        has_room
    }

    /// The next frame; `None` at the end.
    pub fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<PeerFrame>> {
        let mut state = self.state.lock();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.cost_bytes();
            if state.bytes < self.max_bytes / 2 && mem::take(&mut state.tell_when_drained) {
                state.is_drained = true;
                self.news.notify_one();
            }
            return Poll::Ready(Some(frame));
        }
        if state.is_over {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits until the router is to hear that there is room; false if the stream is gone.
    pub async fn drained(&self) -> bool {
        loop {
            {
                let mut state = self.state.lock();
                if state.is_abandoned {
                    return false;
                }
                if mem::take(&mut state.is_drained) {
                    return true;
                }
            }
            self.news.notified().await;
        }
    }

    /// Waits until the link is to end, and says why.
    pub async fn closed(&self) -> String {
        self.closed.notified().await;
        self.state.lock().closing.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, pin::pin};

    use super::*;

    /// What comes out at once.
    fn taken(outbox: &LinkOutbox) -> Poll<Option<PeerFrame>> {
        outbox.poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_router_hears_of_room_once_half_of_it_is_free() {
        let frame_bytes = PeerFrame::Goodbye.cost_bytes();
        let outbox = LinkOutbox::new(4 * frame_bytes);
        let mut context = Context::from_waker(Waker::noop());
        let mut drained = pin!(outbox.drained());
        for _ in 0..4 {
            assert!(outbox.has_room());
            outbox.push(PeerFrame::Goodbye);
        }
        assert!(!outbox.has_room());
        for is_drained in [false, false, true] {
            assert_eq!(taken(&outbox), Poll::Ready(Some(PeerFrame::Goodbye)));
            assert_eq!(drained.as_mut().poll(&mut context).is_ready(), is_drained);
        }
        assert!(outbox.has_room());
    }

    #[test]
    fn it_ends_behind_what_is_there_and_says_when_nobody_takes_it() {
        let outbox = LinkOutbox::new(1_024);
        assert_eq!(taken(&outbox), Poll::Pending);
        outbox.push(PeerFrame::Goodbye);
        outbox.end();
        assert_eq!(taken(&outbox), Poll::Ready(Some(PeerFrame::Goodbye)));
        assert_eq!(taken(&outbox), Poll::Ready(None));
        outbox.abandon();
        let drained = pin!(outbox.drained()).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!((drained, outbox.is_abandoned()), (Poll::Ready(false), true));
    }
}
