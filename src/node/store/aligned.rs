//! Bytes that lie as a disk wants them for writing past the system's cache.

/// Memory, places in a file and lengths are multiples of this: as large as the blocks of any disk that is common.
pub const BLOCK_BYTES: usize = 4096;
/// Memory beyond this is given back when it is not needed any more.
const MAX_SPARE_BYTES: usize = 4 << 20;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Aligned {
    bytes: Vec<u8>,
    /// What is before it is not part of it.
    begin: usize,
}

impl Aligned {
    fn with_capacity(capacity_bytes: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity_bytes + BLOCK_BYTES);
        // Where it cannot be told, it is as if the memory were not aligned.
        let begin = bytes.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        bytes.resize(begin, 0);
        Self { bytes, begin }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }

    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.begin..).unwrap_or_default()
    }

    pub fn extend(&mut self, piece: &[u8]) {
        self.reserve(piece.len());
        self.bytes.extend_from_slice(piece);
    }

    /// Zeros up to the end of a block.
    pub fn fill_up(&mut self) {
        let missing = self.as_slice().len().next_multiple_of(BLOCK_BYTES) - self.as_slice().len();
        self.reserve(missing);
        self.bytes.resize(self.bytes.len() + missing, 0);
    }

    pub fn clear(&mut self) {
        if self.bytes.capacity() > MAX_SPARE_BYTES {
            *self = Self::default();
        }
        self.bytes.truncate(self.begin);
    }

    fn reserve(&mut self, more_bytes: usize) {
        if self.bytes.capacity() - self.bytes.len() < more_bytes {
            let needed = self.as_slice().len() + more_bytes;
            let mut larger = Self::with_capacity(needed.next_power_of_two());
            larger.bytes.extend_from_slice(self.as_slice());
            *self = larger;
        }
    }
}

/// Whether bytes can be written past the system's cache at a place.
#[must_use]
pub fn is_aligned(offset: u64, bytes: &[u8]) -> bool {
    offset.is_multiple_of(BLOCK_BYTES as u64)
        && bytes.len().is_multiple_of(BLOCK_BYTES)
        && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_it_was_given_and_is_aligned_however_it_grows() {
        let mut aligned = Aligned::default();
        let mut expected = Vec::new();
        for round in 1..200_usize {
            let piece = vec![u8::try_from(round).unwrap(); round * 97 % 9_000];
            aligned.extend(&piece);
            expected.extend_from_slice(&piece);
            if round % 7 == 0 {
                aligned.fill_up();
                expected.resize(expected.len().next_multiple_of(BLOCK_BYTES), 0);
                assert!(is_aligned(0, aligned.as_slice()));
            }
            assert!(aligned.as_slice() == expected);
        }
        aligned.clear();
        assert!(aligned.as_slice().is_empty() && aligned.as_mut_slice().is_empty());
        aligned.extend(b"x");
        aligned.fill_up();
        assert!(is_aligned(8_192, aligned.as_slice()) && !is_aligned(1, aligned.as_slice()));
        assert_eq!(aligned.as_slice().len(), BLOCK_BYTES);
    }
}
