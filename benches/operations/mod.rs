//! The hot spots that are measured, each as something that can be done again and again with a batch of messages. `hot_path`
//! takes their time, `instructions` counts what the processor does for them.

use std::fmt;

use bytes::Bytes;
use clique::{
    chat::{Addressee, Message, Passphrase, Registration},
    clique::{Chunk, Keep, LinkId, Member, Origin, Replica},
    node::hub::{
        ClientId, FromClient, FromLink, Hub, HubSettings, Mark, Now, Ports, Registering, Submissions, Timing, ToStore,
        TraceStep,
    },
    wire::{
        Dialect,
        entry::{ChunkBuilder, read_chunk},
        frames,
        peer::PeerFrame,
    },
};
use divan::black_box;

/// Messages of a batch.
pub const BATCH: usize = 500;

const TEXT: [u8; 100] = [b'x'; 100];
const LOG_BYTES: usize = 16 << 20;
const NOW: Now = Now { unix_us: 1_700_000_000_000_000, monotonic_ms: 1_000 };
const LINK: LinkId = 1;
const SENDER: ClientId = 0;

/// What can be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Original frames out of a read buffer.
    ParseFrames,
    /// Messages into log entries.
    EncodeEntries,
    /// Log entries out of what a peer sent.
    ReadEntries,
    /// Entries into the log of the node that accepts them.
    Append,
    /// The same, then received and applied by another node.
    Replicate,
    /// From a session's batch to the buffer of a recipient on the same node.
    RouteDirect,
    /// The same to 100 recipients.
    RouteBroadcast,
    /// From a session's batch on one node to the buffer of a recipient on another; the link between them costs nothing.
    RelayDirect,
}

pub const OPERATIONS: [Operation; 8] = [
    Operation::ParseFrames,
    Operation::EncodeEntries,
    Operation::ReadEntries,
    Operation::Append,
    Operation::Replicate,
    Operation::RouteDirect,
    Operation::RouteBroadcast,
    Operation::RelayDirect,
];

impl fmt::Display for Operation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ParseFrames => "parse_frames",
            Self::EncodeEntries => "encode_entries",
            Self::ReadEntries => "read_entries",
            Self::Append => "append",
            Self::Replicate => "replicate",
            Self::RouteDirect => "route_direct",
            Self::RouteBroadcast => "route_broadcast_100",
            Self::RelayDirect => "relay_direct",
        })
    }
}

impl Operation {
    /// Everything in place; each call does it for one batch more.
    pub fn prepare(self) -> Box<dyn FnMut()> {
        match self {
            Self::ParseFrames => parse_frames(),
            Self::EncodeEntries => Box::new(|| drop(black_box(chunk(1)))),
            Self::ReadEntries => {
                let bytes = chunk(1).bytes;
                Box::new(move || drop(black_box(read_chunk(1, black_box(bytes.clone())))))
            }
            Self::Append => append(),
            Self::Replicate => replicate(),
            Self::RouteDirect => route(1, b"reader1"),
            Self::RouteBroadcast => route(100, b"*"),
            Self::RelayDirect => relay(),
        }
    }
}

fn message(to: Addressee<'_>) -> Message<'_> {
    Message {
        sender: "alice",
        sender_registration: Registration { time: 1 << 50, node: 0 },
        to,
        text: &TEXT,
        receipts: false,
        trace: None,
    }
}

fn chunk(first: u64) -> Chunk {
    let mut builder = ChunkBuilder::new(Vec::new());
    for time in 0..BATCH as u64 {
        builder.push(time, &message(Addressee::Person("bob", Registration { time: 9, node: 1 })));
    }
    builder.finish(first)
}

fn parse_frames() -> Box<dyn FnMut()> {
    let mut stream = Vec::new();
    for _ in 0..BATCH {
        frames::encode(&mut stream, frames::kind::MESSAGE, 3, &[b"bob ", &TEXT]);
    }
    Box::new(move || {
        let mut rest = &stream[..];
        while let Ok(Some(frame)) = frames::front(rest) {
            black_box(frames::split_message(frame));
            rest = &rest[frame.bytes()..];
        }
    })
}

fn origin(node: u16) -> Origin {
    Origin { node, incarnation: 1 }
}

/// The next entries of a log, numbered on.
fn numbered(chunk: &Chunk, replica: &mut Replica) -> Chunk {
    Chunk { first: replica.next_entry().0, ..chunk.clone() }
}

fn append() -> Box<dyn FnMut()> {
    let (chunk, mut replica) = (chunk(1), Replica::new(origin(0), LOG_BYTES));
    Box::new(move || {
        let next = numbered(&chunk, &mut replica);
        black_box(replica.append(next));
        while replica.evict().is_some() {}
    })
}

fn replicate() -> Box<dyn FnMut()> {
    let (chunk, from) = (chunk(1), origin(0));
    let mut accepting = Replica::new(from, LOG_BYTES);
    let mut receiving = Replica::new(origin(1), LOG_BYTES);
    receiving.link_up(LINK, from, &[]);
    Box::new(move || {
        let next = numbered(&chunk, &mut accepting);
        black_box(accepting.append(next.clone()));
        receiving.peer_holds(LINK, &[accepting.log().held_of(from)]);
        receiving.receive(LINK, from, next, 1, NOW.monotonic_ms);
        let mut applied = 0;
        while let Some(run) = receiving.apply_next(NOW.monotonic_ms, u64::MAX) {
            applied += run.chunk.ends.len();
        }
        assert_eq!(applied, BATCH);
        for replica in [&mut accepting, &mut receiving] {
            while replica.evict().is_some() {}
        }
    })
}

/// Outputs that are counted, and kept only where they go to a peer.
#[derive(Default)]
struct Outputs {
    bytes: usize,
    to_link: Vec<PeerFrame>,
}

impl Ports for Outputs {
    fn hash_passphrase(&mut self, _: ClientId, _: Passphrase) {}

    fn check_passphrase(&mut self, _: ClientId, _: &str, _: Passphrase, _: &str) {}

    fn to_client(&mut self, _: ClientId, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        self.bytes += bytes.len();
        for mark in marks {
            black_box(mark);
        }
    }
    fn client_room_bytes(&mut self, _: ClientId) -> usize {
        usize::MAX
    }
    fn close_client(&mut self, _: ClientId) {}
    fn to_link(&mut self, _: LinkId, frame: PeerFrame) {
        self.to_link.push(frame);
    }
    fn link_has_room(&mut self, _: LinkId) -> bool {
        true
    }
    fn close_link(&mut self, _: LinkId, _: &str) {}
    fn to_store(&mut self, _: ToStore) {}
    fn dial(&mut self, _: &Member) {}
    fn trace(&mut self, _: TraceStep) {}
}

/// A hub and what it has said.
struct Node {
    hub: Hub,
    outputs: Outputs,
}

impl Node {
    /// One with so many clients: `reader0` and so on.
    fn new(node: u16, clients: std::ops::RangeInclusive<u64>) -> Self {
        let mut hub = Hub::new(HubSettings {
            origin: origin(node),
            advertise: format!("here:{}", node + 1),
            chat_port: 1,
            expected_nodes: 1,
            max_log_bytes: LOG_BYTES,
            has_store: false,
            keep: Keep::default(),
            history_shown: 0,
            timing: Timing::default(),
            is_tracing: false,
        });
        let mut outputs = Outputs::default();
        for client in clients {
            hub.from_client(client, FromClient::Opened { dialect: Dialect::Frames }, NOW, &mut outputs);
            let name = Bytes::from(format!("reader{client}"));
            let registering = FromClient::Register(Box::new(Registering { name, ..Registering::default() }));
            hub.from_client(client, registering, NOW, &mut outputs);
        }
        Self { hub, outputs }
    }

    fn submit(&mut self, to: &'static [u8]) {
        let mut submissions = Submissions::new(0);
        (0..BATCH).for_each(|_| submissions.push(to, &TEXT, 0, None));
        self.hub.from_client(SENDER, FromClient::Submit(submissions), NOW, &mut self.outputs);
        self.hub.finish_turn(NOW, &mut self.outputs);
    }

    fn take_in(&mut self, inputs: impl IntoIterator<Item = FromLink>) {
        for input in inputs {
            self.hub.from_link(LINK, input, NOW, &mut self.outputs);
        }
        self.hub.finish_turn(NOW, &mut self.outputs);
    }
}

fn route(readers: u64, to: &'static [u8]) -> Box<dyn FnMut()> {
    let mut node = Node::new(0, 0..=readers);
    Box::new(move || {
        let before = node.outputs.bytes;
        node.submit(to);
        assert!(node.outputs.bytes >= before + BATCH * TEXT.len(), "nobody has had it");
    })
}

/// What two nodes have to say to each other, until they are quiet.
fn exchange(nodes: &mut [Node; 2]) {
    while nodes.iter().any(|node| !node.outputs.to_link.is_empty()) {
        let [one, other] = &mut *nodes;
        let there = std::mem::take(&mut one.outputs.to_link);
        other.take_in(there.into_iter().map(FromLink::Frame));
        let back = std::mem::take(&mut other.outputs.to_link);
        one.take_in(back.into_iter().map(FromLink::Frame));
    }
}

fn relay() -> Box<dyn FnMut()> {
    let mut nodes = [Node::new(0, SENDER..=SENDER), Node::new(1, 1..=1)];
    let greetings = [nodes[1].hub.hello(), nodes[0].hub.hello()];
    for ((node, hello), dialed_by_us) in nodes.iter_mut().zip(greetings).zip([true, false]) {
        node.take_in([FromLink::Opened { dialed_by_us, hello: Box::new(hello) }]);
    }
    exchange(&mut nodes);
    Box::new(move || {
        let before = nodes[1].outputs.bytes;
        nodes[0].submit(b"reader1");
        exchange(&mut nodes);
        assert!(nodes[1].outputs.bytes >= before + BATCH * TEXT.len(), "nobody has had it");
    })
}
