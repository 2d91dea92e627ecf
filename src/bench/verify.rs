//! Loss, duplicates and order of what one recipient gets from one sender.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was wrong, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Sent and never received.
    pub loss: u64,
    /// Received again.
    pub duplicates: u64,
    /// Received after a later one of the same sender.
    pub disorder: u64,
    /// Received with other text than was sent.
    pub corrupt: u64,
    /// Received by somebody they were not for.
    pub misrouted: u64,
    /// Sent and never acknowledged, where that was asked for.
    pub unacknowledged: u64,
}

impl Faults {
    /// Whether everything arrived once, in order and whole.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Adds another recipient's.
    pub fn add(&mut self, other: &Self) {
        self.loss += other.loss;
        self.duplicates += other.duplicates;
        self.disorder += other.disorder;
        self.corrupt += other.corrupt;
        self.misrouted += other.misrouted;
        self.unacknowledged += other.unacknowledged;
    }
}

/// Follows the sequence numbers of one sender, which count from 0.
#[derive(Debug, Default)]
pub struct Verifier {
    /// One more than the highest number received.
    next: u64,
    /// Numbers below `next` that were not received: first of a stretch → one more than its last. As long as nothing is
    /// lost or overtaken it is empty and costs nothing.
    missing: BTreeMap<u64, u64>,
    duplicates: u64,
    disorder: u64,
}

impl Verifier {
    /// One has come. True if it is new.
    pub fn take(&mut self, sequence: u64) -> bool {
        if sequence == self.next {
            self.next += 1;
            return true;
        }
        if sequence > self.next {
            self.missing.insert(self.next, sequence);
            self.next = sequence + 1;
            return true;
        }
        let is_new = self.fill(sequence);
        if is_new {
            self.disorder += 1;
        } else {
            self.duplicates += 1;
        }
        is_new
    }

    /// Takes a number out of the missing ones, if it is one of them.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some((&first, &end)) = self.missing.range(..=sequence).next_back() else { return false };
        if sequence >= end {
            return false;
        }
        self.missing.remove(&first);
        if first < sequence {
            self.missing.insert(first, sequence);
        }
        if sequence + 1 < end {
            self.missing.insert(sequence + 1, end);
        }
        true
    }

    /// How many different ones have come.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.next - self.missing.iter().map(|(first, end)| end - first).sum::<u64>()
    }

    /// The verdict, when the sender has sent `sent`.
    #[must_use]
    pub fn faults(&self, sent: u64) -> Faults {
        Faults {
            loss: sent.saturating_sub(self.received()),
            duplicates: self.duplicates,
            disorder: self.disorder,
            ..Faults::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same by the plainest means.
    fn naive(arrivals: &[u64], sent: u64) -> Faults {
        let mut seen = BTreeSet::new();
        let mut faults = Faults::default();
        for sequence in arrivals {
            let is_overtaken = seen.last().is_some_and(|last| last > sequence);
            if !seen.insert(*sequence) {
                faults.duplicates += 1;
            } else if is_overtaken {
                faults.disorder += 1;
            }
        }
        faults.loss = sent - seen.len() as u64;
        faults
    }

    #[test]
    fn what_comes_whole_is_clean() {
        let mut verifier = Verifier::default();
        assert!((0..1_000).all(|sequence| verifier.take(sequence)));
        assert!(verifier.faults(1_000).is_clean());
        assert_eq!(verifier.faults(1_001).loss, 1);
    }

    #[test]
    fn each_fault_is_told_apart() {
        let mut verifier = Verifier::default();
        for sequence in [0, 1, 1, 4, 3, 3, 6] {
            verifier.take(sequence);
        }
        assert_eq!(verifier.faults(8), Faults { loss: 3, duplicates: 2, disorder: 1, ..Faults::default() });
        assert_eq!(verifier.received(), 5);
    }

    proptest! {
        #[test]
        fn any_arrivals_are_judged_as_by_the_plainest_means(
            arrivals in proptest::collection::vec(0..40_u64, 0..120), more in 0..5_u64,
        ) {
            let sent = 40 + more;
            let mut verifier = Verifier::default();
            let new = arrivals.iter().filter(|sequence| verifier.take(**sequence)).count() as u64;
            prop_assert_eq!(new, verifier.received());
            prop_assert_eq!(verifier.faults(sent), naive(&arrivals, sent));
        }
    }
}
