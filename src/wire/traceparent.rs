//! The W3C `traceparent`, and trace ids as text.

use std::fmt;

use crate::chat::Trace;

/// Length of a version 00 `traceparent`: `00-<32 digits>-<16 digits>-<2 digits>`.
const TRACEPARENT_BYTES: usize = 55;

/// What a client says about the trace that its message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteParent {
    pub trace_id: [u8; 16],
    /// The client's own span.
    pub span_id: [u8; 8],
    /// Whether the client records this trace; parent-based samplers follow it.
    pub sampled: bool,
}

/// A trace id as 32 hexadecimal digits, the way Jaeger's search takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// The `traceparent` of a message; a message has a [`Trace`] only if it is sampled, so the flag is always set.
#[must_use]
pub fn format_traceparent(trace: &Trace) -> String {
    struct Parent<'a>(&'a Trace);
    impl fmt::Display for Parent<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("00-")?;
            hex(&self.0.trace_id, f)?;
            f.write_str("-")?;
            hex(&self.0.span_id, f)?;
            f.write_str("-01")
        }
    }
    Parent(trace).to_string()
}

/// Reads a `traceparent` as strictly as the W3C recommendation wants; anything else is no parent at all.
#[must_use]
pub fn parse_traceparent(text: &str) -> Option<RemoteParent> {
    let (head, rest) = text.as_bytes().split_at_checked(TRACEPARENT_BYTES)?;
    if [head[2], head[35], head[52]] != [b'-'; 3] {
        return None;
    }
    let [version] = unhex(&head[..2])?;
    // A later version may say more after another dash; version 00 says nothing more, and ff is forbidden.
    let ends_well = rest.is_empty() || (version != 0 && rest[0] == b'-');
    if version == 0xff || !ends_well {
        return None;
    }
    let trace_id: [u8; 16] = unhex(&head[3..35])?;
    let span_id: [u8; 8] = unhex(&head[36..52])?;
    let [flags] = unhex(&head[53..])?;
    let valid = trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(RemoteParent { trace_id, span_id, sampled: flags & 1 == 1 })
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Two lower-case digits for each byte; the recommendation forbids upper case.
fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    fn digit(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "traceparent_tests.rs"]
mod tests;
