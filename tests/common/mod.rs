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
pub mod split;
pub mod wanderer;

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Long enough for any machine; only there so that a test that hangs ends, and says where.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at something that cannot be waited for otherwise.
const PAUSE: Duration = Duration::from_millis(10);

/// What nodes do from now on is later than what they did before, by the clock of each, whichever they are.
pub fn next_millisecond() {
    let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before_ms = now_ms();
    eventually("another millisecond", || (now_ms() > before_ms).then_some(()));
}

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
