//! What happened in a run, in readable lines, and a fingerprint of it: two runs of a seed must have the same.

use std::fmt;

#[derive(Default)]
pub struct Transcript {
    lines: Vec<String>,
    fingerprint: u64,
}

impl Transcript {
    pub fn note(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        let line = format!("{:>4}.{:03} {what}", now_ms / 1_000, now_ms % 1_000);
        for byte in line.bytes() {
            // FNV-1a.
            self.fingerprint = (self.fingerprint ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.lines.push(line);
    }

    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}
