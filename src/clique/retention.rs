//! What is kept how long: per origin the size and the age of each complete segment, and which one goes next.
//!
//! Nodes may decide at different moments; they exchange how far they have cut (a *floor* per origin, which only rises),
//! and each takes the highest, so all end with the same answer to what is still there.

use std::collections::BTreeMap;

use super::{
    Origin,
    chain::{SEGMENT_ENTRIES, boundary_before},
};

/// How much is kept; 0 is without a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    pub max_age_ms: u64,
    pub max_bytes: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Extent {
    bytes: u64,
    /// Of its latest entry, in Unix milliseconds.
    unix_ms: u64,
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Retention {
    /// By the last number of the segment.
    extents: BTreeMap<Origin, BTreeMap<u64, Extent>>,
    bytes: u64,
}

impl Retention {
    /// Bytes of entries that are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Entries up to `last` have come to what is kept. They count for the segment of the last of them.
    pub fn add(&mut self, origin: Origin, last: u64, bytes: u64, unix_ms: u64) {
        let end = boundary_before(last - 1) + SEGMENT_ENTRIES;
        let extent = self.extents.entry(origin).or_default().entry(end).or_default();
        extent.bytes += bytes;
        extent.unix_ms = extent.unix_ms.max(unix_ms);
        self.bytes += bytes;
    }

    /// Nothing before `first` is kept any more.
    pub fn cut(&mut self, origin: Origin, first: u64) {
        let Some(extents) = self.extents.get_mut(&origin) else { return };
        while let Some(oldest) = extents.first_entry()
            && *oldest.key() < first
        {
            self.bytes = self.bytes.saturating_sub(oldest.remove().bytes);
        }
        if extents.is_empty() {
            self.extents.remove(&origin);
        }
    }

    /// The segment that goes next, if one must: its origin and last entry. `settled` says up to which entry an origin can
    /// be cut at most.
    #[must_use]
    pub fn next(&self, keep: Keep, now_unix_ms: u64, settled: impl Fn(Origin) -> u64) -> Option<(Origin, u64)> {
        let oldest = self.extents.iter().filter_map(|(origin, extents)| {
            let (last, extent) = extents.first_key_value()?;
            (*last <= settled(*origin)).then_some((extent.unix_ms, *origin, *last))
        });
        let (unix_ms, origin, last) = oldest.min()?;
        let is_old = keep.max_age_ms > 0 && unix_ms.saturating_add(keep.max_age_ms) < now_unix_ms;
        let is_over = keep.max_bytes > 0 && self.bytes > keep.max_bytes;
        (is_old || is_over).then_some((origin, last))
    }
}
