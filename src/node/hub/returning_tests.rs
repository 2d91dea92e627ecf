//! One node, its people, and the time passed in.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::super::{
    ClientId, FromClient, HubSettings, Mark, Registering, Resume, Submissions, Timing, ToStore, TraceStep,
};
use super::*;
use crate::{
    chat::{Passphrase, directory::RETURN_MS},
    clique::{Heights, Keep, LinkId, Member, Origin},
    wire::{
        Dialect,
        extended::{Delivery, FromNode, Receipt, RegisterRefused, State},
        frames,
        peer::PeerFrame,
    },
};

#[derive(Debug, Default)]
struct Outputs {
    bytes: BTreeMap<ClientId, Vec<u8>>,
    marks: BTreeMap<ClientId, Vec<Mark>>,
}

impl Ports for Outputs {
    fn to_client(&mut self, client: ClientId, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        self.bytes.entry(client).or_default().extend_from_slice(bytes);
        self.marks.entry(client).or_default().extend(marks.into_iter().map(|(_, mark)| mark));
    }

    fn client_room_bytes(&mut self, _: ClientId) -> usize {
        usize::MAX
    }

    fn close_client(&mut self, _: ClientId) {}

    fn to_link(&mut self, _: LinkId, _: PeerFrame) {}

    fn link_has_room(&mut self, _: LinkId) -> bool {
        true
    }

    fn close_link(&mut self, _: LinkId, _: &str) {}

    fn to_store(&mut self, _: ToStore) {}

    fn hash_passphrase(&mut self, _: ClientId, _: Passphrase) {}

    fn check_passphrase(&mut self, _: ClientId, _: &str, _: Passphrase, _: &str) {}

    fn dial(&mut self, _: &Member) {}

    fn trace(&mut self, _: TraceStep) {}
}

struct Scene {
    hub: Hub,
    outputs: Outputs,
    now_ms: u64,
}

const ANN: ClientId = 1;
const BOB: ClientId = 2;
const CLEO: ClientId = 3;
const BOB_AGAIN: ClientId = 4;

impl Scene {
    /// Ann and bob in the extended dialect, cleo by line.
    fn begin() -> Self {
        let settings = HubSettings {
            origin: Origin { node: 0, incarnation: 1 },
            advertise: "node0:1".into(),
            chat_port: 4_000,
            expected_nodes: 1,
            max_log_bytes: 1 << 20,
            has_store: false,
            history_shown: 0,
            keep: Keep { max_age_ms: 0, max_bytes: 0 },
            timing: Timing::default(),
            is_tracing: false,
        };
        let mut scene = Self { hub: Hub::new(settings), outputs: Outputs::default(), now_ms: 1 };
        scene.register(ANN, "ann", 1, None);
        scene.register(BOB, "bob", 2, None);
        scene.input(CLEO, FromClient::Opened { dialect: Dialect::Lines });
        scene.say(CLEO, 0, "cleo");
        scene
    }

    fn now(&self) -> Now {
        Now { unix_us: (1_750_000_000_000 + self.now_ms) * 1_000, monotonic_ms: self.now_ms }
    }

    fn input(&mut self, client: ClientId, input: FromClient) {
        let now = self.now();
        self.hub.from_client(client, input, now, &mut self.outputs);
        self.turn();
    }

    fn turn(&mut self) {
        let now = self.now();
        self.hub.finish_turn(now, &mut self.outputs);
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        self.turn();
    }

    fn register(&mut self, client: ClientId, name: &str, key: u8, resume: Option<Resume>) {
        self.input(client, FromClient::Opened { dialect: Dialect::Frames });
        let name = Bytes::from(name.to_owned());
        let registering = Registering { name, key_hash: Some([key; 32]), resume, ..Registering::default() };
        self.input(client, FromClient::Register(Box::new(registering)));
    }

    /// Bob connects again and says what he has had: nothing, or all that was said so far.
    fn bob_returns(&mut self, received: Heights) {
        self.register(BOB_AGAIN, "bob", 2, Some(Resume { received, ..Resume::default() }));
        self.written(BOB_AGAIN);
    }

    fn breaks(&mut self, client: ClientId) {
        self.input(client, FromClient::Closed { unwritten: Vec::new() });
    }

    fn says_goodbye(&mut self, client: ClientId) {
        self.input(client, FromClient::Goodbye);
        self.breaks(client);
    }

    fn say(&mut self, client: ClientId, reference: u64, line: &str) {
        let (to, text) = line.split_once(' ').unwrap_or((line, ""));
        let mut submissions = Submissions::new(0);
        submissions.push(to.as_bytes(), text.as_bytes(), reference, None);
        self.input(client, FromClient::Submit(submissions));
    }

    /// Everything that waits for a client is written to its socket.
    fn written(&mut self, client: ClientId) {
        let marks = self.outputs.marks.remove(&client).unwrap_or_default();
        self.input(client, FromClient::Written(marks));
    }

    /// What a client in the extended dialect has been told since it was last looked at.
    fn heard(&mut self, client: ClientId) -> Vec<FromNode> {
        let mut bytes = BytesMut::from(&self.outputs.bytes.remove(&client).unwrap_or_default()[..]);
        let mut heard = Vec::new();
        while let Some(frame) = frames::decode(&mut bytes).unwrap() {
            heard.extend(FromNode::read(&frame).unwrap());
        }
        heard
    }

    fn receipts(&mut self, client: ClientId) -> Vec<Receipt> {
        let heard = self.heard(client).into_iter();
        let receipts = heard.filter_map(|said| match said {
            FromNode::Receipt(receipt) => Some(vec![receipt]),
            FromNode::ReceiptRun(run) => Some(run.each().collect()),
            _ => None,
        });
        receipts.flatten().collect()
    }

    fn states(&mut self, client: ClientId) -> Vec<(u64, State)> {
        self.receipts(client).iter().map(|receipt| (receipt.reference, receipt.state())).collect()
    }

    fn deliveries(&mut self, client: ClientId) -> Vec<Delivery> {
        let heard = self.heard(client).into_iter();
        let deliveries = heard.filter_map(|said| match said {
            FromNode::Delivery(delivery) => Some(delivery),
            _ => None,
        });
        deliveries.collect()
    }

    fn lines(&mut self, client: ClientId) -> Vec<String> {
        let bytes = self.outputs.bytes.remove(&client).unwrap_or_default();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn refusal(&mut self, client: ClientId) -> RegisterRefused {
        let refused = self.heard(client).into_iter().find_map(|said| match said {
            FromNode::RegisterRefused(refused) => Some(refused),
            _ => None,
        });
        refused.expect("the name is refused")
    }

    fn had(&self) -> Heights {
        self.hub.replica().applied().clone()
    }
}

#[test]
fn what_is_sent_to_somebody_whose_connection_has_broken_waits_for_them() {
    let mut scene = Scene::begin();
    scene.say(ANN, 1, "bob before");
    scene.written(BOB);
    let had = scene.had();
    scene.receipts(ANN);
    scene.breaks(BOB);
    scene.say(ANN, 2, "bob one");
    scene.say(ANN, 3, "bob two");
    let receipts = scene.receipts(ANN);
    assert!(receipts.iter().all(|receipt| receipt.state() == State::Kept), "{receipts:?}");
    assert!(receipts[0].reason.contains("the connection of bob has just broken"), "{}", receipts[0].reason);
    scene.wait(RETURN_MS - 1);
    scene.bob_returns(had);
    let missed = scene.deliveries(BOB_AGAIN);
    let texts: Vec<&[u8]> = missed.iter().map(|delivery| &delivery.text[..]).collect();
    assert_eq!(texts, [b"one", b"two"]);
    assert!(missed.iter().all(|delivery| delivery.replayed));
    assert_eq!(scene.states(ANN), [(2, State::Delivered), (3, State::Delivered)]);
    scene.wait(2 * RETURN_MS);
    assert_eq!(scene.states(ANN), [], "nothing more is to be told");
}

#[test]
fn who_does_not_come_back_in_time_gets_it_later_and_the_sender_hears_both() {
    let mut scene = Scene::begin();
    let had = scene.had();
    scene.breaks(BOB);
    scene.say(ANN, 1, "bob from ann");
    scene.say(CLEO, 0, "bob from cleo");
    assert_eq!(scene.states(ANN), [(1, State::Kept)]);
    let told = scene.lines(CLEO);
    assert!(told.last().is_some_and(|line| line.contains("your message is kept")), "{told:?}");
    scene.wait(RETURN_MS - 1);
    assert_eq!((scene.states(ANN), scene.lines(CLEO)), (vec![], vec![]));
    let now = scene.now();
    assert_eq!(scene.hub.next_deadline_ms(now), scene.now_ms + 1, "nobody has to look for it");
    scene.wait(1);
    let [receipt] = &scene.receipts(ANN)[..] else { panic!("one receipt") };
    assert_eq!(receipt.state(), State::Undelivered);
    assert!(receipt.reason.contains("has broken, and they have not come back"), "{}", receipt.reason);
    let told = scene.lines(CLEO);
    assert!(told.len() == 1 && told[0].contains("not delivered: the connection of bob has broken"), "{told:?}");
    scene.say(ANN, 2, "bob too late");
    assert_eq!(scene.states(ANN), [(2, State::Refused)]);
    scene.bob_returns(had);
    assert_eq!(scene.deliveries(BOB_AGAIN).len(), 2);
    assert_eq!(scene.states(ANN), [(1, State::Delivered)]);
    assert_eq!(scene.lines(CLEO), [] as [&str; 0]);
}

#[test]
fn who_had_not_heard_that_they_are_registered_gets_what_was_sent_to_them_since() {
    let mut scene = Scene::begin();
    scene.breaks(BOB);
    scene.say(ANN, 1, "bob hello");
    // Their client has nothing to go on from but its key.
    scene.register(BOB_AGAIN, "bob", 2, None);
    scene.written(BOB_AGAIN);
    let missed = scene.deliveries(BOB_AGAIN);
    assert!(missed.len() == 1 && missed[0].text == b"hello" && missed[0].replayed, "{missed:?}");
    assert_eq!(scene.states(ANN), [(1, State::Kept), (1, State::Delivered)]);
}

#[test]
fn who_breaks_off_again_without_having_had_it_is_waited_for_again() {
    let mut scene = Scene::begin();
    let had = scene.had();
    scene.breaks(BOB);
    scene.say(ANN, 1, "bob hello");
    scene.wait(1_000);
    // Connected, but nothing is written any more.
    scene.register(BOB_AGAIN, "bob", 2, Some(Resume { received: had, ..Resume::default() }));
    scene.wait(1_000);
    scene.breaks(BOB_AGAIN);
    scene.wait(RETURN_MS - 1);
    assert_eq!(scene.states(ANN), [(1, State::Kept)]);
    scene.wait(1);
    assert_eq!(scene.states(ANN), [(1, State::Undelivered)]);
}

#[test]
fn the_name_is_held_and_the_refusal_says_for_how_long() {
    let mut scene = Scene::begin();
    scene.breaks(BOB);
    scene.wait(4_500);
    scene.register(7, "Bob", 9, None);
    let refusal = scene.refusal(7);
    let text = "the name Bob is kept for somebody whose connection has just broken, for 26 s at most";
    assert!(refusal.reason.starts_with(text), "{}", refusal.reason);
    assert_eq!((refusal.taken, refusal.retry_after_ms), (true, RETURN_MS - 4_500));
    scene.bob_returns(Heights::default());
    scene.register(8, "bob", 9, None);
    assert!(scene.refusal(8).reason.contains("is taken"), "they are back");
}

#[test]
fn who_says_goodbye_is_gone_at_once() {
    let mut scene = Scene::begin();
    scene.says_goodbye(BOB);
    scene.say(ANN, 1, "bob hello");
    assert_eq!(scene.states(ANN), [(1, State::Refused)]);
    scene.register(7, "bob", 9, None);
    assert!(scene.heard(7).iter().any(|said| matches!(said, FromNode::Registered(_))));
}

#[test]
fn who_cannot_resume_is_gone_at_once() {
    let mut scene = Scene::begin();
    scene.breaks(CLEO);
    scene.say(ANN, 1, "cleo hello");
    assert_eq!(scene.states(ANN), [(1, State::Refused)]);
}

#[test]
fn no_more_wait_than_can_be_remembered() {
    let mut scene = Scene::begin();
    scene.breaks(BOB);
    let mut said = Submissions::new(0);
    (1..=MAX_WAITING + 1).for_each(|reference| said.push(b"bob", b"hello", reference, None));
    scene.input(ANN, FromClient::Submit(said));
    let refused: Vec<Receipt> =
        scene.receipts(ANN).into_iter().filter(|receipt| receipt.state() == State::Refused).collect();
    let [refused] = &refused[..] else { panic!("{} are refused", refused.len()) };
    assert_eq!(refused.reference, MAX_WAITING + 1);
    assert!(refused.reason.contains("as many messages as can be kept wait"), "{}", refused.reason);
    scene.wait(RETURN_MS);
    assert_eq!(scene.states(ANN).len() as u64, MAX_WAITING, "each is told");
}
