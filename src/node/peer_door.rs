//! The door for peers: the gRPC service, and the dialling side of it.
//!
//! Both sides prove the clique's secret before anything else is said (`clique::handshake`); then both say hello, and
//! the router decides whether it takes the link up. From then on one task per link moves frames between the stream and
//! the router.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::StreamExt as _;
use http::{Request, Response};
use parking_lot::Mutex;
use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body, server::NamedService};
use tower::Service;

use super::{
    grpc::{self, Incoming, LINK_PATH},
    guests::Guest,
    hub::FromLink,
    link_outbox::LinkOutbox,
    linked::LinkedNodes,
    metrics::Metrics,
    router::{Opening, RouterHandle},
    settings::NodeSettings,
    warnings::Warnings,
};
use crate::{
    clique::{Handshake, HandshakeError, Origin, Secret, handshake::NONCE_BYTES},
    wire::{
        lines::printable,
        peer::{Hello, PeerFrame},
        proto::generated::peer_server::SERVICE_NAME,
    },
};

/// A peer that has not proved itself and said hello by then is turned away.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that closes the stream where its proof is due for so many times has another secret.
const TELLING_DISBELIEF: u32 = 4;
/// How long a link that is being closed may take for its last frames.
const LAST_FRAMES_TIMEOUT: Duration = Duration::from_millis(100);
/// How long a link of a node that stops may take for its last frames.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest reason of a peer's that is logged.
const MAX_REASON_CHARS: usize = 200;

/// Why a link ended before or after it was taken up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the peer did not answer within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Slow(#[from] Elapsed),
    #[error("the peer refused the link: {0}")]
    Refused(String),
    #[error("the stream failed: {}", .0.message())]
    Stream(#[from] Status),
    #[error("the peer closed the stream")]
    Closed,
    #[error("the peer closed the stream instead of proving the secret; is CLIQUE_SECRET the same on both?")]
    NotBelieved,
    #[error("the peer said something else where its {0} was due")]
    Unexpected(&'static str),
    #[error("the link was dropped: {0}")]
    Dropped(String),
    #[error("this node is stopping")]
    Stopping,
}

/// What links share.
#[derive(Debug, Clone)]
pub struct LinkContext {
    pub me: Origin,
    pub router: RouterHandle,
    pub linked: LinkedNodes,
    pub secret: Secret,
    pub max_output_bytes: usize,
    pub metrics: Arc<Metrics>,
    pub warnings: Warnings,
    pub stop: CancellationToken,
    /// The latest life of each node, by its incarnation.
    latest: Arc<Mutex<BTreeMap<u16, u64>>>,
    /// How often each peer that was dialled closed the stream where its proof was due.
    disbelief: Arc<Mutex<BTreeMap<String, u32>>>,
}

impl LinkContext {
    #[must_use]
    pub fn new(
        settings: &NodeSettings,
        me: Origin,
        router: RouterHandle,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            me,
            router,
            linked: LinkedNodes::default(),
            secret: settings.secret.clone(),
            max_output_bytes: settings.limits.max_peer_output_bytes,
            metrics,
            warnings: Warnings::default(),
            stop,
            latest: Arc::default(),
            disbelief: Arc::default(),
        }
    }

    /// Two nodes with one index take each other's links away, for ever, and only the operator can put that right. They
    /// are told from a node that has restarted by this: a former life never comes back.
    fn warn_of_doubles(&self, hello: &Hello) {
        let Hello { origin, advertise, .. } = hello;
        let mut latest = self.latest.lock();
        let latest = latest.entry(origin.node).or_insert(origin.incarnation);
        let is_another_me = origin.node == self.me.node && *origin != self.me;
        if is_another_me || origin.incarnation < *latest {
            self.warnings.warn(&format!(
                "two nodes have index {}, one of them at {advertise}; give each node of a clique its own CLIQUE_INDEX",
                origin.node
            ));
        }
        *latest = origin.incarnation.max(*latest);
    }
}

/// Frames out and frames in.
pub struct Wire {
    outgoing: Outgoing,
    incoming: Incoming,
}

/// The appending side of a link's output: the stream ends with it.
struct Outgoing(Arc<LinkOutbox>);

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Wire {
    #[must_use]
    pub fn new(outbox: Arc<LinkOutbox>, incoming: Incoming) -> Self {
        Self { outgoing: Outgoing(outbox), incoming }
    }

    fn send(&self, frame: PeerFrame) -> Result<(), LinkError> {
        let Outgoing(outbox) = &self.outgoing;
        if outbox.is_abandoned() {
            return Err(LinkError::Closed);
        }
        outbox.push(frame);
        outbox.wake();
        Ok(())
    }

    async fn receive(&mut self) -> Result<PeerFrame, LinkError> {
        match self.incoming.next().await {
            Some(Ok(PeerFrame::Refusal(reason))) => Err(LinkError::Refused(shown(&reason))),
            Some(Ok(frame)) => Ok(frame),
            Some(Err(status)) => Err(status.into()),
            None => Err(LinkError::Closed),
        }
    }

    /// Before the proof nothing that the other side says goes into the log.
    async fn receive_unproved(&mut self) -> Result<PeerFrame, LinkError> {
        self.receive().await.map_err(|error| match error {
            LinkError::Refused(_) => LinkError::Unexpected("proof"),
            LinkError::Stream(_) => LinkError::Closed,
            error => error,
        })
    }

    async fn challenge(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.receive_unproved().await? {
            PeerFrame::Challenge(nonce) => Ok(nonce),
            _ => Err(LinkError::Unexpected("challenge")),
        }
    }

    async fn proof(&mut self) -> Result<Vec<u8>, LinkError> {
        match self.receive_unproved().await? {
            PeerFrame::Proof(mac) => Ok(mac),
            _ => Err(LinkError::Unexpected("proof")),
        }
    }

    /// Proves and checks the secret; the dialling side proves first.
    async fn shake_hands(&mut self, secret: &Secret, dialed_by_us: bool) -> Result<(), LinkError> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        if dialed_by_us {
            let handshake = Handshake::dialer(secret.clone(), nonce);
            self.send(PeerFrame::Challenge(nonce.to_vec()))?;
            let theirs = self.challenge().await?;
            self.send(PeerFrame::Proof(handshake.prove(&theirs)?))?;
            // A stranger is told nothing, so this is all that a node with another secret notices.
            let proof = self.proof().await.map_err(|error| match error {
                LinkError::Closed => LinkError::NotBelieved,
                error => error,
            })?;
            handshake.check(&theirs, &proof)?;
        } else {
            let handshake = Handshake::acceptor(secret.clone(), nonce);
            let theirs = self.challenge().await?;
            self.send(PeerFrame::Challenge(nonce.to_vec()))?;
            let proof = self.proof().await?;
            handshake.check(&theirs, &proof)?;
            self.send(PeerFrame::Proof(handshake.prove(&theirs)?))?;
        }
        Ok(())
    }

    async fn introduce(&mut self, context: &LinkContext, dialed_by_us: bool) -> Result<Hello, LinkError> {
        self.shake_hands(&context.secret, dialed_by_us).await?;
        let mine = context.router.hello().await.ok_or(LinkError::Stopping)?;
        self.send(PeerFrame::Hello(Box::new(mine)))?;
        match self.receive().await? {
            PeerFrame::Hello(hello) => Ok(*hello),
            _ => Err(LinkError::Unexpected("hello")),
        }
    }
}

/// Runs a link from its first frame to its end. `on_hello` hears who the peer is.
///
/// # Errors
/// Why it ended.
pub async fn run_link(
    mut wire: Wire,
    dialed_by_us: bool,
    context: LinkContext,
    on_hello: impl FnOnce(&Hello),
) -> Result<Infallible, LinkError> {
    let introduced = tokio::select! {
        biased;
        introduced = timeout(HANDSHAKE_TIMEOUT, wire.introduce(&context, dialed_by_us)) => introduced?,
        () = context.stop.cancelled() => return Err(LinkError::Stopping),
    };
    let hello = match introduced {
        Ok(hello) => hello,
        Err(error) => {
            if matches!(error, LinkError::Handshake(_)) {
                context.metrics.count_refused_peer();
            }
            return Err(error);
        }
    };
    let node = hello.origin.node;
    let _linked = context.linked.enter(node);
    context.warn_of_doubles(&hello);
    on_hello(&hello);
    let link = context.router.next_id();
    let outbox = wire.outgoing.0.clone();
    let opening = Opening { dialed_by_us, hello: Box::new(hello) };
    context.router.open_link(link, outbox.clone(), opening).await;
    tracing::debug!(node, link, dialed_by_us, "link open");
    let end = move_frames(&mut wire, link, &outbox, &context).await;
    if matches!(end, LinkError::Stopping) {
        let _ = timeout(FAREWELL_TIMEOUT, farewell(wire)).await;
    }
    context.router.link(link, FromLink::Closed).await;
    Err(end)
}

async fn move_frames(wire: &mut Wire, link: u64, outbox: &LinkOutbox, context: &LinkContext) -> LinkError {
    let write = async {
        while outbox.drained().await {
            context.router.link(link, FromLink::Drained).await;
        }
        LinkError::Closed
    };
    let read = async {
        loop {
            match wire.receive().await {
                Ok(frame) => context.router.link(link, FromLink::Frame(frame)).await,
                Err(error) => return error,
            }
        }
    };
    let close = async {
        let reason = outbox.closed().await;
        // The last frames may say why, but a dead peer takes none.
        sleep(LAST_FRAMES_TIMEOUT).await;
        LinkError::Dropped(reason)
    };
    tokio::select! {
        biased;
        end = write => end,
        end = read => end,
        end = close => end,
        () = context.stop.cancelled() => LinkError::Stopping,
    }
}

/// Has what is left written, the goodbye last, and waits for the peer to close its side: only then has it read all.
async fn farewell(Wire { outgoing, mut incoming }: Wire) {
    drop(outgoing);
    while let Some(Ok(_)) = incoming.next().await {}
}

/// The gRPC service.
#[derive(Debug, Clone)]
pub struct PeerService {
    pub context: LinkContext,
    pub tasks: TaskTracker,
}

impl NamedService for PeerService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<Request<Body>> for PeerService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(self.link(request).unwrap_or_else(Status::into_http)))
    }
}

impl PeerService {
    fn link(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        if request.uri().path() != LINK_PATH {
            return Err(Status::unimplemented("the service has one method, Link"));
        }
        let connection = request.extensions().get::<Guest>().cloned();
        let address = connection.as_ref().map(|connection| connection.address);
        if !self.context.secret.is_set() && !address.is_some_and(is_loopback) {
            self.context.metrics.count_refused_peer();
            self.context.warnings.warn("a peer was refused: without CLIQUE_SECRET only peers on loopback are accepted");
            return Err(Status::unauthenticated("refused"));
        }
        let outbox = Arc::new(LinkOutbox::new(self.context.max_output_bytes));
        let wire = Wire::new(outbox.clone(), Incoming::new(request.into_body()));
        let context = self.context.clone();
        // Its port is chosen anew for every attempt, and says nothing.
        let peer = address.map_or_else(|| "an unknown address".to_owned(), |address| address.ip().to_string());
        self.tasks.spawn(async move {
            let Err(error) = run_link(wire, false, context.clone(), |_| {
                if let Some(connection) = connection {
                    connection.is_proved.store(true, Ordering::Relaxed);
                }
            })
            .await;
            context.log_end(&peer, &error);
        });
        Ok(grpc::answer(outbox))
    }
}

impl LinkContext {
    /// What a person must mend is a warning; a link that ended is told by the router's notices already.
    pub fn log_end(&self, peer: &str, error: &LinkError) {
        match error {
            LinkError::NotBelieved if !self.is_repeated_disbelief(peer) => {
                tracing::debug!(peer, "link ended: {error}");
            }
            LinkError::Handshake(_) | LinkError::NotBelieved | LinkError::Refused(_) => {
                self.warnings.warn(&format!("no link with the peer at {peer}: {error}"));
            }
            _ => tracing::debug!(peer, "link ended: {error}"),
        }
    }

    /// A peer that ends in the middle of a handshake looks the same, but does not do so again and again.
    fn is_repeated_disbelief(&self, peer: &str) -> bool {
        let mut disbelief = self.disbelief.lock();
        let count = disbelief.entry(peer.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count >= TELLING_DISBELIEF
    }
}

/// A peer's words, fit for the log: one line, not too long.
fn shown(reason: &str) -> String {
    printable(reason.as_bytes()).chars().take(MAX_REASON_CHARS).collect()
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
