//! A node: a hub, its outputs, its clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use clique::{
    chat::Passphrase,
    clique::{Keep, LinkId, Member, Origin},
    node::hub::{ClientId, FromClient, Hub, HubSettings, Mark, Now, Ports, Timing, ToStore, TraceStep, Verdict},
    wire::peer::PeerFrame,
};

use crate::{disk::SimDisk, faults::Fault};

/// Sim time 0, in Unix milliseconds.
pub const EPOCH_MS: u64 = 1_750_000_000_000;
/// As in the real node: beyond this many times its bound an output takes nothing more.
const MAX_OVERFLOW: usize = 16;

/// What waits for one client.
#[derive(Debug, Default)]
pub struct ClientOut {
    pub bytes: Vec<u8>,
    pub marks: Vec<(usize, Mark)>,
    /// Bytes of what is being written, and how many of them are.
    pub writing: Vec<u8>,
    pub writing_marks: Vec<(usize, Mark)>,
    pub written: usize,
    pub is_closing: bool,
    is_overflown: bool,
    pub tell_when_drained: bool,
}

#[derive(Debug, Default)]
pub struct LinkOut {
    pub frames: VecDeque<PeerFrame>,
    pub bytes: usize,
    pub closing: Option<String>,
    pub tell_when_drained: bool,
}

/// The outputs of a hub, as plain data.
#[derive(Debug)]
pub struct SimPorts {
    pub clients: BTreeMap<ClientId, ClientOut>,
    pub links: BTreeMap<LinkId, LinkOut>,
    pub dials: Vec<Member>,
    pub store: Vec<ToStore>,
    /// Answers about passphrases, for the next turn.
    pub vault: Vec<(ClientId, FromClient)>,
    pub touched: BTreeSet<ClientId>,
    pub max_client_bytes: usize,
    pub max_link_bytes: usize,
    fault: Option<Fault>,
    /// Messages put out so far; for faults that strike now and then.
    count: usize,
    /// A message that a fault holds back for a moment.
    held: Option<(ClientId, Vec<u8>)>,
}

impl SimPorts {
    fn is_full(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_none_or(|out| out.bytes.len() + out.writing.len() >= self.max_client_bytes)
    }

    /// The next frame for a peer.
    pub fn next_frame(&mut self, link: LinkId) -> Option<PeerFrame> {
        let out = self.links.get_mut(&link)?;
        let frame = out.frames.pop_front()?;
        out.bytes -= frame.cost_bytes();
        Some(frame)
    }

    /// Whether the hub waits to hear that there is room for a peer again, and there is.
    pub fn is_drained(&mut self, link: LinkId) -> bool {
        let max_bytes = self.max_link_bytes;
        self.links.get_mut(&link).is_some_and(|out| out.bytes < max_bytes && std::mem::take(&mut out.tell_when_drained))
    }

    /// Lets the deliberate fault strike a message; `false` if nothing is left of it.
    fn spoil(&mut self, client: ClientId, bytes: &mut Vec<u8>) -> bool {
        self.count += 1;
        match self.fault {
            Some(Fault::DropWhenFull) => !self.is_full(client),
            Some(Fault::DeliverTwice) if self.count.is_multiple_of(10) => {
                bytes.extend_from_within(..);
                true
            }
            Some(Fault::Reorder) => match self.held.take() {
                Some((other, held)) if other == client => {
                    bytes.extend(held);
                    true
                }
                held => {
                    self.held = held.or_else(|| Some((client, std::mem::take(bytes))));
                    !bytes.is_empty()
                }
            },
            _ => true,
        }
    }
}

impl SimPorts {
    fn append(&mut self, client: ClientId, bytes: &[u8], mark: Option<Mark>) {
        let mut bytes = bytes.to_vec();
        if mark.is_some() && !self.spoil(client, &mut bytes) {
            return;
        }
        let max_bytes = self.max_client_bytes * MAX_OVERFLOW;
        let Some(out) = self.clients.get_mut(&client) else { return };
        self.touched.insert(client);
        out.is_overflown |= out.bytes.len() > max_bytes;
        if out.is_overflown {
            out.is_closing = true;
            return;
        }
        out.bytes.extend_from_slice(&bytes);
        if let Some(mark) = mark {
            out.marks.push((out.bytes.len(), mark));
        }
    }
}

impl Ports for SimPorts {
    fn to_client(&mut self, client: ClientId, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>) {
        let mut start = 0;
        for (end, mark) in marks {
            self.append(client, &bytes[start..end], Some(mark));
            start = end;
        }
        if start < bytes.len() {
            self.append(client, &bytes[start..], None);
        }
    }

    fn client_room_bytes(&mut self, client: ClientId) -> usize {
        let max_bytes = self.max_client_bytes;
        let Some(out) = self.clients.get_mut(&client) else { return 0 };
        if self.fault == Some(Fault::DropWhenFull) {
            return usize::MAX;
        }
        let room = max_bytes.saturating_sub(out.bytes.len() + out.writing.len());
        if room == 0 {
            out.tell_when_drained = true;
            self.touched.insert(client);
        }
        room
    }

    fn close_client(&mut self, client: ClientId) {
        if let Some(out) = self.clients.get_mut(&client) {
            out.is_closing = true;
            self.touched.insert(client);
        }
    }

    fn to_link(&mut self, link: LinkId, frame: PeerFrame) {
        if let Some(out) = self.links.get_mut(&link) {
            out.bytes += frame.cost_bytes();
            out.frames.push_back(frame);
        }
    }

    fn link_has_room(&mut self, link: LinkId) -> bool {
        let max_bytes = self.max_link_bytes;
        let Some(out) = self.links.get_mut(&link) else { return false };
        let has_room = out.bytes < max_bytes;
        out.tell_when_drained |= !has_room;
        has_room
    }

    fn close_link(&mut self, link: LinkId, reason: &str) {
        if let Some(out) = self.links.get_mut(&link) {
            out.closing.get_or_insert_with(|| reason.to_owned());
        }
    }

    fn to_store(&mut self, order: ToStore) {
        self.store.push(order);
    }

    /// The work is not what is tested here: the hash is the passphrase.
    fn hash_passphrase(&mut self, client: ClientId, passphrase: Passphrase) {
        self.vault.push((client, FromClient::Hashed(Some(passphrase.reveal().to_owned()))));
    }

    fn check_passphrase(&mut self, client: ClientId, _: &str, passphrase: Passphrase, hash: &str) {
        let verdict = if passphrase.reveal() == hash { Verdict::Right } else { Verdict::Wrong };
        self.vault.push((client, FromClient::Checked(verdict)));
    }

    fn dial(&mut self, member: &Member) {
        self.dials.push(member.clone());
    }

    fn trace(&mut self, _: TraceStep) {}
}

/// What all nodes of a run share.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    pub max_log_bytes: usize,
    pub max_client_bytes: usize,
    pub max_link_bytes: usize,
    /// `None`: everything is in memory.
    pub disk: Option<DiskLimits>,
    /// Beyond this the oldest segments go, everywhere; 0 is without a bound.
    pub max_kept_bytes: u64,
    /// The same by age.
    pub max_kept_ms: u64,
    /// Somebody whose connection has broken is expected back for this long.
    pub return_ms: u64,
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy)]
pub struct DiskLimits {
    /// A sync takes at most so long.
    pub most_ms: u64,
    /// What a start takes into memory of each origin.
    pub max_tail_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Up,
    /// Drains until this time at the latest.
    Stopping(u64),
    Down,
}

#[derive(Debug)]
pub struct SimNode {
    pub index: u16,
    /// Counts the starts.
    pub life: u64,
    pub hub: Hub,
    pub ports: SimPorts,
    pub disk: SimDisk,
    pub phase: Phase,
    pub started_ms: u64,
    /// How far the wall clock is from the truth.
    pub skew_ms: i64,
    /// When the next turn is due.
    pub turn_ms: Option<u64>,
    /// Whom it dials.
    pub targets: BTreeSet<u16>,
    next_id: u64,
}

impl SimNode {
    pub fn start(index: u16, count: usize, limits: NodeLimits, skew_ms: i64) -> Self {
        let mut node = Self {
            index,
            life: 0,
            hub: hub(index, count, limits, EPOCH_MS * 1_000),
            ports: ports(limits),
            disk: SimDisk::default(),
            phase: Phase::Down,
            started_ms: 0,
            skew_ms,
            turn_ms: None,
            targets: BTreeSet::new(),
            next_id: 0,
        };
        node.restart(count, limits, 0);
        node
    }

    /// A new life: everything in memory is gone.
    pub fn restart(&mut self, count: usize, limits: NodeLimits, now_ms: u64) {
        self.life += 1;
        self.started_ms = now_ms;
        self.ports = ports(limits);
        let now = self.now(now_ms);
        self.disk.settle();
        // Distinct even where the wall clock jumps back and the disk is wiped, or has nothing of the former life but this.
        let former = if self.life > 1 { self.origin().incarnation } else { 0 };
        let former = former.max(self.disk.last_incarnation(self.index));
        let incarnation = (now.unix_us + self.life).max(former + 1);
        let is_reused = limits.fault == Some(Fault::ReuseNumbers) && self.life > 1;
        let incarnation = if is_reused { self.origin().incarnation } else { incarnation };
        self.hub = hub(self.index, count, limits, incarnation);
        if let Some(disk) = limits.disk {
            self.disk.rows().for_each(|(origin, chunk)| self.hub.recall(origin, chunk));
            self.hub.recover(self.disk.recovered(disk.max_tail_bytes), now);
        }
        self.phase = Phase::Up;
        self.turn_ms = None;
    }

    pub fn is_running(&self) -> bool {
        self.phase != Phase::Down
    }

    pub fn origin(&self) -> Origin {
        self.hub.replica().me()
    }

    /// Never the same number twice, for clients and links alike.
    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn now(&self, sim_ms: u64) -> Now {
        let unix_ms = (EPOCH_MS + sim_ms).saturating_add_signed(self.skew_ms);
        // Monotonic time begins with the process.
        Now { unix_us: unix_ms * 1_000, monotonic_ms: sim_ms - self.started_ms }
    }
}

fn hub(index: u16, count: usize, limits: NodeLimits, incarnation: u64) -> Hub {
    Hub::new(HubSettings {
        origin: Origin { node: index, incarnation },
        advertise: format!("node{index}:1"),
        chat_port: 4_000 + index,
        expected_nodes: count,
        max_log_bytes: limits.max_log_bytes,
        has_store: limits.disk.is_some(),
        history_shown: 0,
        keep: Keep { max_age_ms: limits.max_kept_ms, max_bytes: limits.max_kept_bytes },
        timing: Timing { return_ms: limits.return_ms, ..Timing::default() },
        is_tracing: false,
    })
}

fn ports(limits: NodeLimits) -> SimPorts {
    SimPorts {
        clients: BTreeMap::new(),
        links: BTreeMap::new(),
        dials: Vec::new(),
        store: Vec::new(),
        vault: Vec::new(),
        touched: BTreeSet::new(),
        max_client_bytes: limits.max_client_bytes,
        max_link_bytes: limits.max_link_bytes,
        fault: limits.fault,
        count: 0,
        held: None,
    }
}
