//! Asks a node's HTTP door. Needs no shell and no other program.

use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

/// A node that has not answered by then does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("no node answers at {0}; is it running?")]
    Unreachable(String),
    #[error("the node at {0} did not answer within 3 s")]
    Slow(String),
    #[error("{0} is no address of a node; it is host:port, the port being that for health and metrics")]
    Address(String),
}

/// What a node answered.
#[derive(Debug)]
pub struct Answer {
    pub is_success: bool,
    pub text: String,
}

/// Asks the node at "host:port" for a path.
///
/// # Errors
/// If it does not answer.
pub async fn get(address: &str, path: &str) -> Result<Answer, HttpError> {
    let owned = || address.to_owned();
    let uri = format!("http://{address}{path}").parse().map_err(|_| HttpError::Address(owned()))?;
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = async {
        let response = client.get(uri).await.map_err(|_| HttpError::Unreachable(owned()))?;
        let is_success = response.status().is_success();
        let body = response.into_body().collect().await.map_err(|_| HttpError::Unreachable(owned()))?;
        Ok(Answer { is_success, text: String::from_utf8_lossy(&body.to_bytes()).trim().to_owned() })
    };
    timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| HttpError::Slow(owned()))?
}
