//! The door for people: accepts raw TCP connections, within limits, and gives each a session.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    session::{self, SessionContext},
    world::World,
};

/// Pause after the system refuses a connection (for want of file descriptors, as a rule).
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Connections open, by address.
#[derive(Debug, Default)]
struct Open {
    by_address: HashMap<IpAddr, usize>,
    total: usize,
}

/// Holds a connection's place until it ends.
struct Place {
    open: Arc<Mutex<Open>>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Accepts until cancelled. Sessions run on `tasks`, and end with the context's own token.
pub async fn serve<W: World>(
    mut listener: W::Listener,
    context: SessionContext<W>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let open = Arc::new(Mutex::new(Open::default()));
    loop {
        let accepted = tokio::select! {
            accepted = W::accept(&mut listener) => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                sleep(PAUSE_AFTER_FAILURE).await;
                continue;
            }
        };
        let Some(place) = admit(&open, address, &context) else {
            context.metrics.count_refused_connection();
            continue;
        };
        context.metrics.count_connection();
        let context = context.clone();
        tasks.spawn(async move {
            session::run::<W>(stream, address, context).await;
            drop(place);
        });
    }
}

/// A place for a connection, if the limits leave one.
fn admit<W>(open: &Arc<Mutex<Open>>, address: SocketAddr, context: &SessionContext<W>) -> Option<Place> {
    let limits = &context.limits;
    let mut state = open.lock();
    if state.total >= limits.max_connections {
        let text = format!("connections are refused: {} are open, which is the limit", limits.max_connections);
        context.warnings.warn(&text);
        return None;
    }
    let from_here = state.by_address.entry(address.ip()).or_default();
    if *from_here >= limits.max_connections_per_address {
        let limit = limits.max_connections_per_address;
        let text = format!("connections from {} are refused: {limit} are open, which is the limit", address.ip());
        context.warnings.warn(&text);
        return None;
    }
    *from_here += 1;
    state.total += 1;
    Some(Place { open: open.clone(), address: address.ip() })
}
