//! The client's one life, across connections.
//!
//! ```text
//!            ┌────────── no node answers: pause ─────────┐
//!            ▼                                           │
//! ──▶ looking for a node ──▶ registering ──▶ talking ──▶ lost
//!            │                    │ refused     │
//!            └────── leave ◀──────┴─────────────┘
//! ```
//!
//! Orders (messages to send) are taken in every state: without a connection they wait in the outbox.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Connection, ConnectionError},
    events::Event,
    identity::Identity,
    nodes::{Nodes, pauses},
    spans::{Answer, Traced},
    unsettled::Unsettled,
};
use crate::{
    chat::Passphrase,
    wire::extended::{Command, FromClient, Send},
};

/// Most messages that wait for a connection, or for their first receipt; beyond it no more orders are taken.
const MAX_WAITING: usize = 4_096;
/// Without a first registration within this time the session gives up.
const FIRST_CONNECTION_MS: u64 = 10_000;
/// A connection that lasted this long shows that things are well again: the next loss is answered at once.
const STABLE_AFTER_MS: u64 = 3_000;

/// What a session is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Send {
        to: String,
        text: String,
    },
    /// A slash command for the node.
    Command(String),
    /// Makes the name one's own.
    Claim(Passphrase),
    /// Another name, after one was refused.
    Name(String),
    /// The passphrase of the name, after it was refused without.
    Passphrase(Passphrase),
}

/// What to do when the first name is refused, or its passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// Wait for another name, or a passphrase.
    Ask,
    /// Make another up.
    MakeUp,
    /// Give up.
    End,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Left,
    NoNode,
    NameRefused(String),
}

/// Why a stretch of the session ended.
pub(super) enum Stop {
    End(End),
    Lost(ConnectionError),
}

impl From<ConnectionError> for Stop {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

/// The session's state between connections.
pub struct Session {
    pub(super) nodes: Nodes,
    pub(super) identity: Identity,
    pub(super) on_refusal: OnRefusal,
    pub(super) orders: mpsc::Receiver<Order>,
    orders_open: bool,
    events: mpsc::Sender<Event>,
    pub(super) leave: CancellationToken,
    /// Messages and commands that wait for a connection.
    outbox: VecDeque<FromClient>,
    pub(super) unsettled: Unsettled,
    /// Since the last registration.
    pub(super) wrong_passphrases: u32,
    next_reference: u64,
    pub(super) traced: Traced,
}

/// The ends of the channels that a screen or a script holds.
pub struct Handle {
    pub orders: mpsc::Sender<Order>,
    pub events: mpsc::Receiver<Event>,
    /// Cancel it to say goodbye and end.
    pub leave: CancellationToken,
}

impl Drop for Handle {
    /// A session ends with its owner, even one that had no time to say so.
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

impl Session {
    /// A session that is not connected yet; `run` it.
    pub fn new(nodes: Nodes, identity: Identity, on_refusal: OnRefusal, traced: Traced) -> (Self, Handle) {
        let (order_sender, orders) = mpsc::channel(256);
        let (events, event_receiver) = mpsc::channel(1_024);
        let leave = CancellationToken::new();
        let session = Self {
            nodes,
            identity,
            on_refusal,
            orders,
            orders_open: true,
            events,
            leave: leave.clone(),
            outbox: VecDeque::new(),
            unsettled: Unsettled::default(),
            wrong_passphrases: 0,
            next_reference: 1,
            traced,
        };
        (session, Handle { orders: order_sender, events: event_receiver, leave })
    }

    /// Lives until it is told to leave, or nothing can be done.
    pub async fn run(mut self) -> End {
        let end = match self.live().await {
            Stop::End(end) => end,
            Stop::Lost(_) => End::Left,
        };
        for reference in self.unsettled.end() {
            self.lose(reference, true).await;
        }
        for waiting in std::mem::take(&mut self.outbox) {
            if let FromClient::Send(message) = waiting {
                self.lose(message.reference, false).await;
            }
        }
        end
    }

    async fn live(&mut self) -> Stop {
        let mut pause = pauses();
        loop {
            let connection = match self.find_node(&mut pause).await {
                Ok(connection) => connection,
                Err(end) => return Stop::End(end),
            };
            let begin = Instant::now();
            let stop = self.talk(connection).await;
            for reference in self.unsettled.lost() {
                self.lose(reference, true).await;
            }
            let Stop::Lost(error) = stop else { return stop };
            self.tell(Event::Lost { reason: error.to_string() }).await;
            if begin.elapsed() >= Duration::from_millis(STABLE_AFTER_MS) {
                pause = pauses();
            } else if let Some(pause) = pause.next()
                && self.attend(sleep(pause)).await.is_none()
            {
                return Stop::End(End::Left);
            }
        }
    }

    /// Tries one node after the other until one has registered this client.
    async fn find_node(&mut self, pause: &mut impl Iterator<Item = Duration>) -> Result<Connection, End> {
        let begin = Instant::now();
        let mut is_first_round = true;
        loop {
            let round = if self.identity.has_registered() { self.nodes.round_after_loss() } else { self.nodes.round() };
            for address in round {
                match self.enter(&address).await {
                    Ok(connection) => return Ok(connection),
                    Err(Stop::End(end)) => return Err(end),
                    Err(Stop::Lost(error)) if is_first_round => {
                        self.tell(Event::Unreachable { address, reason: error.to_string() }).await;
                    }
                    Err(Stop::Lost(_)) => {}
                }
            }
            is_first_round = false;
            let is_late = begin.elapsed() >= Duration::from_millis(FIRST_CONNECTION_MS);
            if is_late && !self.identity.has_registered() {
                return Err(End::NoNode);
            }
            let next = pause.next().unwrap_or(Duration::from_secs(1));
            self.attend(sleep(next)).await.ok_or(End::Left)?;
        }
    }

    /// Waits for something, taking orders meanwhile; `None` if told to leave.
    pub(super) async fn attend<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(future);
        loop {
            let has_room = self.orders_open && self.outbox.len() < MAX_WAITING;
            tokio::select! {
                biased;
                result = &mut future => return Some(result),
                () = self.leave.cancelled() => {
                    // What was ordered before leaving is at least accounted for.
                    while let Ok(order) = self.orders.try_recv() {
                        self.take(order).await;
                    }
                    return None;
                }
                order = self.orders.recv(), if has_room => match order {
                    Some(order) => self.take(order).await,
                    None => self.orders_open = false,
                }
            }
        }
    }

    /// Takes an order while there is no connection.
    pub(super) async fn take(&mut self, order: Order) {
        if let Some(frame) = self.frame(order).await {
            self.outbox.push_back(frame);
        }
    }

    /// An order as the node takes it.
    async fn frame(&mut self, order: Order) -> Option<FromClient> {
        match order {
            Order::Send { to, text } => Some(FromClient::Send(self.message(to, text).await)),
            Order::Command(line) => {
                self.identity.asks(&line);
                Some(FromClient::Command(Command { line }))
            }
            Order::Claim(passphrase) => {
                let line = format!("claim {}", passphrase.reveal());
                self.identity.claim(passphrase);
                Some(FromClient::Command(Command { line }))
            }
            // They come too late: a name has been given.
            Order::Name(_) | Order::Passphrase(_) => None,
        }
    }

    async fn message(&mut self, to: String, text: String) -> Send {
        let reference = self.next_reference;
        self.next_reference += 1;
        let traceparent = self.traced.begin(reference, &to, text.len());
        let bytes = text.clone().into_bytes();
        self.tell(Event::Sent { reference, to: to.clone(), text }).await;
        Send { reference, to, text: bytes, traceparent }
    }

    /// The next order, if more can be taken.
    pub(super) async fn next_order(&mut self) -> Order {
        loop {
            if !self.orders_open || self.unsettled.unanswered() >= MAX_WAITING {
                std::future::pending::<()>().await;
            }
            match self.orders.recv().await {
                Some(order) => return order,
                None => self.orders_open = false,
            }
        }
    }

    /// An order that is there already.
    pub(super) fn waiting_order(&mut self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// Carries out an order on a connection.
    pub(super) async fn carry_out(&mut self, order: Order, connection: &mut Connection) {
        if let Some(frame) = self.frame(order).await {
            self.post(&frame, connection);
        }
    }

    fn post(&mut self, frame: &FromClient, connection: &mut Connection) {
        if let FromClient::Send(message) = frame {
            self.unsettled.written(message.reference, &message.to);
        }
        connection.send(frame);
    }

    /// Sends what has waited for a connection.
    pub(super) fn empty_outbox(&mut self, connection: &mut Connection) {
        while let Some(frame) = self.outbox.pop_front() {
            self.post(&frame, connection);
        }
    }

    /// A message is not going to be answered.
    pub(super) async fn lose(&self, reference: u64, written: bool) {
        self.traced.end(reference, Answer::None);
        self.tell(Event::NotAnswered { reference, written }).await;
    }

    /// Tells whoever listens. Waits while they are slow: then the node is read no further, and it keeps what is next.
    pub(super) async fn tell(&self, event: Event) {
        // Nobody listens any more only when the whole client is on its way out.
        let _ = self.events.send(event).await;
    }
}
