//! `clique health`: asks a node on this machine whether it is ready. Needs no shell and no other program.

use std::{net::IpAddr, time::Duration};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

/// A node that has not answered by then is not healthy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a node is not healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("no node answers at {0}; is it running?")]
    Unreachable(String),
    #[error("the node at {0} did not answer within 3 s")]
    Slow(String),
    #[error("{0}")]
    NotReady(String),
    #[error("{0} is no address of a node")]
    Address(String),
}

/// What the node says of itself, if it is ready.
///
/// # Errors
/// Why it is not.
pub async fn check(host: IpAddr, http_port: u16) -> Result<String, HealthError> {
    let address = std::net::SocketAddr::new(host, http_port).to_string();
    let uri = format!("http://{address}/ready").parse().map_err(|_| HealthError::Address(address.clone()))?;
    let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let answer = async {
        let response = client.get(uri).await.map_err(|_| HealthError::Unreachable(address.clone()))?;
        let is_ready = response.status().is_success();
        let body = response.into_body().collect().await.map_err(|_| HealthError::Unreachable(address.clone()))?;
        let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
        if is_ready { Ok(text) } else { Err(HealthError::NotReady(text)) }
    };
    timeout(ANSWER_TIMEOUT, answer).await.map_err(|_| HealthError::Slow(address.clone()))?
}
