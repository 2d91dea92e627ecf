//! Somebody who goes on whatever happens: keeps sending, and when the connection ends resumes on the next node.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clique::wire::{
    extended::{
        Delivery, FromClient, FromNode, Height, MessageId, Receipt, Register, Registration, Resume, Send, State,
    },
    frames,
};

use super::socket::Socket;

/// Between two messages, and between two looks at the socket.
const PACE: Duration = Duration::from_millis(10);
/// Every so many messages one is for everyone.
const EVERYONE_EVERY: u64 = 8;

/// What somebody was told, to be judged at the end.
#[derive(Debug, Default)]
pub struct Story {
    pub name: String,
    /// Messages that a node took: where they went, by their text, with the identity that they were given.
    pub acknowledged: BTreeMap<String, (String, MessageId)>,
    /// In the order of arrival: from, text, identity.
    pub heard: Vec<(String, String, MessageId)>,
    /// Everything that was sent, taken or not.
    pub sent: u64,
    pub reconnections: u64,
}

/// Runs on a thread of its own until told to end.
pub struct Wanderer {
    name: String,
    acknowledged: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    is_quiet: Arc<AtomicBool>,
    has_ended: Arc<AtomicBool>,
    thread: JoinHandle<Story>,
}

impl Wanderer {
    /// Begins at the first of these nodes; whom to talk to besides everyone.
    pub fn set_out(name: &str, nodes: Vec<SocketAddr>, to: &str) -> Self {
        let (acknowledged, heard) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (is_quiet, has_ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let journey = Journey {
            nodes,
            to: to.to_owned(),
            story: Story { name: name.to_owned(), ..Story::default() },
            heights: BTreeMap::new(),
            stay: None,
            sent_heights: BTreeMap::new(),
            open: BTreeMap::new(),
            acknowledged: acknowledged.clone(),
            heard: heard.clone(),
            is_quiet: is_quiet.clone(),
            has_ended: has_ended.clone(),
        };
        let thread = thread::spawn(move || journey.run());
        Self { name: name.to_owned(), acknowledged, heard, is_quiet, has_ended, thread }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins to talk, or stops talking and only listens.
    pub fn talk(&self, talks: bool) {
        self.is_quiet.store(!talks, Ordering::Relaxed);
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub fn end(self) -> Story {
        self.has_ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("the wanderer tells its story")
    }
}

struct Journey {
    nodes: Vec<SocketAddr>,
    to: String,
    story: Story,
    /// What was received, by origin.
    heights: BTreeMap<(u32, u64), u64>,
    /// As the first node gave it.
    stay: Option<Registration>,
    sent_heights: BTreeMap<(u32, u64), u64>,
    /// Sent on this connection and not answered: by reference, to whom and what.
    open: BTreeMap<u64, (String, String)>,
    acknowledged: Arc<AtomicU64>,
    heard: Arc<AtomicU64>,
    is_quiet: Arc<AtomicBool>,
    has_ended: Arc<AtomicBool>,
}

impl Journey {
    fn run(mut self) -> Story {
        let mut node = 0;
        let mut is_first = true;
        while !self.has_ended.load(Ordering::Relaxed) {
            if let Ok(socket) = Socket::try_connect(self.nodes[node % self.nodes.len()]) {
                if !is_first {
                    self.story.reconnections += 1;
                }
                is_first = !self.stay(socket) && is_first;
            }
            node += 1;
            thread::sleep(PACE);
        }
        self.story
    }

    /// One connection, to its end. Whether there was a welcome.
    fn stay(&mut self, mut socket: Socket) -> bool {
        self.open.clear();
        if put(&mut socket, &FromClient::Register(self.registration())).is_err() {
            return false;
        }
        let mut is_welcome = false;
        let mut next_message = Instant::now();
        while socket.poll() || !socket.pending().is_empty() {
            let frames_read = self.read(&mut socket, &mut is_welcome);
            if frames_read.is_none() || self.has_ended.load(Ordering::Relaxed) {
                break;
            }
            if is_welcome && !self.is_quiet.load(Ordering::Relaxed) && Instant::now() >= next_message {
                next_message = Instant::now() + PACE;
                if self.say_something(&mut socket).is_err() {
                    break;
                }
            }
            if frames_read == Some(0) {
                thread::sleep(PACE / 4);
            }
        }
        is_welcome
    }

    fn registration(&self) -> Register {
        let heights = |known: &BTreeMap<(u32, u64), u64>| known.iter().map(height).collect();
        Register {
            name: self.story.name.clone(),
            session_key: format!("{:-<32}", self.story.name).into_bytes(),
            resume: (!self.heights.is_empty()).then(|| Resume {
                heights: heights(&self.heights),
                sent: heights(&self.sent_heights),
                registration: self.stay,
                ..Resume::default()
            }),
            ..Register::default()
        }
    }

    fn say_something(&mut self, socket: &mut Socket) -> std::io::Result<()> {
        self.story.sent += 1;
        let reference = self.story.sent;
        let to = if reference.is_multiple_of(EVERYONE_EVERY) { "*" } else { &self.to };
        let text = format!("{} {reference}", self.story.name);
        self.open.insert(reference, (to.to_owned(), text.clone()));
        let message = Send { reference, to: to.to_owned(), text: text.into_bytes(), traceparent: String::new() };
        put(socket, &FromClient::Send(message))
    }

    /// Takes what has come. How many frames; `None` if the connection is to be left.
    fn read(&mut self, socket: &mut Socket, is_welcome: &mut bool) -> Option<usize> {
        let mut count = 0;
        while let Some(frame) = whole_frame(socket) {
            count += 1;
            match FromNode::read(&frame).expect("the body can be read")? {
                FromNode::Registered(registered) => {
                    *is_welcome = true;
                    self.stay = registered.registration;
                    if self.heights.is_empty() {
                        registered.heights.iter().for_each(|height| raise(&mut self.heights, height));
                    }
                }
                // Its former connection may not have been noticed yet; or the node is stopping.
                FromNode::RegisterRefused(_) | FromNode::Stopping(_) => return None,
                FromNode::Delivery(delivery) => self.hear(delivery),
                FromNode::Receipt(receipt) => self.learn(&receipt),
                FromNode::ReceiptRun(receipts) => receipts.each().for_each(|receipt| self.learn(&receipt)),
                _ => {}
            }
        }
        Some(count)
    }

    fn hear(&mut self, delivery: Delivery) {
        let id = delivery.id.expect("a delivery says what it is");
        let origin = id.origin.expect("an identity has an origin");
        raise(&mut self.heights, &Height { origin: Some(origin), height: id.number });
        self.story.heard.push((delivery.from, String::from_utf8_lossy(&delivery.text).into_owned(), id));
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    fn learn(&mut self, receipt: &Receipt) {
        if !matches!(receipt.state(), State::Accepted | State::Kept) {
            if receipt.state() == State::Refused {
                self.open.remove(&receipt.reference);
            }
            return;
        }
        let (Some((to, text)), Some(id)) = (self.open.remove(&receipt.reference), receipt.id) else { return };
        let origin = id.origin.expect("an identity has an origin");
        raise(&mut self.sent_heights, &Height { origin: Some(origin), height: id.number });
        self.story.acknowledged.insert(text, (to, id));
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

fn height((origin, height): (&(u32, u64), &u64)) -> Height {
    let (node, incarnation) = *origin;
    Height { origin: Some(clique::wire::extended::Origin { node, incarnation }), height: *height }
}

fn raise(heights: &mut BTreeMap<(u32, u64), u64>, new: &Height) {
    let origin = new.origin.expect("a height has an origin");
    let known = heights.entry((origin.node, origin.incarnation)).or_default();
    *known = (*known).max(new.height);
}

fn put(socket: &mut Socket, frame: &FromClient) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    socket.try_send(&bytes)
}

/// The next frame, if all of it has come.
fn whole_frame(socket: &mut Socket) -> Option<frames::Frame> {
    let pending = socket.pending();
    let body = usize::from(u16::from_be_bytes([*pending.get(2)?, *pending.get(3)?]));
    let length = frames::HEADER_BYTES + body;
    if pending.len() < length {
        return None;
    }
    let mut buffer = BytesMut::from(&socket.take(length)[..]);
    frames::decode(&mut buffer).expect("the header makes sense")
}
