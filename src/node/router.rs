//! The router: the one task that owns the hub and drives it with real inputs, outputs and time.

mod outputs;

use std::{
    collections::VecDeque,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, Sleep, sleep, sleep_until},
};

use self::outputs::{ClientOutput, LinkOutput, Outputs};
use super::{
    hub::{ClientId, FromClient, FromLink, FromStore, Hub, Now, Overview},
    link_outbox::LinkOutbox,
    metrics::{Metrics, Status},
    outbox::ClientOutbox,
    spans::NodeSpans,
    store::StoreHandle,
    timer,
    world::World,
};
use crate::{
    clique::{LinkId, Member},
    wire::{Dialect, peer::Hello},
};

/// Inputs that may wait for the router; more make their senders wait, and so their sockets.
const MAX_QUEUED_INPUTS: usize = 1_024;
/// Inputs taken in one turn.
const MAX_INPUTS_PER_TURN: usize = 256;

/// Pause between two looks at the state.
const STATUS_PAUSE: Duration = Duration::from_millis(5);
/// Deliveries that the inputs of one turn may lead to. A turn of some ten milliseconds holds up no heartbeat.
const MAX_COST_PER_TURN: usize = 100_000;

/// Something for the router to do.
#[derive(Debug)]
enum Input {
    OpenClient(ClientId, Dialect, IpAddr, Arc<ClientOutbox>),
    Client(ClientId, FromClient),
    OpenLink(LinkId, Arc<LinkOutbox>, Opening),
    Link(LinkId, FromLink),
    Store(FromStore),
    Hello(oneshot::Sender<Hello>),
    Status(oneshot::Sender<Status>),
    Overview(oneshot::Sender<Box<Overview>>),
    Stop,
    Goodbye,
    End,
}

impl Input {
    /// How many deliveries it can lead to, about, where so many clients are connected.
    fn cost(&self, clients: usize) -> usize {
        match self {
            Self::Client(_, FromClient::Submit(submissions)) => submissions.len() + submissions.to_everyone() * clients,
            _ => 1,
        }
    }
}

/// A link that has proved itself.
#[derive(Debug)]
pub struct Opening {
    pub dialed_by_us: bool,
    pub hello: Box<Hello>,
}

/// How doors talk to the router. When the router has ended, everything is as if nobody answered.
#[derive(Debug, Clone)]
pub struct RouterHandle {
    inputs: mpsc::Sender<Input>,
    next_id: Arc<AtomicU64>,
}

impl RouterHandle {
    /// A number that no other client or link of this node has.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub async fn open_client(&self, client: ClientId, dialect: Dialect, address: IpAddr, outbox: Arc<ClientOutbox>) {
        self.send(Input::OpenClient(client, dialect, address, outbox)).await;
    }

    pub async fn client(&self, client: ClientId, input: FromClient) {
        self.send(Input::Client(client, input)).await;
    }

    pub async fn open_link(&self, link: LinkId, outbox: Arc<LinkOutbox>, opening: Opening) {
        self.send(Input::OpenLink(link, outbox, opening)).await;
    }

    pub async fn link(&self, link: LinkId, input: FromLink) {
        self.send(Input::Link(link, input)).await;
    }

    /// What this node says of itself to a peer; `None` once the router has ended.
    pub async fn hello(&self) -> Option<Hello> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Hello(answer)).await;
        answered.await.ok()
    }

    /// `None` once the router has ended.
    pub async fn status(&self) -> Option<Status> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Status(answer)).await;
        answered.await.ok()
    }

    /// What the node knows of all nodes; `None` once the router has ended.
    pub async fn overview(&self) -> Option<Box<Overview>> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Overview(answer)).await;
        answered.await.ok()
    }

    /// Waits until the state is as wanted, or the router has ended.
    pub async fn wait_until(&self, wanted: impl Fn(&Status) -> bool) {
        while self.status().await.is_some_and(|status| !wanted(&status)) {
            sleep(STATUS_PAUSE).await;
        }
    }

    /// Takes no more people.
    pub async fn stop(&self) {
        self.send(Input::Stop).await;
    }

    /// The last word to peers and clients.
    pub async fn say_goodbye(&self) {
        self.send(Input::Goodbye).await;
    }

    /// The end of the router, whoever else still has a handle.
    pub async fn end(&self) {
        self.send(Input::End).await;
    }

    async fn send(&self, input: Input) {
        // An error means that the router has ended; whoever waits for an answer learns it from the answer's absence.
        let _ = self.inputs.send(input).await;
    }
}

/// The task; see the module's head.
pub struct Router<W> {
    hub: Hub,
    world: W,
    start: Instant,
    inputs: mpsc::Receiver<Input>,
    /// What the store has to say: an answer to each thing that it was told to do, so the hub bounds it.
    store: Option<mpsc::UnboundedReceiver<FromStore>>,
    outputs: Outputs,
    has_ended: bool,
}

impl<W: World> Router<W> {
    /// Members that should be dialled go to `dial`.
    #[must_use]
    pub fn new(
        hub: Hub,
        world: W,
        metrics: Arc<Metrics>,
        spans: NodeSpans,
        dial: mpsc::UnboundedSender<Member>,
    ) -> (Self, RouterHandle) {
        let (sender, inputs) = mpsc::channel(MAX_QUEUED_INPUTS);
        let outputs = Outputs::new(sender.downgrade(), metrics, spans, dial);
        let handle = RouterHandle { inputs: sender, next_id: Arc::new(AtomicU64::new(1)) };
        (Self { hub, world, start: Instant::now(), inputs, store: None, outputs, has_ended: false }, handle)
    }

    /// Before it runs: the disk behind the log.
    pub fn attach_store(&mut self, store: StoreHandle, answers: mpsc::UnboundedReceiver<FromStore>) {
        self.outputs.store = Some(store);
        self.store = Some(answers);
    }

    /// Runs until it is ended, or every handle is gone.
    pub async fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut received = Vec::with_capacity(MAX_INPUTS_PER_TURN);
        let mut timer = pin!(sleep_until(self.start));
        while !self.has_ended {
            if self.hub.has_work() || !waiting.is_empty() {
                // What is left of the last turn goes on without waiting for input, but others have their turn too.
                tokio::task::yield_now().await;
                while waiting.len() < MAX_INPUTS_PER_TURN {
                    let Ok(input) = self.inputs.try_recv() else { break };
                    waiting.push_back(input);
                }
            } else if !self.wait(timer.as_mut(), &mut received).await {
                return;
            }
            waiting.extend(received.drain(..));
            self.take_from_store(&mut waiting);
            self.turn(&mut waiting);
        }
    }

    /// Until there is input, or the hub's time has come; `false` once nobody can say anything any more.
    async fn wait(&mut self, timer: Pin<&mut Sleep>, received: &mut Vec<Input>) -> bool {
        let deadline = self.start + Duration::from_millis(self.hub.next_deadline_ms(self.now()));
        tokio::select! {
            biased;
            count = self.inputs.recv_many(received, MAX_INPUTS_PER_TURN) => return count > 0,
            Some(answer) = next_of(self.store.as_mut()) => received.push(Input::Store(answer)),
            () = timer::until(timer, deadline) => {}
        }
        true
    }

    fn take_from_store(&mut self, waiting: &mut VecDeque<Input>) {
        while let Some(Ok(answer)) = self.store.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            waiting.push_back(Input::Store(answer));
        }
    }

    /// Takes as many inputs as a turn may cost, at least one, and acts on them.
    fn turn(&mut self, waiting: &mut VecDeque<Input>) {
        let now = self.now();
        let mut cost = 0;
        while cost < MAX_COST_PER_TURN
            && let Some(input) = waiting.pop_front()
        {
            cost += input.cost(self.outputs.clients.len());
            self.take(input, now);
        }
        self.hub.finish_turn(now, &mut self.outputs);
        self.outputs.flush();
    }

    fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { unix_us: self.world.unix_us(), monotonic_ms }
    }

    fn take(&mut self, input: Input, now: Now) {
        let outputs = &mut self.outputs;
        match input {
            Input::OpenClient(client, dialect, address, outbox) => {
                outputs.clients.insert(client, ClientOutput::new(outbox, address));
                self.hub.from_client(client, FromClient::Opened { dialect }, now, outputs);
            }
            Input::Client(client, mut input) => {
                let is_closed = matches!(input, FromClient::Closed { .. });
                if let (FromClient::Closed { unwritten }, Some(output)) = (&mut input, outputs.clients.get_mut(&client))
                {
                    // Meanwhile more can have come for it.
                    output.flush();
                    unwritten.extend(output.outbox.unwritten());
                }
                outputs.metrics.count_input(&input);
                self.hub.from_client(client, input, now, outputs);
                if is_closed {
                    outputs.clients.remove(&client);
                }
            }
            Input::OpenLink(link, outbox, Opening { dialed_by_us, hello }) => {
                outputs.links.insert(link, LinkOutput::new(outbox));
                self.hub.from_link(link, FromLink::Opened { dialed_by_us, hello }, now, outputs);
            }
            Input::Link(link, input) => {
                let is_closed = matches!(input, FromLink::Closed);
                self.hub.from_link(link, input, now, outputs);
                if is_closed {
                    outputs.links.remove(&link);
                }
            }
            Input::Store(input) => self.hub.from_store(input, now, outputs),
            Input::Hello(answer) => {
                let _ = answer.send(self.hub.hello());
            }
            Input::Status(answer) => {
                let _ = answer.send(status(&self.hub));
            }
            Input::Overview(answer) => {
                let _ = answer.send(Box::new(self.hub.overview(now)));
            }
            Input::Stop => self.hub.stop(now, outputs),
            Input::Goodbye => self.hub.say_goodbye(now, outputs),
            Input::End => self.has_ended = true,
        }
    }
}

/// `None` where there is no store, or it is closed.
async fn next_of(answers: Option<&mut mpsc::UnboundedReceiver<FromStore>>) -> Option<FromStore> {
    answers?.recv().await
}

fn status(hub: &Hub) -> Status {
    Status {
        nodes_reachable: hub.directory().reachable_count(),
        nodes_known: hub.members().known_count(),
        clients: hub.client_count(),
        people: hub.directory().present_count(),
        log_bytes: hub.replica().log().bytes(),
        taken_over_entries: hub.taken_over_entries(),
        is_drained: hub.is_drained(),
        is_vacated: hub.is_vacated(),
    }
}
