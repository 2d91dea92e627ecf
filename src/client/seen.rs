//! What was shown already, so that nothing is shown twice: the last line of defence, with a bounded memory.

use std::collections::{HashSet, VecDeque};

use crate::clique::Origin;

/// The latest entries, up to a bound.
#[derive(Debug)]
pub struct Seen {
    entries: HashSet<(Origin, u64)>,
    order: VecDeque<(Origin, u64)>,
    max_entries: usize,
}

impl Seen {
    pub fn new(max_entries: usize) -> Self {
        Self { entries: HashSet::new(), order: VecDeque::new(), max_entries }
    }

    pub fn contains(&self, entry: (Origin, u64)) -> bool {
        self.entries.contains(&entry)
    }

    /// Takes note of an entry; `false` if it was there before.
    pub fn insert(&mut self, entry: (Origin, u64)) -> bool {
        if !self.entries.insert(entry) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > self.max_entries
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_bound_the_oldest_is_forgotten() {
        let origin = Origin { node: 0, incarnation: 1 };
        let mut seen = Seen::new(2);
        assert!((1..=3).all(|number| seen.insert((origin, number))));
        assert!(!seen.insert((origin, 3)));
        assert!(!seen.contains((origin, 1)) && seen.contains((origin, 2)));
        assert!(seen.insert((origin, 1)));
        assert_eq!(seen.entries.len(), 2);
    }
}
