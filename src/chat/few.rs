//! Maps and sets that nearly always have one entry, by the ten thousand: without an allocation for it, in order.

use smallvec::SmallVec;

/// A map of few entries. Everything costs in proportion to their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewMap<K, V>(SmallVec<[(K, V); 1]>);

impl<K, V> Default for FewMap<K, V> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<K: Ord, V> FewMap<K, V> {
    /// Gives what was there before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(place) => Some(std::mem::replace(&mut self.0[place].1, value)),
            Err(place) => {
                self.0.insert(place, (key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key).ok()?;
        let (_, value) = self.0.remove(place);
        if self.0.len() == 1 {
            self.0.shrink_to_fit();
        }
        Some(value)
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.place(key).ok().map(|place| &self.0[place].1)
    }

    pub fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }
}

/// A set of few entries.
pub type FewSet<T> = FewMap<T, ()>;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<bool>(), 0..6_u8, any::<u16>()), 0..60)) {
            let (mut few, mut model) = (FewMap::default(), BTreeMap::new());
            for (inserts, key, value) in steps {
                if inserts {
                    prop_assert_eq!(few.insert(key, value), model.insert(key, value));
                } else {
                    prop_assert_eq!(few.remove(&key), model.remove(&key));
                }
                prop_assert!(few.keys().eq(model.keys()) && few.values().eq(model.values()));
                prop_assert_eq!(few.get(&key), model.get(&key));
                prop_assert_eq!((few.contains_key(&key), few.is_empty()), (model.contains_key(&key), model.is_empty()));
            }
        }
    }
}
