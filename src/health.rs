//! `clique health`: asks a node on this machine whether it is ready.

use crate::http::{self, HttpError};

/// Why a node is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("{0}")]
    NotReady(String),
}

/// What the node at "host:port" says of itself, if it is ready.
///
/// # Errors
/// Why it is not.
pub async fn check(address: &str) -> Result<String, HealthError> {
    let answer = http::get(address, "/ready").await?;
    if answer.is_success { Ok(answer.text) } else { Err(HealthError::NotReady(answer.text)) }
}
