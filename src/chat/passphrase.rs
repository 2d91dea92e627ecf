//! Passphrases of claimed names. They are never shown: not in logs, traces or errors, and not in the log of entries.

use std::fmt;

/// Allowed lengths of a new passphrase, in bytes.
pub const PASSPHRASE_BYTES: std::ops::RangeInclusive<usize> = 8..=128;

/// What everybody tries first.
const COMMON: [&str; 12] = [
    "password",
    "passw0rd",
    "password1",
    "passphrase",
    "12345678",
    "123456789",
    "1234567890",
    "87654321",
    "qwertyuiop",
    "qwertzuiop",
    "letmein1",
    "iloveyou",
];

/// A passphrase as somebody typed it.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

/// Why a passphrase cannot be had; each variant is a sentence for the person who chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    #[error("say the passphrase too: /claim PASSPHRASE")]
    Missing,
    #[error("a passphrase has {} to {} bytes; choose another one", PASSPHRASE_BYTES.start(), PASSPHRASE_BYTES.end())]
    Length,
    #[error("a passphrase cannot begin with a slash; choose another one")]
    Slash,
    #[error("a passphrase cannot contain control characters; choose another one")]
    Control,
    #[error("that is what everybody would try first; choose another passphrase, such as four words")]
    Obvious,
}

impl Passphrase {
    /// As typed to prove who one is; whether it is right is found out elsewhere. White space around it does not count:
    /// nobody sees it, and one blank too many after `/claim` would lock its owner out.
    #[must_use]
    pub fn typed(text: &[u8]) -> Self {
        Self(String::from_utf8_lossy(text).trim().to_owned())
    }

    /// Checks a passphrase that somebody has chosen for a name.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check_new(&self, name_key: &str) -> Result<(), PassphraseError> {
        if self.0.is_empty() {
            return Err(PassphraseError::Missing);
        }
        if !PASSPHRASE_BYTES.contains(&self.0.len()) {
            return Err(PassphraseError::Length);
        }
        // In the lines dialect it could not be typed: it would be a command.
        if self.0.starts_with('/') {
            return Err(PassphraseError::Slash);
        }
        if self.0.contains(char::is_control) {
            return Err(PassphraseError::Control);
        }
        let lower = self.0.to_lowercase();
        let is_one_sign = lower.chars().all(|c| lower.starts_with(c));
        let is_name = lower.replace(name_key, "").len() < 4;
        if is_one_sign || is_name || COMMON.contains(&lower.as_str()) {
            return Err(PassphraseError::Obvious);
        }
        Ok(())
    }

    /// For whoever hashes it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_passphrase_does_not_count() {
        assert_eq!(Passphrase::typed(b"  four  words\t\r\n").reveal(), "four  words");
        assert_eq!(Passphrase::typed(b" \n").check_new("bobby"), Err(PassphraseError::Missing));
    }

    #[test]
    fn the_obvious_is_refused_and_nothing_is_shown() {
        let check = |text: &str| Passphrase::typed(text.as_bytes()).check_new("bobby");
        assert_eq!(check(""), Err(PassphraseError::Missing));
        assert_eq!(check("short"), Err(PassphraseError::Length));
        assert_eq!(check(&"x7".repeat(65)), Err(PassphraseError::Length));
        assert_eq!(check("/quit now"), Err(PassphraseError::Slash));
        for obvious in ["Password", "aaaaaaaaaa", "Bobby123", "bobbybobby"] {
            assert_eq!(check(obvious), Err(PassphraseError::Obvious), "{obvious}");
        }
        assert_eq!(check("four words, no less"), Ok(()));
        assert!(!format!("{:?}", Passphrase::typed(b"four words")).contains("four"));
    }
}
