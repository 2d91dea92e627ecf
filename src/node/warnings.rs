//! Warnings that would come again and again (a peer with another secret dials for ever) are logged once a minute.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The same warning is not logged again before this has passed.
const PAUSE: Duration = Duration::from_secs(60);
/// Different warnings remembered; beyond it all are forgotten, and may so come early.
const MAX_REMEMBERED: usize = 1_000;

/// What was warned of, and when.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<HashMap<String, Instant>>>);

impl Warnings {
    /// Logs a warning, unless it was logged within the last minute.
    pub fn warn(&self, text: &str) {
        if self.is_due(text) {
            tracing::warn!("{text}");
        }
    }

    fn is_due(&self, text: &str) -> bool {
        let mut warned = self.0.lock();
        if warned.get(text).is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        if warned.len() >= MAX_REMEMBERED {
            warned.clear();
        }
        warned.insert(text.to_owned(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_warning_comes_once_a_minute() {
        let warnings = Warnings::default();
        assert!(warnings.is_due("a") && !warnings.is_due("a") && warnings.is_due("b"));
        tokio::time::advance(PAUSE).await;
        assert!(warnings.is_due("a"));
    }
}
