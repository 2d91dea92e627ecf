//! The hub: everything that one node decides, in one place, by one writer.
//!
//! It composes the directory (who is here), the replica (what was said) and the links, and turns what comes in from
//! clients and peers into what goes out to them. It has no sockets, clocks or locks: time comes in with each turn, and
//! what goes out goes through [`Ports`]. The router drives it with real sockets; the simulation with virtual ones.
//!
//! A *turn* is: any number of inputs, then `finish_turn`, which numbers and appends what was accepted, applies what has
//! come, delivers, and feeds links and slow readers from the log.
//!
//! Readers and peers are the same thing: an output with a bound, and a cursor into the log. While there is room, new
//! entries go out at once; at the bound the cursor stays where it is, and the log is read on from there when the
//! output has drained. Nothing is queued twice, nothing is dropped, and nobody waits for anybody.

mod accept;
mod alarms;
mod arrivals;
mod claims;
mod clients;
mod conversation;
mod delivery;
mod ending;
mod fate;
mod feeding;
mod following;
mod history;
mod inputs;
mod links;
mod live;
mod mailboxes;
mod outcomes;
mod overview;
mod past;
mod pending;
mod people;
mod ports;
mod reading;
mod receipts;
mod refusals;
mod registering;
mod repair;
mod reports;
mod retention;
mod returning;
mod rooms;
mod runs;
mod sessions;
mod settings;
mod splits;
mod storage;
mod storing;
mod submissions;
mod target;
mod voice;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use self::{
    accept::Accepting,
    clients::Client,
    delivery::Cursor,
    following::Following,
    links::Link,
    outcomes::{Outcomes, Owed},
    overview::Reported,
    pending::Receipts,
    reading::Reads,
    refusals::Refusals,
    returning::Returning,
    splits::Splits,
};
pub use self::{
    inputs::{FromClient, Registering, Resume},
    links::FromLink,
    overview::{History, NodeCondition, NodeOverview, OriginHeight, Overview},
    ports::{ClientId, Mark, Ports, Sampled, TraceStep, Verdict, crossing_span},
    settings::{HubSettings, Timing},
    storage::{FromStore, Recovered, ToStore},
    submissions::{Submission, Submissions},
};
use crate::{
    chat::{Directory, Ledger, Registration, directory::Change},
    clique::{Heights, LinkId, Member, Members, Origin, Replica, sources::Ask},
    wire::peer::PeerFrame,
};

/// Entries of the log that one slow reader may be shown in one turn, so that the others are not held up.
const MAX_REPLAY_ENTRIES_PER_TURN: u64 = 4_096;

/// Deliveries that applied entries may lead to in one turn, and entries that are applied whatever they cost.
const MAX_DELIVERIES_PER_TURN: u64 = 200_000;
const MIN_ENTRIES_PER_TURN: u64 = 32;

/// The time of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub unix_us: u64,
    /// Since some moment before; never goes back.
    pub monotonic_ms: u64,
}

impl Now {
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.unix_us / 1_000
    }
}

/// A node that was linked and is not any more.
#[derive(Debug)]
struct Lost {
    since_ms: u64,
    said_goodbye: bool,
    is_announced: bool,
    /// What it said meanwhile has come through others.
    is_bridged: bool,
    /// What it was known to hold.
    heights: Heights,
}

/// What waits for somebody whose node went away without a goodbye.
#[derive(Debug)]
struct Mailbox {
    /// To whom it was sent.
    registration: Registration,
    /// What the node was known to have; the rest may not have been delivered.
    received: Arc<Heights>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Hub {
    settings: HubSettings,
    replica: Replica,
    directory: Directory,
    ledger: Ledger,
    /// Owners of names who have had something that the log does not say yet, and when it will, in monotonic milliseconds.
    reading: BTreeMap<Registration, u64>,
    members: Members,
    /// In boxes: up to half of the map's places are empty.
    clients: FxHashMap<ClientId, Box<Client>>,
    /// Nearly always one; the owner of a claimed name may be connected several times.
    by_registration: FxHashMap<Registration, SmallVec<[ClientId; 1]>>,
    /// Who goes on under the name of somebody whose node went away, by that one's registration.
    successors: FxHashMap<Registration, ClientId>,
    /// Stays that ended on this node for good. Not told by their time: that of a former life of this node can be later
    /// than its present clock, and what a former life delivered is not known any more.
    ended: BTreeSet<Registration>,
    /// Of these the latest whose clients could have resumed and said goodbye instead: nodes that come later are told.
    quit: VecDeque<Registration>,
    /// Which client waits for which ballot.
    asking: BTreeMap<u64, ClientId>,
    /// Clients that wait for this node to catch up with what they sent elsewhere.
    resuming: BTreeSet<ClientId>,
    /// Readers whose cursor lags and who may have room.
    replaying: BTreeSet<ClientId>,
    /// Readers who wait before they ask the disk again.
    rereading: BTreeSet<ClientId>,
    /// Readers who are being fed from the disk.
    going_through: BTreeSet<ClientId>,
    /// What the disk has been asked for.
    reads: Reads,
    /// When it was last looked at what is kept no longer.
    retained_ms: u64,
    /// Why the disk takes nothing, as long as it does not.
    unwritable: Option<String>,
    /// Entries that were replaced here, because a node with the better claim held others.
    taken_over_entries: u64,
    links: BTreeMap<LinkId, Link>,
    lost: BTreeMap<u16, Lost>,
    /// By the key of the name.
    mailboxes: BTreeMap<Arc<str>, Mailbox>,
    /// What became of other nodes' entries.
    owed_outcomes: BTreeMap<u16, Owed>,
    /// The last batch of outcomes that came from each.
    outcomes_taken: BTreeMap<Origin, u64>,
    /// What became of entries of this node, not yet told.
    outcomes_here: Outcomes,
    accepting: Accepting,
    receipts: Receipts,
    refusals: Refusals,
    returning: Returning,
    following: Following,
    /// Changes among the people since extended clients were last told.
    people_news: Vec<Change>,
    /// Extended clients that have not been told yet who is here.
    newcomers: Vec<ClientId>,
    nodes_changed: bool,
    reported: Reported,
    splits: Splits,
    has_more_to_apply: bool,
    /// Nobody is let in any more.
    is_stopping: bool,
    /// Peers have been told; nothing is accepted any more.
    has_said_goodbye: bool,
}

impl Hub {
    #[must_use]
    pub fn new(settings: HubSettings) -> Self {
        let origin = settings.origin;
        Self {
            replica: match settings.has_store {
                true => Replica::with_store(origin, settings.max_log_bytes),
                false => Replica::new(origin, settings.max_log_bytes),
            },
            directory: Directory::new(origin.node),
            ledger: Ledger::default(),
            reading: BTreeMap::new(),
            members: Members::new(origin, settings.expected_nodes),
            clients: FxHashMap::default(),
            by_registration: FxHashMap::default(),
            successors: FxHashMap::default(),
            ended: BTreeSet::new(),
            quit: VecDeque::new(),
            asking: BTreeMap::new(),
            resuming: BTreeSet::new(),
            replaying: BTreeSet::new(),
            rereading: BTreeSet::new(),
            going_through: BTreeSet::new(),
            reads: Reads::default(),
            retained_ms: 0,
            unwritable: None,
            taken_over_entries: 0,
            links: BTreeMap::new(),
            lost: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            owed_outcomes: BTreeMap::new(),
            outcomes_taken: BTreeMap::new(),
            outcomes_here: Outcomes::default(),
            accepting: Accepting::default(),
            receipts: Receipts::default(),
            refusals: Refusals::default(),
            returning: Returning::default(),
            following: Following::new(),
            people_news: Vec::new(),
            newcomers: Vec::new(),
            nodes_changed: false,
            reported: Reported::default(),
            splits: Splits::default(),
            has_more_to_apply: false,
            is_stopping: false,
            has_said_goodbye: false,
            settings,
        }
    }

    /// This node's present life.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.settings.origin
    }

    /// This node's index.
    #[must_use]
    pub fn node(&self) -> u16 {
        self.settings.origin.node
    }

    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// How many entries were taken over from other nodes that held them otherwise.
    #[must_use]
    pub fn taken_over_entries(&self) -> u64 {
        self.taken_over_entries
    }

    /// Why the disk takes nothing, if it does not.
    #[must_use]
    pub fn unwritable(&self) -> Option<&str> {
        self.unwritable.as_deref()
    }

    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What follows from the log for people.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Open client connections, registered or not.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// Ends a turn: everything that the inputs since the last one led to goes out.
    pub fn finish_turn(&mut self, now: Now, ports: &mut impl Ports) {
        self.tell_read(None, now);
        // What is carried over from what is cut goes to the disk together with the cut.
        self.retain(now, ports);
        self.commit(now, ports);
        self.repair(now, ports);
        self.write(ports);
        self.announce_back(now, ports);
        if !self.is_gathering() {
            self.apply(now, ports);
        }
        self.go_on_resuming(now, ports);
        self.reread(now);
        self.replay(now, ports);
        self.evict(ports);
        self.acknowledge(now);
        self.note_outcomes(ports);
        self.let_go(now, ports);
        self.note_steps(now);
        self.tell_receipts(ports);
        self.tell_people_news(ports);
        self.announce_lost(now, ports);
        self.tell_nodes_news(ports);
        self.pump_links(now, ports);
    }

    /// Whether another turn is worth taking at once, without new input.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_more_to_apply || !self.replaying.is_empty()
    }

    /// Applies and delivers what has come, within what a turn may cost.
    fn apply(&mut self, now: Now, ports: &mut impl Ports) {
        let readers = self.by_registration.len() as u64;
        let mut max_entries = (MAX_DELIVERIES_PER_TURN / (readers + 1)).max(MIN_ENTRIES_PER_TURN);
        while max_entries > 0
            && let Some(run) = self.replica.apply_next(now.monotonic_ms, max_entries)
        {
            max_entries -= run.applied.count;
            self.deliver(&run, now, ports);
        }
        self.has_more_to_apply = max_entries == 0;
    }

    /// When the next turn is due at the latest, in monotonic milliseconds, if nothing comes in before.
    #[must_use]
    pub fn next_deadline_ms(&self, now: Now) -> u64 {
        let idle = now.monotonic_ms + self.settings.timing.heartbeat_ms;
        let links = self.links.values().map(|link| link.next_deadline_ms(&self.settings.timing));
        let is_waiting = self.replica.is_waiting() || !self.resuming.is_empty() || !self.rereading.is_empty();
        let waiting = is_waiting.then_some(now.monotonic_ms + 50);
        links
            .chain(waiting)
            .chain(self.back_due_ms())
            .chain(self.read_due_ms())
            .chain(self.directory.let_go_due_ms())
            .fold(idle, u64::min)
    }

    fn me_as_member(&self) -> Member {
        Member { node: self.node(), advertise: self.settings.advertise.clone(), chat_port: self.settings.chat_port }
    }

    fn send_asks(asks: Vec<Ask>, ports: &mut impl Ports) {
        for ask in asks {
            let (link, origin, from, stop) = match ask {
                Ask::From { link, origin, number } => (link, origin, number, false),
                Ask::Stop { link, origin } => (link, origin, 0, true),
            };
            ports.to_link(link, PeerFrame::Want { origin, from, stop });
        }
    }
}
