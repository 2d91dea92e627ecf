//! How long a connection may be silent, slow, or closing.

use std::time::Duration;

use tokio::time::Instant;

use super::{CLOSING_TIMEOUT, End};
use crate::node::settings::Limits;

/// When a connection was heard of last, and how long that may be ago.
pub(super) struct Clock {
    limits: Limits,
    pub(super) heard: Instant,
    pub(super) is_half_closed: bool,
    pub(super) is_closing: bool,
}

impl Clock {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, heard: Instant::now(), is_half_closed: false, is_closing: false }
    }

    /// From now on the time to write the rest runs.
    pub(super) fn begin_closing(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.heard = Instant::now();
        }
    }

    pub(super) fn deadline(&self, is_slow: bool) -> Instant {
        self.heard
            + if self.is_closing {
                CLOSING_TIMEOUT
            } else if is_slow {
                Duration::from_millis(self.limits.handshake_ms)
            } else {
                Duration::from_millis(self.limits.idle_ms)
            }
    }

    /// What to tell a client whose time is over; nothing to one that is going anyway.
    pub(super) fn end(&self, is_slow: bool) -> Option<End> {
        if self.is_closing {
            None
        } else if is_slow {
            Some(End::TooSlow(self.limits.handshake_ms))
        } else {
            Some(End::Idle(self.limits.idle_ms))
        }
    }
}
