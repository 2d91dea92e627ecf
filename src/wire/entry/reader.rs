//! The fields of the protobuf encoding, read off a slice.

use super::{ENTRY_TAG, FIXED32, FIXED64, LENGTH, MALFORMED, VARINT};
use crate::wire::WireError;

/// What a field holds.
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads protobuf fields off a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(MALFORMED)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(MALFORMED)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).map_err(|_| MALFORMED)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next field; `None` at the end. Unknown fields come too, so that later versions can add some.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            VARINT => Value::Number(self.varint()?),
            FIXED64 => Value::Number(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| MALFORMED)?)),
            LENGTH => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED32 => Value::Bytes(self.take(4)?),
            _ => return Err(MALFORMED),
        };
        Ok(Some((key >> 3, value)))
    }

    /// The body of the next entry.
    pub(super) fn entry(&mut self) -> Result<&'a [u8], WireError> {
        let (tag, rest) = self.0.split_first().ok_or(MALFORMED)?;
        if *tag != ENTRY_TAG {
            return Err(MALFORMED);
        }
        self.0 = rest;
        let length = self.varint()?;
        self.take(length)
    }
}
