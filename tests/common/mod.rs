//! What the end-to-end tests share: real processes, real sockets, and deadlines instead of pauses.

// Each test uses the part that it needs.
#![allow(dead_code)]

pub mod cliques;
pub mod extended;
pub mod frames;
pub mod lines;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod socket;
pub mod wanderer;

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for any machine; only there so that a test that hangs ends, and says where.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at something that cannot be waited for otherwise.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks again and again until there is an answer; fails the test if there is none in time.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", PATIENCE.as_secs());
        thread::sleep(PAUSE);
    }
}
