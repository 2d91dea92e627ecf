//! The shell: one node with real sockets, tasks and a clock around the pure core.
//!
//! ```text
//! people ─▶ client_door ─▶ session ─▶ ┌────────┐ ◀─ link ◀─ peer_door ◀─ peers
//!                          outbox  ◀─ │ router │ ─▶ link ─▶ dialer    ─▶
//!                                     │ (hub)  │
//!           web_door (health, metrics)└────────┘
//!                                       ▲ ▼
//!                                      store (the log on disk)
//! ```
//!
//! A node is born in this order: ports bound, store read through, router, doors, dialler. It dies in the other: no new people, everybody
//! told, peers given the rest, goodbyes, sockets flushed, store synced; all within one deadline.

mod client_door;
mod dialer;
mod grpc;
mod guests;
pub mod hub;
mod link_outbox;
mod linked;
mod metrics;
mod outbox;
mod peer_door;
mod pieces;
mod places;
mod router;
mod session;
pub mod settings;
mod spans;
pub mod store;
mod timer;
mod vault;
mod warnings;
mod web_door;
pub mod world;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use self::{
    dialer::{Dialer, FRAME_BYTES, WINDOW_BYTES},
    guests::Guests,
    hub::{Hub, HubSettings, Now},
    metrics::Metrics,
    peer_door::{LinkContext, PeerService},
    router::{Router, RouterHandle},
    session::SessionContext,
    spans::NodeSpans,
    store::{Opened, Store, StoreError, StoreSettings, StoreWorkers},
    warnings::Warnings,
    world::World,
};
pub use self::{
    metrics::Status,
    settings::{Limits, NodeSettings},
};
use crate::{
    clique::{Keep, Origin},
    telemetry::Spans,
    wire::proto::DESCRIPTORS,
};

/// Streams that one connection of a stranger may open.
const MAX_STREAMS_PER_CONNECTION: u32 = 16;

/// How long clients that can go on at another node may take to do so.
const MOVES: Duration = Duration::from_secs(1);

/// The part of the drain time that is kept for goodbyes.
const GOODBYES: Duration = Duration::from_millis(1_500);

/// A connection to the gRPC port on which nobody has proved the secret by then is closed.
const MAX_UNPROVED: Duration = Duration::from_secs(10);
/// How long a door of a node that stops waits for its connections, links among them, to come to their end.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node waits for its disk at the end, even if the drain time is over.
const LAST_SYNC_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a node that starts on a full disk waits before it tries again.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(500);

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the {what} port {address} is in use; is this node running already, or another with the same index?")]
    PortInUse { what: &'static str, address: SocketAddr },
    #[error("the {what} port {address} cannot be opened: {error}")]
    Port { what: &'static str, address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the threads of the store cannot be started: {0}; allow this user more processes")]
    StoreWorkers(io::Error),
    #[error("the data directory could not be read through, because of a fault in the program: {0}")]
    Birth(#[from] tokio::task::JoinError),
    #[error("the gRPC description of the service cannot be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub chat_address: SocketAddr,
    pub peer_address: SocketAddr,
    pub http_address: SocketAddr,
    index: u16,
    router: RouterHandle,
    store: Option<StoreWorkers>,
    spans: Spans,
    drain: Duration,
    /// Everything but the router.
    tasks: TaskTracker,
    router_task: TaskTracker,
    /// No new people.
    draining: CancellationToken,
    /// No new links, and the end of the HTTP door.
    closing: CancellationToken,
    /// The end of links and sessions.
    stop: CancellationToken,
}

impl Node {
    /// Opens the ports and starts everything.
    ///
    /// # Errors
    /// If a port cannot be opened.
    pub async fn start<W: World>(settings: NodeSettings, world: W, spans: Spans) -> Result<Self, StartError> {
        let bind = async |what: &'static str, port: u16| {
            let address = SocketAddr::new(settings.listen, port);
            let opened = world.bind(address).await.and_then(|listener| Ok((W::local_address(&listener)?, listener)));
            opened.map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => StartError::PortInUse { what, address },
                _ => StartError::Port { what, address, error },
            })
        };
        let (chat_address, chat) = bind("chat", settings.chat_port).await?;
        let (peer_address, peers) = bind("gRPC", settings.peer_port).await?;
        let (http_address, http) = bind("HTTP", settings.http_port).await?;
        let advertise = match settings.advertise.as_str() {
            "" => peer_address.to_string(),
            advertise => advertise.to_owned(),
        };
        let hub_settings = HubSettings {
            origin: Origin { node: settings.index, incarnation: world.unix_us() },
            advertise,
            chat_port: chat_address.port(),
            expected_nodes: settings.expected_nodes,
            max_log_bytes: settings.max_log_bytes,
            history_shown: settings.history_shown,
            has_store: settings.store.is_some(),
            // Without a disk the log's bound in memory is what counts.
            keep: if settings.store.is_some() { settings.keep } else { Keep::default() },
            timing: settings.timing,
            is_tracing: spans.is_enabled(),
        };
        let (hub, store) = born(&world, hub_settings, settings.store.clone()).await?;
        let origin = hub.origin();
        let metrics = Arc::new(Metrics::default());
        let node_spans = NodeSpans::new(spans.clone(), settings.index);
        let (dial, learned) = mpsc::unbounded_channel();
        let (mut router, handle) = Router::new(hub, world.clone(), metrics.clone(), node_spans.clone(), dial);
        let store = match store {
            Some(store) => {
                let (answer, answers) = mpsc::unbounded_channel();
                let drive = |name, work| world.drive(name, work);
                let started = store.start(drive, move |word| drop(answer.send(word)));
                let (to_store, workers) = started.map_err(StartError::StoreWorkers)?;
                router.attach_store(to_store, answers);
                Some(workers)
            }
            None => None,
        };
        let node = Self {
            chat_address,
            peer_address,
            http_address,
            index: settings.index,
            router: handle.clone(),
            store,
            spans,
            drain: Duration::from_millis(settings.drain_ms),
            tasks: TaskTracker::new(),
            router_task: TaskTracker::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        node.router_task.spawn(router.run());
        let context = LinkContext::new(&settings, origin, handle.clone(), metrics.clone(), node.stop.clone());
        node.open_peer_door::<W>(peers, context.clone())?;
        let web =
            web_door::serve::<W>(http, handle.clone(), metrics.clone(), node.draining.clone(), node.closing.clone());
        node.tasks.spawn(open_until("HTTP", web, node.closing.clone()));
        let sessions = Arc::new(SessionContext {
            router: handle,
            world: world.clone(),
            limits: settings.limits,
            metrics,
            spans: node_spans,
            warnings: Warnings::default(),
            stop: node.stop.clone(),
        });
        let dialer = Dialer { world, context, tasks: node.tasks.clone() };
        node.tasks.spawn(dialer.run(settings.peers.clone(), learned));
        let doors = client_door::serve::<W>(chat, sessions, node.tasks.clone(), node.draining.clone());
        node.tasks.spawn(doors);
        if !settings.secret.is_set() {
            tracing::warn!("no CLIQUE_SECRET is set: peers are accepted from loopback only");
        }
        tracing::info!(
            node = settings.index,
            chat = %chat_address,
            grpc = %peer_address,
            http = %http_address,
            "node {} is up",
            settings.index
        );
        Ok(node)
    }

    fn open_peer_door<W: World>(&self, listener: W::Listener, context: LinkContext) -> Result<(), StartError> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let service = PeerService { context, tasks: self.tasks.clone() };
        let incoming = Guests::<W>::new(listener, MAX_UNPROVED).into_stream();
        let server = Server::builder()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .add_service(health)
            .add_service(reflection)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, self.closing.clone().cancelled_owned());
        self.tasks.spawn(open_until("gRPC", server, self.closing.clone()));
        let draining = self.draining.clone();
        self.tasks.spawn(async move {
            reporter.set_serving::<PeerService>().await;
            draining.cancelled().await;
            reporter.set_not_serving::<PeerService>().await;
            reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        });
        Ok(())
    }

    /// This node's index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// A summary of the state; `None` once the node has stopped.
    pub async fn status(&self) -> Option<Status> {
        self.router.status().await
    }

    /// Stops in good order: no new people; everybody told; peers given what they lack; goodbyes; sockets flushed.
    /// What is not done within the drain time is cut short.
    pub async fn stop(self) {
        let deadline = Instant::now() + self.drain;
        self.draining.cancel();
        self.router.stop().await;
        // Some of the time is for the goodbyes.
        let drained_by = deadline - GOODBYES.min(self.drain / 2);
        let vacated_by = drained_by.min(Instant::now() + MOVES);
        // Clients that do not move when they are told to are told with the others.
        let _ = timeout_at(vacated_by, self.router.wait_until(|status| status.is_vacated)).await;
        if timeout_at(drained_by, self.router.wait_until(|status| status.is_drained)).await.is_err() {
            tracing::warn!(
                node = self.index,
                "some peers or readers did not have everything when the drain time was over"
            );
        }
        self.router.say_goodbye().await;
        // The router has dealt with the goodbyes once it answers.
        let _ = timeout_at(deadline, self.router.status()).await;
        self.closing.cancel();
        self.stop.cancel();
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!(node = self.index, "some connections were cut short when the drain time was over");
        }
        // A stranger's connection to the gRPC door can outlive the door, and has a handle of the router.
        self.router.end().await;
        self.router_task.close();
        let _ = timeout_at(deadline.max(Instant::now() + Duration::from_millis(100)), self.router_task.wait()).await;
        if let Some(store) = self.store {
            // Nobody can say anything to it any more; a disk that hangs does not hold up the end.
            if timeout_at(deadline.max(Instant::now() + LAST_SYNC_TIMEOUT), store.close()).await.is_err() {
                tracing::warn!(node = self.index, "the disk had not taken everything when the drain time was over");
            }
        }
        self.spans.shutdown(Duration::from_secs(1)).await;
        tracing::info!(node = self.index, "node {} has stopped", self.index);
    }
}

/// A hub that begins with what is on the disk, and its store, if it has one. Waits for room on a full disk.
async fn born<W: World>(
    world: &W,
    settings: HubSettings,
    store: Option<StoreSettings>,
) -> Result<(Hub, Option<Store>), StartError> {
    let Some(store) = store else { return Ok((Hub::new(settings), None)) };
    let mut is_told = false;
    loop {
        match opened(world, settings.clone(), store.clone()).await {
            // It cannot be opened without writing. Nothing is lost by waiting; by ending, the node that could go on.
            Err(StartError::Store(error @ StoreError::Full { .. })) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(node = settings.origin.node, "{error}; the node starts as soon as there is room");
                }
                sleep(FULL_DISK_PAUSE).await;
            }
            born => return born,
        }
    }
}

async fn opened<W: World>(
    world: &W,
    settings: HubSettings,
    store: StoreSettings,
) -> Result<(Hub, Option<Store>), StartError> {
    let medium = world.medium(&store.directory);
    let opened = world.wait_for(move || {
        let now = Now { unix_us: settings.origin.incarnation, monotonic_ms: 0 };
        let begin = |incarnation| {
            Hub::new(HubSettings { origin: Origin { incarnation, ..settings.origin }, ..settings.clone() })
        };
        let opened = Store::open_on(medium, &store, now.unix_us, begin, Hub::recall)?;
        let Opened { store, state: mut hub, recovered } = opened;
        hub.recover(recovered, now);
        Ok((hub, Some(store)))
    });
    opened.await?
}

/// Runs a door. Somebody who has connected and says nothing does not hold up a node that stops.
async fn open_until<E: std::fmt::Display>(
    what: &'static str,
    door: impl Future<Output = Result<(), E>>,
    closing: CancellationToken,
) {
    let late = async {
        closing.cancelled().await;
        sleep(LAST_ANSWERS_TIMEOUT).await;
    };
    tokio::select! {
        biased;
        end = door => if let Err(error) = end {
            tracing::warn!("the {what} door has failed: {error}");
        },
        () = late => tracing::debug!("some connections to the {what} door were still open at the end"),
    }
}
