//! Passphrases: hashed and compared off the router, as the work is meant to be slow, and with limits on guessing.
//!
//! | what | limit |
//! |---|---|
//! | hashing or comparing at once | 2, each with 19 MiB; 64 more wait, beyond them people are asked to try again |
//! | tries for one name from one address | 5 at once, then one every 5 s |
//! | tries from one address | 20 at once, then 20 a minute |
//!
//! The parameters of argon2id are those that OWASP's Password Storage Cheat Sheet names first.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash::phc::PasswordHash,
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use tokio::sync::Semaphore;

use super::hub::Verdict;
use crate::chat::Passphrase;

/// argon2id: memory in KiB, passes over it, lanes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Passphrases that are worked on at once, and that may wait for it.
const MAX_AT_ONCE: usize = 2;
const MAX_WAITING: usize = 64;
/// Tries for one name from one address.
const TRIES: NonZeroU32 = NonZeroU32::MIN.saturating_add(4);
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Tries from one address, in a minute.
const TRIES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);
/// Names and addresses that are remembered before those that have not been tried lately are forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// See the module's head. Copies share the limits.
#[derive(Debug, Clone)]
pub struct Vault(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Semaphore,
    waiting: AtomicUsize,
    by_name: DefaultKeyedRateLimiter<(IpAddr, String)>,
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

impl Default for Vault {
    fn default() -> Self {
        let by_name = Quota::with_period(TRY_AGAIN).map_or(Quota::per_minute(TRIES), |quota| quota.allow_burst(TRIES));
        Self(Arc::new(Shared {
            places: Semaphore::new(MAX_AT_ONCE),
            waiting: AtomicUsize::new(0),
            by_name: RateLimiter::keyed(by_name),
            by_address: RateLimiter::keyed(Quota::per_minute(TRIES_A_MINUTE)),
            clock: DefaultClock::default(),
        }))
    }
}

impl Vault {
    /// The hash of a new passphrase, as a PHC string; `None` if too many are being worked on.
    pub async fn hash(&self, passphrase: Passphrase) -> Option<String> {
        self.work(move || {
            let hash = argon2()?.hash_password(passphrase.reveal().as_bytes());
            hash.inspect_err(|error| tracing::warn!("a passphrase could not be hashed: {error}")).ok()
        })
        .await?
        .map(|hash| hash.to_string())
    }

    /// Whether a passphrase is the one that was hashed.
    pub async fn check(&self, address: IpAddr, name_key: String, passphrase: Passphrase, hash: String) -> Verdict {
        if let Some(wait) = self.wait_for(address, name_key) {
            return Verdict::TooMany { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) };
        }
        let compared = self.work(move || {
            let hash = PasswordHash::new(&hash).ok()?;
            argon2()?.verify_password(passphrase.reveal().as_bytes(), &hash).ok()
        });
        match compared.await {
            Some(Some(())) => Verdict::Right,
            Some(None) => Verdict::Wrong,
            None => Verdict::Busy,
        }
    }

    /// How long somebody must wait before the next try; every try counts, right or wrong.
    fn wait_for(&self, address: IpAddr, name_key: String) -> Option<Duration> {
        let Shared { by_name, by_address, clock, .. } = &*self.0;
        if by_name.len() > MAX_REMEMBERED {
            by_name.retain_recent();
        }
        if by_address.len() > MAX_REMEMBERED {
            by_address.retain_recent();
        }
        let early = by_address.check_key(&address).and_then(|()| by_name.check_key(&(address, name_key)));
        early.err().map(|early| early.wait_time_from(clock.now()))
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let shared = &self.0;
        if shared.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE + MAX_WAITING {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let place = shared.places.acquire().await;
        let done = match place {
            Ok(_place) => tokio::task::spawn_blocking(work).await.ok(),
            Err(_) => None,
        };
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_passphrase_is_known_again_and_no_other_is() {
        let vault = Vault::default();
        let typed = |text: &str| Passphrase::typed(text.as_bytes());
        let hash = vault.hash(typed("four words, no less")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let check = |text| vault.check([127, 0, 0, 1].into(), "bob".to_owned(), typed(text), hash.clone());
        assert_eq!(check("four words, no less").await, Verdict::Right);
        assert_eq!(check("four words, no lesS").await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn guesses_are_limited_for_each_name_and_each_address() {
        let vault = Vault::default();
        let tries = |host: u8, name: &str, count: usize| {
            (0..count).filter(|_| vault.wait_for([10, 0, 0, host].into(), name.to_owned()).is_none()).count()
        };
        assert_eq!(tries(1, "bob", 9), 5);
        assert_eq!(tries(2, "bob", 1), 1, "another address is another guesser");
        let others: usize = (0..30).map(|n| tries(1, &format!("name{n}"), 1)).sum();
        assert!(others <= 11, "{others} more tries from one address");
    }
}
