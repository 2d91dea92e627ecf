//! The proof of the clique's secret, before anything else is said.
//!
//! ```text
//! dialer                         acceptor
//!   challenge(nonce D)  ───────────▶
//!   ◀───────────  challenge(nonce A)
//!   proof("dialer", D, A)  ────────▶   checks; a stranger learns nothing more
//!   checks  ◀────────  proof("acceptor", D, A)
//! ```
//!
//! A proof is HMAC-SHA-256 (RFC 2104) under the secret. The role is in it, so that a proof cannot be sent back as
//! one's own; both nonces are, so that it cannot be used again.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;

/// What all nodes of a clique share. Without one, nodes trust whoever reaches them (on loopback only).
#[derive(Clone, Default)]
pub struct Secret(Option<String>);

impl Secret {
    #[must_use]
    pub fn new(secret: Option<String>) -> Self {
        Self(secret.filter(|secret| !secret.is_empty()))
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    fn mac(&self, role: &str, dialer_nonce: &[u8], acceptor_nonce: &[u8]) -> Hmac<Sha256> {
        let key = self.0.as_deref().unwrap_or_default();
        // HMAC takes a key of any length, so this cannot fail; an empty key is what "no secret" means.
        let mut mac =
            Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
        for part in [role.as_bytes(), dialer_nonce, acceptor_nonce] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_set() { "Secret(set)" } else { "Secret(none)" })
    }
}

/// Why a peer is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer does not know this clique's secret; set the same CLIQUE_SECRET on every node")]
    WrongSecret,
    #[error("the peer's challenge is not {NONCE_BYTES} bytes long; is it a node of a clique?")]
    BadNonce,
}

/// One side of the proof. The nonce comes from the caller, who has the random source.
#[derive(Debug)]
pub struct Handshake {
    secret: Secret,
    nonce: [u8; NONCE_BYTES],
    dialer: bool,
}

impl Handshake {
    #[must_use]
    pub fn dialer(secret: Secret, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { secret, nonce, dialer: true }
    }

    #[must_use]
    pub fn acceptor(secret: Secret, nonce: [u8; NONCE_BYTES]) -> Self {
        Self { secret, nonce, dialer: false }
    }

    /// This side's proof, given the other side's challenge.
    ///
    /// # Errors
    /// If the challenge has the wrong length.
    pub fn prove(&self, their_nonce: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        Ok(self.mac(self.dialer, their_nonce)?.finalize().into_bytes().to_vec())
    }

    /// Checks the other side's proof, in constant time.
    ///
    /// # Errors
    /// If it was not made with the same secret.
    pub fn check(&self, their_nonce: &[u8], proof: &[u8]) -> Result<(), HandshakeError> {
        self.mac(!self.dialer, their_nonce)?.verify_slice(proof).map_err(|_| HandshakeError::WrongSecret)
    }

    fn mac(&self, as_dialer: bool, their_nonce: &[u8]) -> Result<Hmac<Sha256>, HandshakeError> {
        // A nonce sent back to its sender would let a stranger have it prove things to itself.
        if their_nonce.len() != NONCE_BYTES || their_nonce == self.nonce {
            return Err(HandshakeError::BadNonce);
        }
        let role = if as_dialer { "dialer" } else { "acceptor" };
        Ok(if self.dialer {
            self.secret.mac(role, &self.nonce, their_nonce)
        } else {
            self.secret.mac(role, their_nonce, &self.nonce)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(dialer: &str, acceptor: &str) -> (Handshake, Handshake) {
        (
            Handshake::dialer(Secret::new(Some(dialer.to_owned())), [1; NONCE_BYTES]),
            Handshake::acceptor(Secret::new(Some(acceptor.to_owned())), [2; NONCE_BYTES]),
        )
    }

    #[test]
    fn the_same_secret_convinces_both_sides() {
        let (dialer, acceptor) = pair("s", "s");
        acceptor.check(&dialer.nonce, &dialer.prove(&acceptor.nonce).unwrap()).unwrap();
        dialer.check(&acceptor.nonce, &acceptor.prove(&dialer.nonce).unwrap()).unwrap();
    }

    #[test]
    fn another_secret_or_a_proof_sent_back_does_not() {
        let (dialer, acceptor) = pair("s", "other");
        let proof = dialer.prove(&acceptor.nonce).unwrap();
        assert_eq!(acceptor.check(&dialer.nonce, &proof), Err(HandshakeError::WrongSecret));
        assert_eq!(dialer.check(&acceptor.nonce, &proof), Err(HandshakeError::WrongSecret));
        assert_eq!(dialer.prove(&dialer.nonce), Err(HandshakeError::BadNonce));
    }
}
