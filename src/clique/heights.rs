//! Heights: how far, per origin.

use std::collections::BTreeMap;

use super::Origin;

/// For each origin the last entry of a prefix; what is absent is 0.
///
/// It is the acknowledgement, the resume point, the anti-entropy check and the causal clock in one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Heights(BTreeMap<Origin, u64>);

/// What a replica holds of one origin: `first..=height`, without a gap. Nothing if `first > height`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub origin: Origin,
    pub first: u64,
    pub height: u64,
}

impl Heights {
    #[must_use]
    pub fn get(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Raises one origin; never lowers it.
    pub fn raise(&mut self, origin: Origin, height: u64) {
        let known = self.0.entry(origin).or_insert(0);
        *known = (*known).max(height);
    }

    /// The same, of one origin only up to before an entry.
    #[must_use]
    pub fn before(&self, origin: Origin, number: u64) -> Self {
        let mut heights = self.clone();
        heights.0.insert(origin, number.saturating_sub(1));
        heights
    }

    pub fn iter(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.0.iter().map(|(origin, height)| (*origin, *height))
    }

    /// Whether nothing in `other` is higher than here.
    #[must_use]
    pub fn covers(&self, other: &[(Origin, u64)]) -> bool {
        other.iter().all(|(origin, height)| self.get(*origin) >= *height)
    }
}

impl FromIterator<(Origin, u64)> for Heights {
    fn from_iter<T: IntoIterator<Item = (Origin, u64)>>(pairs: T) -> Self {
        let mut heights = Self::default();
        for (origin, height) in pairs {
            heights.raise(origin, height);
        }
        heights
    }
}
