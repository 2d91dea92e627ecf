//! `clique status`: asks one node what it knows of all, and shows it.

mod table;

pub use self::table::table;
use crate::{
    http::{self, HttpError},
    node::hub::Overview,
};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the node at {address} does not say how things are: {text}")]
    Refused { address: String, text: String },
    #[error(
        "the node at {address} answers in a way that this version does not understand ({error}); run the same release on all"
    )]
    Answer { address: String, error: serde_json::Error },
}

/// What the node at "host:port" of the HTTP door knows of all nodes.
///
/// # Errors
/// If it does not answer, or not in words that are understood.
pub async fn ask(address: &str) -> Result<Overview, StatusError> {
    let answer = http::get(address, "/status").await?;
    if !answer.is_success {
        return Err(StatusError::Refused { address: address.to_owned(), text: answer.text });
    }
    serde_json::from_str(&answer.text).map_err(|error| StatusError::Answer { address: address.to_owned(), error })
}
