//! When the messages of an open loop are due, whatever becomes of those before them.
//!
//! A message's latency counts from when it was due. A system that stalls is so charged for all the messages that should
//! have been sent meanwhile, and not only for the one that happened to be under way (coordinated omission).

const NS_PER_S: u128 = 1_000_000_000;

/// Evenly spaced messages.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Messages per second of all senders together.
    rate_per_s: u64,
    /// How many senders share the rate, and which of them this one is: they take turns.
    senders: u64,
    turn: u64,
}

impl Schedule {
    /// The schedule of sender `turn` of `senders`, which together send `rate_per_s`. Zeros count as one.
    #[must_use]
    pub fn new(rate_per_s: u64, senders: u64, turn: u64) -> Self {
        Self { rate_per_s: rate_per_s.max(1), senders: senders.max(1), turn }
    }

    /// When message `sequence` is due, in nanoseconds since the start.
    #[must_use]
    pub fn time_ns(&self, sequence: u64) -> u64 {
        let place = u128::from(sequence) * u128::from(self.senders) + u128::from(self.turn);
        u64::try_from(place * NS_PER_S / u128::from(self.rate_per_s)).unwrap_or(u64::MAX)
    }

    /// How many messages are due by then.
    #[must_use]
    pub fn due(&self, elapsed_ns: u64) -> u64 {
        // Times are rounded down, so a place is due from the first whole nanosecond of its time on.
        let places = ((u128::from(elapsed_ns) + 1) * u128::from(self.rate_per_s) - 1) / NS_PER_S;
        let Some(after_first) = places.checked_sub(u128::from(self.turn)) else { return 0 };
        u64::try_from(after_first / u128::from(self.senders) + 1).unwrap_or(u64::MAX)
    }

    /// How many messages are due before then: those of a run of that length.
    #[must_use]
    pub fn count(&self, duration_ns: u64) -> u64 {
        duration_ns.checked_sub(1).map_or(0, |last| self.due(last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_holds_the_rate() {
        assert_eq!(Schedule::new(10_000, 1, 0).count(1_000_000_000), 10_000);
        assert_eq!(Schedule::new(3, 1, 0).count(1_000_000_000), 3);
        assert_eq!((0..4).map(|turn| Schedule::new(10, 4, turn).count(1_000_000_000)).sum::<u64>(), 10);
        assert_eq!(Schedule::new(10, 1, 0).count(0), 0);
    }

    proptest! {
        #[test]
        fn a_message_is_due_exactly_from_its_time_on(
            rate in 1..5_000_000_u64, senders in 1..9_u64, turn in 0..9_u64, sequence in 0..1_000_000_000_u64,
        ) {
            let schedule = Schedule::new(rate, senders, turn % senders);
            let time_ns = schedule.time_ns(sequence);
            prop_assert!(schedule.due(time_ns) > sequence);
            if let Some(before) = time_ns.checked_sub(1) {
                prop_assert!(schedule.due(before) <= sequence);
            }
        }

        #[test]
        fn the_rate_is_kept_over_any_time(rate in 1..1_000_000_u64, elapsed_ns in 0..1_u64 << 44) {
            let due = u128::from(Schedule::new(rate, 1, 0).due(elapsed_ns));
            let exact = u128::from(elapsed_ns) * u128::from(rate) / NS_PER_S;
            prop_assert!(due == exact + 1 || due == exact + 2, "{} of {}", due, exact);
        }
    }
}
