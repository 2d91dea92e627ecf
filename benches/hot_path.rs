//! The pure hot spots, one by one: `cargo bench --bench hot_path`. Each figure is per call; `items` are messages.

use bytes::{Bytes, BytesMut};
use clique::{
    chat::{Addressee, Message, Registration},
    clique::{LinkId, Member, Origin},
    node::hub::{
        ClientId, FromClient, Hub, HubSettings, Mark, Now, Ports, Registering, Submission, Timing, ToStore, TraceStep,
    },
    wire::{
        Dialect,
        entry::{ChunkBuilder, read_chunk},
        frames,
        peer::PeerFrame,
    },
};
use divan::{Bencher, black_box, counter::ItemsCount};

fn main() {
    divan::main();
}

const TEXT: [u8; 100] = [b'x'; 100];
const BATCH: usize = 500;

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

fn chunk() -> clique::clique::Chunk {
    let mut builder = ChunkBuilder::new(Vec::new());
    for time in 0..BATCH as u64 {
        builder.push(time, &message(Addressee::Person("bob", Registration { time: 9, node: 1 })));
    }
    builder.finish(1)
}

#[divan::bench]
fn parse_frames(bencher: Bencher) {
    let mut stream = Vec::new();
    for _ in 0..BATCH {
        frames::encode(&mut stream, frames::kind::MESSAGE, 3, &[b"bob ", &TEXT]);
    }
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| BytesMut::from(&stream[..])).bench_local_values(
        |mut buffer| {
            while let Ok(Some(frame)) = frames::decode(&mut buffer) {
                black_box(frames::split_message(&frame));
            }
        },
    );
}

#[divan::bench]
fn encode_entries(bencher: Bencher) {
    bencher.counter(ItemsCount::new(BATCH)).bench_local(chunk);
}

#[divan::bench]
fn read_entries(bencher: Bencher) {
    let bytes = chunk().bytes;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| read_chunk(1, black_box(bytes.clone())));
}

/// Outputs that go nowhere.
#[derive(Default)]
struct Nowhere {
    bytes: usize,
}

impl Ports for Nowhere {
    fn to_client(&mut self, _: ClientId, bytes: &[u8], _: Option<Mark>) {
        self.bytes += bytes.len();
    }
    fn client_has_room(&mut self, _: ClientId) -> bool {
        true
    }
    fn close_client(&mut self, _: ClientId) {}
    fn to_link(&mut self, _: LinkId, _: PeerFrame) {}
    fn link_has_room(&mut self, _: LinkId) -> bool {
        true
    }
    fn close_link(&mut self, _: LinkId, _: &str) {}
    fn to_store(&mut self, _: ToStore) {}
    fn dial(&mut self, _: &Member) {}
    fn trace(&mut self, _: TraceStep) {}
}

const NOW: Now = Now { unix_us: 1_700_000_000_000_000, monotonic_ms: 1_000 };

/// A hub with a sender, client 0, and as many readers as asked for.
fn hub(readers: u64) -> Hub {
    let mut hub = Hub::new(HubSettings {
        origin: Origin { node: 0, incarnation: 1 },
        advertise: "here:1".to_owned(),
        chat_port: 1,
        expected_nodes: 1,
        max_log_bytes: 16 << 20,
        has_store: false,
        timing: Timing::default(),
        is_tracing: false,
    });
    for client in 0..=readers {
        hub.from_client(client, FromClient::Opened { dialect: Dialect::Frames }, NOW, &mut Nowhere::default());
        let name = Bytes::from(format!("reader{client}"));
        let registering = FromClient::Register(Registering { name, ..Registering::default() });
        hub.from_client(client, registering, NOW, &mut Nowhere::default());
    }
    hub
}

fn submissions(to: &'static [u8]) -> Vec<Submission> {
    let submission = Submission {
        to: Bytes::from_static(to),
        text: Bytes::from_static(&TEXT),
        reference: 0,
        sampled: None,
        received_unix_us: 0,
    };
    vec![submission; BATCH]
}

fn route(bencher: Bencher, readers: u64, to: &'static [u8]) {
    let mut hub = hub(readers);
    let mut ports = Nowhere::default();
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| submissions(to)).bench_local_values(|batch| {
        hub.from_client(0, FromClient::Submit(batch), NOW, &mut ports);
        hub.finish_turn(NOW, &mut ports);
    });
    black_box(ports.bytes);
}

#[divan::bench]
fn route_direct(bencher: Bencher) {
    route(bencher, 1, b"reader1");
}

#[divan::bench(args = [20, 100])]
fn route_broadcast(bencher: Bencher, readers: u64) {
    route(bencher, readers, b"*");
}
