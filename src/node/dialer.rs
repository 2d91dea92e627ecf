//! The dialler: keeps trying every address that is known, for as long as the node behind it is not linked.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;

use super::{
    grpc,
    link_outbox::LinkOutbox,
    peer_door::{LinkContext, LinkError, Wire, run_link},
    world::World,
};
use crate::clique::Member;

/// A dial that has not connected by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a name is looked up again although all its addresses are linked.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A link that ends sooner was not taken up by the other side: dialling again counts as after a failure.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// First pause after a failure. Jitter adds up to the same again.
const MIN_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause before jitter, so that none is longer than 2 s.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// HTTP/2 windows and frames, in bytes. At 64 KiB windows or 16 KiB frames the throughput is halved.
pub const WINDOW_BYTES: u32 = 4 << 20;
pub const FRAME_BYTES: u32 = 128 << 10;

/// The dialling side of all links of a node.
pub struct Dialer<W> {
    pub world: W,
    pub context: LinkContext,
    pub tasks: TaskTracker,
}

/// Who was found at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Myself,
    Node(u16),
}

impl Found {
    fn node(self) -> Option<u16> {
        match self {
            Self::Myself => None,
            Self::Node(node) => Some(node),
        }
    }
}

impl<W: World> Dialer<W> {
    /// Dials the targets given, and those learned, until the node stops.
    pub async fn run(self, targets: Vec<String>, mut learned: mpsc::UnboundedReceiver<Member>) {
        let dialer = Arc::new(self);
        let mut dialed = BTreeSet::new();
        let mut dial = |target: String| {
            if dialed.insert(target.clone()) {
                let dialer = dialer.clone();
                dialer.tasks.clone().spawn(async move {
                    tokio::select! {
                        biased;
                        () = dialer.keep_dialing(&target) => {}
                        () = dialer.context.stop.cancelled() => {}
                    }
                });
            }
        };
        targets.into_iter().for_each(&mut dial);
        loop {
            tokio::select! {
                biased;
                member = learned.recv() => match member {
                    Some(member) if !member.advertise.is_empty() => dial(member.advertise),
                    Some(_) => {}
                    None => return,
                },
                () = dialer.context.stop.cancelled() => return,
            }
        }
    }

    async fn keep_dialing(&self, target: &str) {
        let mut found: HashMap<SocketAddr, Found> = HashMap::new();
        let mut pauses = self.backoff();
        loop {
            let is_complete = match timeout(CONNECT_TIMEOUT, self.world.resolve(target)).await {
                Ok(Ok(addresses)) => self.dial_all(target, addresses, &mut found).await,
                _ => false,
            };
            if is_complete {
                let nodes: Vec<u16> = found.values().filter_map(|found| found.node()).collect();
                let linked_at = Instant::now();
                // A link that ends is redialled at once; a name may have new addresses.
                let _ = timeout(LOOK_AGAIN, self.context.linked.lost_one(&nodes)).await;
                if linked_at.elapsed() >= SHORT_LIFE {
                    pauses = self.backoff();
                    continue;
                }
            }
            tokio::select! {
                () = sleep(pauses.next().unwrap_or(MAX_PAUSE)) => {}
                // Where one node can be reached again others perhaps can too: a cut seldom takes only one away.
                () = self.context.linked.gained_one() => sleep(MIN_PAUSE).await,
            }
        }
    }

    fn backoff(&self) -> backon::ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(MIN_PAUSE)
            .with_max_delay(MAX_PAUSE)
            .with_jitter()
            .with_jitter_seed(self.world.random())
            .without_max_times()
            .build()
    }

    /// Dials those addresses whose node is not linked. True if then all are.
    async fn dial_all(&self, target: &str, addresses: Vec<SocketAddr>, found: &mut HashMap<SocketAddr, Found>) -> bool {
        let mut is_complete = !addresses.is_empty();
        found.retain(|address, _| addresses.contains(address));
        for address in addresses {
            let is_covered = match found.get(&address) {
                Some(Found::Myself) => true,
                Some(Found::Node(node)) => self.context.linked.contains(*node),
                None => false,
            };
            if is_covered {
                continue;
            }
            match timeout(CONNECT_TIMEOUT * 4, self.dial(target, address)).await {
                Ok(Ok(who)) => {
                    found.insert(address, who);
                }
                Ok(Err(error)) => {
                    tracing::trace!(target, %address, "dialling failed: {error}");
                    found.remove(&address);
                    is_complete = false;
                }
                Err(_) => is_complete = false,
            }
        }
        is_complete
    }

    /// Opens a link and leaves it running. Tells who is at its other end.
    async fn dial(&self, target: &str, address: SocketAddr) -> Result<Found, DialError> {
        let world = self.world.clone();
        let connector = tower::service_fn(move |_| {
            let world = world.clone();
            async move { world.connect(address).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_shared(format!("http://{target}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES);
        let channel = endpoint.connect_with_connector(connector).await?;
        let outbox = Arc::new(LinkOutbox::new(self.context.max_output_bytes));
        let wire = Wire::new(outbox.clone(), grpc::open(channel, outbox).await?);
        let (say, who) = oneshot::channel();
        let (context, peer) = (self.context.clone(), target.to_owned());
        let me = context.me;
        self.tasks.spawn(async move {
            let Err(error) = run_link(wire, true, context.clone(), |hello| {
                let found = if hello.origin == me { Found::Myself } else { Found::Node(hello.origin.node) };
                let _ = say.send(found);
            })
            .await;
            context.log_end(&peer, &error);
        });
        who.await.map_err(|_| DialError::Link(LinkError::Closed))
    }
}

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    #[error(transparent)]
    Link(LinkError),
}
