//! Hybrid logical time (Kulkarni et al., "Logical Physical Clocks", 2014): 48 bits of Unix milliseconds, 16 bits of
//! counter. Later than everything seen, and as near to the wall clock as that allows.

const COUNTER_BITS: u32 = 16;

/// The clock of one node. The wall clock comes in as an argument.
#[derive(Debug, Default, Clone)]
pub struct HybridClock {
    last: u64,
}

impl HybridClock {
    /// A time later than any that this clock gave or saw. The counter running over lends from the milliseconds.
    pub fn next(&mut self, now_unix_ms: u64) -> u64 {
        self.last = self.last.saturating_add(1).max(now_unix_ms << COUNTER_BITS);
        self.last
    }

    /// Takes note of a time from elsewhere.
    pub fn see(&mut self, time: u64) {
        self.last = self.last.max(time);
    }

    /// The latest time given or seen.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }
}

/// The first time of a millisecond.
#[must_use]
pub fn from_unix_ms(unix_ms: u64) -> u64 {
    unix_ms << COUNTER_BITS
}

/// The wall-clock part, in Unix milliseconds.
#[must_use]
pub fn unix_ms(time: u64) -> u64 {
    time >> COUNTER_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn always_later_than_all_given_and_seen(steps in proptest::collection::vec((0..1_u64 << 40, 0..1_u64 << 50), 1..50)) {
            let mut clock = HybridClock::default();
            let mut latest = 0;
            for (now, seen) in steps {
                clock.see(seen);
                let time = clock.next(now);
                prop_assert!(time > latest.max(seen) && unix_ms(time) >= now);
                latest = time;
            }
        }
    }
}
