//! What the generator's messages say: who sent them, which one it is, and when; then filler up to the size asked for.
//!
//! Everything is printable ASCII, so that it passes through every dialect and can be read in a capture.

/// Bytes of a stamp, and so the smallest message.
pub const STAMP_BYTES: usize = (SENDER_DIGITS + SEQUENCE_DIGITS + TIME_DIGITS) as usize;
/// Largest message, in bytes: names and separators still fit into an original frame.
pub const MAX_BYTES: usize = 32_640;
/// The sender that probes use; no run has so many.
pub const PROBE: u16 = (1 << (6 * SENDER_DIGITS)) - 1;

const SENDER_DIGITS: u32 = 2;
/// 68 thousand million messages per sender.
const SEQUENCE_DIGITS: u32 = 6;
/// 78 hours in nanoseconds.
const TIME_DIGITS: u32 = 8;
/// The digit 0. The other 63 follow it in ASCII, all of them printable, so that eight are read at once.
const ZERO: u64 = u64::from_ne_bytes([b'0'; 8]);

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
        let (id, time) = text.split_at_mut(STAMP_BYTES / 2);
        id.copy_from_slice(&digits((u64::from(self.sender) << (6 * SEQUENCE_DIGITS)) | self.sequence));
        time.copy_from_slice(&digits(self.time_ns));
        text
    }

    /// Reads the beginning of a message; `None` if it is no stamp.
    #[must_use]
    #[inline]
    pub fn decode(text: &[u8]) -> Option<Self> {
        let (id, rest) = text.split_first_chunk()?;
        let (id, time_ns) = (number(*id)?, number(*rest.first_chunk()?)?);
        let sender = (id >> (6 * SEQUENCE_DIGITS)) as u16;
        Some(Self { sender, sequence: id & ((1 << (6 * SEQUENCE_DIGITS)) - 1), time_ns })
    }
}

/// The last 48 bits of a number in eight digits, the highest first.
fn digits(number: u64) -> [u8; 8] {
    let spread = (number & 0x00ff_ffff) | ((number >> 24 & 0x00ff_ffff) << 32);
    let spread = (spread & 0x0000_0fff_0000_0fff) | ((spread & 0x00ff_f000_00ff_f000) << 4);
    let spread = (spread & 0x003f_003f_003f_003f) | ((spread & 0x0fc0_0fc0_0fc0_0fc0) << 2);
    (spread + ZERO).to_be_bytes()
}

/// The number that eight digits are; `None` if one of them is none.
#[inline]
fn number(digits: [u8; 8]) -> Option<u64> {
    let digits = u64::from_be_bytes(digits);
    // Whatever is below the first digit, or too far above it, leaves an upper bit in its byte or in the next.
    let spread = digits.checked_sub(ZERO).filter(|spread| spread & 0xc0c0_c0c0_c0c0_c0c0 == 0)?;
    let joined = (spread & 0x003f_003f_003f_003f) | ((spread & 0x3f00_3f00_3f00_3f00) >> 2);
    let joined = (joined & 0x0000_0fff_0000_0fff) | ((joined & 0x0fff_0000_0fff_0000) >> 4);
    Some((joined & 0x00ff_ffff) | (joined >> 32 << 24))
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
            prop_assert_eq!(Stamp::decode(&text).is_some(), (b'0'..b'0' + 64).contains(&byte));
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
