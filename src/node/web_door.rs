//! The HTTP door: liveness, readiness, metrics.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router as Routes, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use tokio_util::sync::CancellationToken;

use super::{metrics::Metrics, router::RouterHandle, world::World};

#[derive(Clone)]
struct Web {
    router: RouterHandle,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

/// Pause after the system refuses a connection.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// A listener of any world, for the HTTP library.
struct Listener<W: World>(W::Listener);

impl<W: World> axum::serve::Listener for Listener<W> {
    type Io = W::Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (W::Stream, SocketAddr) {
        loop {
            match W::accept(&mut self.0).await {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        W::local_address(&self.0)
    }
}

/// Serves until cancelled.
///
/// # Errors
/// If the listener fails.
pub async fn serve<W: World>(
    listener: W::Listener,
    router: RouterHandle,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = Routes::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Web { router, metrics, draining });
    axum::serve(Listener::<W>(listener), routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// Ready: the router answers and people are let in.
async fn ready(State(web): State<Web>) -> (StatusCode, String) {
    if web.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the node is stopping\n".to_owned());
    }
    match web.router.status().await {
        Some(status) => {
            let text = format!("ready: {} of {} nodes\n", status.nodes_reachable, status.nodes_known);
            (StatusCode::OK, text)
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the router has ended\n".to_owned()),
    }
}

async fn metrics_text(State(web): State<Web>) -> impl IntoResponse {
    let text = match web.router.status().await {
        Some(status) => web.metrics.render(&status),
        None => None,
    };
    let status = if text.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (status, [(CONTENT_TYPE, content_type)], text.unwrap_or_default())
}
