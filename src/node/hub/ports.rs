//! What the hub needs from the world outside.

use bytes::Bytes;

use super::storage::ToStore;
use crate::{
    chat::{Passphrase, Registration, Trace},
    clique::{LinkId, Member, Origin},
    wire::peer::PeerFrame,
};

/// A client connection, as long as it lives; never used twice in one process.
pub type ClientId = u64;

/// The outputs of a node: to clients, to peers, to whoever follows messages.
pub trait Ports {
    /// Appends to what a client will be sent: of these bytes, each mark is due where it stands. Never waits; the caller
    /// minds the room.
    fn to_client(&mut self, client: ClientId, bytes: &[u8], marks: impl IntoIterator<Item = (usize, Mark)>);

    /// Appends to what a client will be sent what others are sent too: the messages that the marks are for end at `ends`.
    fn share_with_client(
        &mut self,
        client: ClientId,
        bytes: &Bytes,
        ends: &[usize],
        marks: impl IntoIterator<Item = Mark>,
    ) {
        self.to_client(client, bytes, ends.iter().copied().zip(marks.into_iter().flat_map(Mark::each)));
    }

    /// How far a client's output is below its bound, in bytes; if it is not, `FromClient::Drained` follows once it is.
    fn client_room_bytes(&mut self, client: ClientId) -> usize;

    /// Whether a client's output is below its bound; if not, `FromClient::Drained` follows once it is.
    fn client_has_room(&mut self, client: ClientId) -> bool {
        self.client_room_bytes(client) > 0
    }

    /// Closes a client's connection after what it has still to be sent.
    fn close_client(&mut self, client: ClientId);

    /// Appends to what a peer will be sent. Never waits; the caller minds the room for entries.
    fn to_link(&mut self, link: LinkId, frame: PeerFrame);

    /// Whether a link's output is below its bound; if not, `FromLink::Drained` follows once it is.
    fn link_has_room(&mut self, link: LinkId) -> bool;

    /// Closes a link, for this reason.
    fn close_link(&mut self, link: LinkId, reason: &str);

    /// Gives the disk something to do. Never waits; `FromStore` says what came of it.
    fn to_store(&mut self, order: ToStore);

    /// Hashes the passphrase of somebody who claims a name. Never waits; `FromClient::Hashed` follows.
    fn hash_passphrase(&mut self, client: ClientId, passphrase: Passphrase);

    /// Compares a passphrase with the hash of the one that the name was claimed with. Never waits;
    /// `FromClient::Checked` follows.
    fn check_passphrase(&mut self, client: ClientId, name_key: &str, passphrase: Passphrase, hash: &str);

    /// A node has been heard of that should be dialled.
    fn dial(&mut self, member: &Member);

    /// A step on the way of a sampled message.
    fn trace(&mut self, step: TraceStep);
}

/// What came of comparing a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    Wrong,
    /// Too many were tried for this name or from this address.
    TooMany {
        retry_after_ms: u64,
    },
    /// Too many are being compared right now.
    Busy,
}

/// Put on a client's output behind a message: what to report once it is written to the socket. Of messages with
/// consecutive numbers and nothing else to tell apart there is one for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub origin: Origin,
    /// Of the first message.
    pub number: u64,
    /// How many messages.
    pub count: u64,
    pub recipient: Registration,
    /// To this person alone.
    pub is_direct: bool,
    /// It waits for the owner of a claimed name until one of their devices has had it.
    pub is_mail: bool,
    /// The sender wants to know of the delivery.
    pub wants_receipt: bool,
    pub trace: Option<Trace>,
    /// When it was put there, in Unix microseconds.
    pub queued_unix_us: u64,
    /// When it was accepted, in Unix milliseconds, if it comes from the log instead of live.
    pub replayed_from_unix_ms: Option<u64>,
}

impl Mark {
    /// Becomes one for the messages of `next` too, if it can.
    pub fn take_next(&mut self, next: &Self) -> bool {
        let is_plain = |mark: &Self| mark.trace.is_none() && !mark.is_mail;
        let is_alike = is_plain(self)
            && is_plain(next)
            && (self.origin, self.number + self.count) == (next.origin, next.number)
            && (self.recipient, self.is_direct, self.wants_receipt)
                == (next.recipient, next.is_direct, next.wants_receipt);
        if is_alike {
            self.count += next.count;
        }
        is_alike
    }

    /// One for each of its messages.
    fn each(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |index| Self { number: self.number + index, count: 1, ..self.clone() })
    }

    /// What is left of it without its first messages, if there are more.
    #[must_use]
    pub fn without(self, count: u64) -> Option<Self> {
        let left = self.count.checked_sub(count).filter(|left| *left > 0)?;
        Some(Self { number: self.number + count, count: left, ..self })
    }
}

/// The decision to trace a message, made where it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// The trace, and the span of the acceptance.
    pub trace: Trace,
    /// The span of the client that sent it.
    pub parent_span_id: Option<[u8; 8]>,
}

/// A step on the way of a sampled message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceStep {
    /// Taken from its sender and numbered.
    Accepted {
        sampled: Sampled,
        origin: Origin,
        number: u64,
        sender: String,
        to: String,
        text_bytes: usize,
        received_unix_us: u64,
        accepted_unix_us: u64,
    },
    /// Come over a link.
    Crossed {
        trace: Trace,
        origin: Origin,
        number: u64,
        /// The node that sent it here; not always its origin.
        from_node: u16,
        accepted_unix_ms: u64,
        sent_unix_us: u64,
        received_unix_us: u64,
    },
}

/// Span of a message's crossing to a node, derived from the span of its acceptance, so that nothing has to be
/// remembered per message between its arrival and its delivery.
#[must_use]
pub fn crossing_span(trace: &Trace, node: u16) -> [u8; 8] {
    derived_span(trace, u64::from(node) + 1)
}

/// One round of the SplitMix64 generator (Steele et al., 2014).
fn derived_span(trace: &Trace, salt: u64) -> [u8; 8] {
    let mut state = u64::from_be_bytes(trace.span_id).wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // A span id of zero means "none".
    (state ^ (state >> 31)).max(1).to_be_bytes()
}
