//! Which dialect a client speaks, told by its first byte. The node never speaks first.

/// How a client talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// The original binary protocol.
    Frames,
    /// The original frames plus our own from type 40 up; asked for when registering.
    Extended,
    /// Text, one line each.
    Lines,
}

impl Dialect {
    /// The dialect that begins with this byte; `None` if none does.
    #[must_use]
    pub fn of_first_byte(byte: u8) -> Option<Self> {
        match byte {
            0x00..=0x08 => Some(Self::Frames),
            // Printable ASCII, the first byte of a longer UTF-8 sequence, or an empty first line.
            b' '..=b'~' | 0xc2..=0xf4 | b'\r' | b'\n' => Some(Self::Lines),
            _ => None,
        }
    }

    /// For metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Extended => "extended",
            Self::Lines => "lines",
        }
    }
}
