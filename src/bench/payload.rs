//! What the generator's messages say: who sent them, which one it is, and when; then filler up to the size asked for.
//!
//! Everything is printable ASCII, so that it passes through every dialect and can be read in a capture.

/// Bytes of a stamp, and so the smallest message.
pub const STAMP_BYTES: usize = SENDER_DIGITS + SEQUENCE_DIGITS + TIME_DIGITS;
/// Largest message, in bytes: names and separators still fit into an original frame.
pub const MAX_BYTES: usize = 32_640;
/// The sender that probes use; no run has so many.
pub const PROBE: u16 = (1 << (6 * SENDER_DIGITS)) - 1;

const SENDER_DIGITS: usize = 2;
/// 68 thousand million messages per sender.
const SEQUENCE_DIGITS: usize = 6;
/// 78 hours in nanoseconds.
const TIME_DIGITS: usize = 8;
const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const NO_DIGIT: u8 = 0xff;
const VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
}

/// The beginning of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Below [`PROBE`], or that.
    pub sender: u16,
    /// Counted from 0 by the sender.
    pub sequence: u64,
    /// When it was sent, or should have been: nanoseconds since the run began.
    pub time_ns: u64,
}

impl Stamp {
    /// As text.
    #[must_use]
    pub fn encode(self) -> [u8; STAMP_BYTES] {
        let mut text = [0; STAMP_BYTES];
        let (sender, rest) = text.split_at_mut(SENDER_DIGITS);
        let (sequence, time) = rest.split_at_mut(SEQUENCE_DIGITS);
        put(sender, self.sender.into());
        put(sequence, self.sequence);
        put(time, self.time_ns);
        text
    }

    /// Reads the beginning of a message; `None` if it is no stamp.
    #[must_use]
    pub fn decode(text: &[u8]) -> Option<Self> {
        let text = text.first_chunk::<STAMP_BYTES>()?;
        let (sender, rest) = text.split_at(SENDER_DIGITS);
        let (sequence, time) = rest.split_at(SEQUENCE_DIGITS);
        // Checked once for all digits: only what is none sets the upper bits.
        let mut all = 0;
        let sender = get(sender, &mut all) as u16;
        let stamp = Self { sender, sequence: get(sequence, &mut all), time_ns: get(time, &mut all) };
        (all < 64).then_some(stamp)
    }
}

fn put(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = DIGITS[(number & 63) as usize];
        number >>= 6;
    }
}

fn get(text: &[u8], all: &mut u8) -> u64 {
    text.iter().fold(0, |number, digit| {
        let value = VALUES[usize::from(*digit)];
        *all |= value;
        (number << 6) | u64::from(value & 63)
    })
}

/// What follows the stamp in a message of `size_bytes`.
#[must_use]
pub fn filler(size_bytes: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(size_bytes.saturating_sub(STAMP_BYTES)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stamps_survive(sender in 0..=PROBE, sequence in 0..1_u64 << 36, time_ns in 0..1_u64 << 48) {
            let stamp = Stamp { sender, sequence, time_ns };
            let text = stamp.encode();
            prop_assert!(text.iter().all(u8::is_ascii_graphic));
            prop_assert_eq!(Stamp::decode(&text), Some(stamp));
        }

        #[test]
        fn other_text_is_no_stamp(at in 0..STAMP_BYTES, byte in any::<u8>()) {
            let mut text = Stamp { sender: 1, sequence: 2, time_ns: 3 }.encode();
            text[at] = byte;
            prop_assert_eq!(Stamp::decode(&text).is_some(), DIGITS.contains(&byte));
            prop_assert_eq!(Stamp::decode(&text[1..]), None);
        }
    }

    #[test]
    fn the_filler_makes_up_the_size() {
        assert_eq!(filler(STAMP_BYTES), b"");
        assert_eq!(filler(STAMP_BYTES + 3), b"abc");
        assert_eq!(filler(0), b"");
    }
}
