//! The door for people: accepts raw TCP connections, within limits, and gives each a session.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    places::Places,
    session::{self, SessionContext},
    world::World,
};

/// Pause after the system refuses a connection (for want of file descriptors, as a rule).
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Accepts until cancelled. Sessions run on `tasks`, and end with the context's own token.
pub async fn serve<W: World>(
    mut listener: W::Listener,
    context: Arc<SessionContext<W>>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Places::new(context.limits.max_connections, context.limits.max_connections_per_address);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = W::accept(&mut listener) => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                context.warnings.warn(&format!("a connection could not be accepted: {error}"));
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let place = match places.take(address.ip()) {
            Ok(place) => place,
            Err(full) => {
                context.metrics.count_refused_connection();
                context.warnings.warn(&full.to_string());
                continue;
            }
        };
        context.metrics.count_connection();
        tasks.spawn(session::run(stream, address, context.clone(), place));
    }
}
