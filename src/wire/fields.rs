//! The fields of the protobuf encoding, read off a slice.

/// Wire types.
pub(super) const VARINT: u64 = 0;
pub(super) const FIXED64: u64 = 1;
pub(super) const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// What follows is not what it should be. Without a size of its own, so that reading costs no copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads protobuf fields off a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline(always)]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        // Nearly all are one byte or two.
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok((*byte).into())
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field; `None` at the end. Unknown fields come too, so that later versions can add some.
    #[inline(always)]
    pub(super) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            LENGTH => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            VARINT => Value::Number(self.varint()?),
            FIXED64 => {
                let (number, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
                self.0 = rest;
                Value::Number(u64::from_le_bytes(*number))
            }
            FIXED32 => Value::Bytes(self.take(4)?),
            _ => return Err(Malformed),
        };
        Ok(Some((key >> 3, value)))
    }

    /// The bytes of the next field, if that is what comes next: what our own encoder wrote is read without looking around.
    #[inline(always)]
    pub(super) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        match self.0 {
            [first, length, rest @ ..] if *first == tag && *length < 0x80 => {
                let (taken, rest) = rest.split_at_checked(usize::from(*length))?;
                self.0 = rest;
                Some(taken)
            }
            [first, rest @ ..] if *first == tag => {
                let mut reader = Self(rest);
                let length = reader.varint().ok()?;
                let taken = reader.take(length).ok()?;
                self.0 = reader.0;
                Some(taken)
            }
            _ => None,
        }
    }
}
