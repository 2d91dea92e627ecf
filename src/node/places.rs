//! Places for connections: so many at once, and so many from one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

#[derive(Debug, Default)]
struct Taken {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
}

/// Places at one door.
#[derive(Debug, Clone)]
pub struct Places {
    taken: Arc<Mutex<Taken>>,
    max: usize,
    max_per_address: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("connections are refused: {0} are open, which is the limit")]
    Full(usize),
    #[error("connections from {0} are refused: {1} are open, which is the limit")]
    FullForAddress(IpAddr, usize),
}

/// A connection's place, until it ends.
#[derive(Debug)]
pub struct Place {
    taken: Arc<Mutex<Taken>>,
    address: IpAddr,
}

impl Places {
    #[must_use]
    pub fn new(max: usize, max_per_address: usize) -> Self {
        Self { taken: Arc::default(), max, max_per_address }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn take(&self, address: IpAddr) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock();
        if taken.total >= self.max {
            return Err(NoPlace::Full(self.max));
        }
        let from_here = taken.by_address.entry(address).or_default();
        if *from_here >= self.max_per_address {
            return Err(NoPlace::FullForAddress(address, self.max_per_address));
        }
        *from_here += 1;
        taken.total += 1;
        Ok(Place { taken: self.taken.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let places = Places::new(3, 2);
        let [here, there] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let first = places.take(here).unwrap();
        let _second = places.take(here).unwrap();
        assert_eq!(places.take(here).unwrap_err(), NoPlace::FullForAddress(here, 2));
        let _third = places.take(there).unwrap();
        assert_eq!(places.take(there).unwrap_err(), NoPlace::Full(3));
        drop(first);
        assert!(places.take(here).is_ok());
    }
}
