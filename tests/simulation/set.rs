//! Sets of messages, by their number in the run.

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MessageSet(Vec<u64>);

impl MessageSet {
    pub fn insert(&mut self, message: usize) {
        let word = message / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (message % 64);
    }

    pub fn contains(&self, message: usize) -> bool {
        self.0.get(message / 64).is_some_and(|word| word & (1 << (message % 64)) != 0)
    }

    pub fn extend(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub fn keep(&mut self, other: &Self) {
        for (index, word) in self.0.iter_mut().enumerate() {
            *word &= other.0.get(index).copied().unwrap_or(0);
        }
    }

    /// What is here and not in `other`.
    pub fn without(&self, other: &Self) -> Vec<usize> {
        let mut left = Vec::new();
        for (index, word) in self.0.iter().enumerate() {
            let mut rest = word & !other.0.get(index).copied().unwrap_or(0);
            while rest != 0 {
                left.push(index * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        left
    }
}
