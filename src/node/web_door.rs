//! The HTTP door: liveness, readiness, metrics, and what this node knows of all nodes.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router as Routes, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse,
    routing::get,
};
use tokio_util::sync::CancellationToken;

use super::{guests::Guests, metrics::Metrics, router::RouterHandle, world::World};

#[derive(Clone)]
struct Web {
    router: RouterHandle,
    metrics: Arc<Metrics>,
    draining: CancellationToken,
}

/// How long a connection is kept. Scrapers that keep theirs open connect again.
const MAX_STAY: Duration = Duration::from_secs(60);

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
        .route("/status", get(status))
        .with_state(Web { router, metrics, draining });
    axum::serve(Guests::<W>::new(listener, MAX_STAY), routes).with_graceful_shutdown(stop.cancelled_owned()).await
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
    let text = match (web.router.status().await, web.router.overview().await) {
        (Some(status), Some(overview)) => web.metrics.render(&status, &overview),
        _ => None,
    };
    answer(text, "application/openmetrics-text; version=1.0.0; charset=utf-8")
}

/// Everything that `clique status` shows.
async fn status(State(web): State<Web>) -> impl IntoResponse {
    let overview = web.router.overview().await;
    answer(overview.and_then(|overview| serde_json::to_string(&overview).ok()), "application/json")
}

fn answer(text: Option<String>, content_type: &'static str) -> impl IntoResponse {
    let status = if text.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, content_type)], text.unwrap_or_default())
}
