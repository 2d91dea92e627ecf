//! Names: what is legal, and when two are the same.
//!
//! A name is 1 to 64 bytes of UTF-8 without white space, control characters or `: , ! @ * # /`. Two names are the
//! same if RFC 8265 (UsernameCaseMapped) maps them to the same string.

use std::{borrow::Cow, fmt, sync::Arc};

use precis_core::profile::Profile as _;
use precis_profiles::UsernameCaseMapped;

/// Longest name, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 64;

/// The name under which the service itself speaks; nobody can have it.
pub const SERVICE_NAME: &str = "clique";

const FORBIDDEN: [char; 7] = [':', ',', '!', '@', '*', '#', '/'];

/// A legal name: as it was written, and the key under which it is compared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    written: Arc<str>,
    key: Arc<str>,
}

/// Why a name cannot be had; each variant is a sentence for the person who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most 64 bytes")]
    TooLong,
    #[error("a name must be UTF-8 text")]
    NotUtf8,
    #[error("a name cannot contain white space")]
    WhiteSpace,
    #[error("a name cannot contain control characters")]
    Control,
    #[error("a name cannot contain any of : , ! @ * # /")]
    Forbidden,
    #[error("a name can have letters, digits and common signs only (RFC 8265)")]
    NotAnIdentifier,
    #[error("that name is reserved for the service itself")]
    Reserved,
}

impl Name {
    /// Checks a name as a person gave it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(written: &[u8]) -> Result<Self, NameError> {
        let written = std::str::from_utf8(written).map_err(|_| NameError::NotUtf8)?;
        let key = key(written)?;
        if key == SERVICE_NAME {
            return Err(NameError::Reserved);
        }
        let is_same = key == written;
        let shared: Arc<str> = written.into();
        // By the ten thousand, most are their own keys.
        let key = if is_same { shared.clone() } else { key.into() };
        Ok(Self { written: shared, key })
    }

    /// As its owner wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// What it is compared by.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same, to be kept beside the name.
    #[must_use]
    pub fn shared_key(&self) -> Arc<str> {
        self.key.clone()
    }

    /// The name that the later of two holders gets when a split heals: `name~node`, then `name~node~2` and so on.
    ///
    /// Shortened at the front part so that the result is itself a legal name.
    #[must_use]
    pub fn renamed(&self, node: u16, attempt: u32) -> Self {
        let suffix = if attempt <= 1 { format!("~{node}") } else { format!("~{node}~{attempt}") };
        let mut end = self.written.len().min(MAX_NAME_BYTES - suffix.len());
        while !self.written.is_char_boundary(end) {
            end -= 1;
        }
        let written = format!("{}{suffix}", &self.written[..end]);
        // Cutting a legal name and adding ASCII can break a rule only for right-to-left names; those fall back to ASCII.
        Self::parse(written.as_bytes()).unwrap_or_else(|_| {
            let plain: Arc<str> = format!("person{suffix}").into();
            Self { written: plain.clone(), key: plain }
        })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// To whom a word at the beginning of a line is addressed: `@NAME`, `NAME:` and `NAME,` mean the name, as in what arrives
/// and in other chats. Those signs are never part of one; of a word of nothing else, nothing is left.
#[must_use]
pub fn addressee(word: &str) -> &str {
    word.trim_start_matches('@').trim_end_matches([':', ','])
}

/// The key of a legal name, reserved ones included.
///
/// # Errors
/// The rule that it breaks.
pub fn key(written: &str) -> Result<Cow<'_, str>, NameError> {
    if written.is_empty() {
        return Err(NameError::Empty);
    }
    if written.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    if written.chars().any(char::is_whitespace) {
        return Err(NameError::WhiteSpace);
    }
    if written.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if written.contains(FORBIDDEN) {
        return Err(NameError::Forbidden);
    }
    if written.is_ascii() {
        // Printable ASCII is always an identifier; the profile only lowers its case. Worth a shortcut: every
        // message looks its addressee up.
        return Ok(if written.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(written.to_ascii_lowercase())
        } else {
            Cow::Borrowed(written)
        });
    }
    let key = UsernameCaseMapped::new().enforce(written).map_err(|_| NameError::NotAnIdentifier)?;
    // Mapping can turn a full-width sign into a forbidden ASCII one, and can lengthen.
    if key.contains(FORBIDDEN) {
        return Err(NameError::Forbidden);
    }
    Ok(Cow::Owned(key.into_owned()))
}

/// The name of a room as it is compared and shown everywhere: `#` and the key of what follows.
///
/// # Errors
/// The rule that it breaks.
pub fn room(written: &str) -> Result<String, NameError> {
    Ok(format!("#{}", key(written.strip_prefix('#').unwrap_or(written))?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn legal_names_are_kept_as_written() {
        for name in ["a", "Alice", "zoë", "王小明", "o'neil", "a-b_c.d", "bob~3"] {
            assert_eq!(Name::parse(name.as_bytes()).unwrap().as_str(), name);
        }
    }

    #[test]
    fn each_rule_is_refused_with_its_own_reason() {
        let long = "x".repeat(65);
        let cases: [(&[u8], NameError); 9] = [
            (b"", NameError::Empty),
            (long.as_bytes(), NameError::TooLong),
            (b"\xff\xfe", NameError::NotUtf8),
            (b"two words", NameError::WhiteSpace),
            (b"bell\x07", NameError::Control),
            (b"a:b", NameError::Forbidden),
            ("a\u{ff1a}b".as_bytes(), NameError::Forbidden),
            ("\u{200d}x".as_bytes(), NameError::NotAnIdentifier),
            (b"CLIQUE", NameError::Reserved),
        ];
        for (name, error) in cases {
            assert_eq!(Name::parse(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn case_and_composition_do_not_distinguish() {
        let composed = Name::parse("Zo\u{eb}".as_bytes()).unwrap();
        let decomposed = Name::parse("zoe\u{308}".as_bytes()).unwrap();
        assert_eq!(composed.key(), decomposed.key());
        assert_eq!(Name::parse("ＢＯＢ".as_bytes()).unwrap().key(), "bob");
    }

    proptest! {
        #[test]
        fn the_ascii_shortcut_agrees_with_the_profile(name in "[ -~]{1,64}") {
            if let Ok(shortcut) = key(&name) {
                let profile = UsernameCaseMapped::new().enforce(name.as_str()).unwrap();
                prop_assert_eq!(shortcut, profile);
            }
        }

        #[test]
        fn a_key_is_its_own_key(name in "\\PC{1,20}") {
            if let Ok(first) = key(&name)
                && let Ok(second) = key(&first)
            {
                prop_assert_eq!(first.as_ref(), second.as_ref());
            }
        }

        #[test]
        fn a_renamed_name_is_legal(name in "\\PC{1,64}", node in any::<u16>(), attempt in 1..1000_u32) {
            if let Ok(name) = Name::parse(name.as_bytes()) {
                let renamed = name.renamed(node, attempt);
                prop_assert_eq!(Name::parse(renamed.as_str().as_bytes()).unwrap(), renamed);
            }
        }
    }
}
