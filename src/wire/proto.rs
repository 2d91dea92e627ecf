//! The types generated from `proto/`, and how they become ours. No other file knows them as protobuf messages.

use bytes::Bytes;
use prost::Message as _;

use super::{
    WireError,
    peer::{Awaited, Entries, Expected, Hello, Mail, NodeReport, Outcome, PeerFrame},
};
use crate::{
    chat::{
        EntryId, Name, Person, Registration, StateChange,
        change::{self, ChangeKind},
    },
    clique::{
        Heights, Held, Member, Origin, Stretch,
        chain::{EMPTY, Hash},
    },
};

/// As generated.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod generated {
    tonic::include_proto!("clique.v1");
}

use generated as pb;

/// The descriptors of everything in `proto/`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/clique.bin"));

/// A generated message that is the body of an extended frame.
pub trait Body: prost::Message + Default {}
impl<T: prost::Message + Default> Body for T {}

/// Encodes a body.
#[must_use]
pub fn encode_body(body: &impl Body) -> Vec<u8> {
    body.encode_to_vec()
}

/// Decodes a body.
///
/// # Errors
/// If the bytes are none.
pub fn decode_body<T: Body>(bytes: &[u8]) -> Result<T, WireError> {
    T::decode(bytes).map_err(|_| WireError::Malformed("body of an extended frame"))
}

fn malformed<T>(what: &'static str) -> impl FnOnce(T) -> WireError {
    move |_| WireError::Malformed(what)
}

fn decode<T: Body>(bytes: Bytes) -> Result<T, WireError> {
    T::decode(bytes).map_err(malformed("frame from a peer"))
}

fn node(index: u32) -> Result<u16, WireError> {
    u16::try_from(index).map_err(malformed("node index"))
}

fn required<T>(value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Malformed("frame from a peer: a part is missing"))
}

impl From<Origin> for pb::Origin {
    fn from(origin: Origin) -> Self {
        Self { node: origin.node.into(), incarnation: origin.incarnation }
    }
}

impl TryFrom<pb::Origin> for Origin {
    type Error = WireError;
    fn try_from(origin: pb::Origin) -> Result<Self, WireError> {
        Ok(Self { node: node(origin.node)?, incarnation: origin.incarnation })
    }
}

impl From<Held> for pb::Held {
    fn from(held: Held) -> Self {
        let hash = |hash: Hash| if hash == EMPTY { Vec::new() } else { hash.to_vec() };
        Self {
            origin: Some(held.origin.into()),
            first: held.first,
            height: held.height,
            floor: held.floor,
            floor_hash: hash(held.floor_hash),
            hashed_to: held.hashed_to,
            hash: hash(held.hash),
        }
    }
}

impl TryFrom<pb::Held> for Held {
    type Error = WireError;
    fn try_from(held: pb::Held) -> Result<Self, WireError> {
        if held.first == 0 || held.floor == 0 {
            return Err(WireError::Malformed("what a peer holds"));
        }
        Ok(Self {
            origin: required(held.origin)?.try_into()?,
            first: held.first,
            height: held.height,
            floor: held.floor,
            floor_hash: held.floor_hash.try_into().unwrap_or(EMPTY),
            hashed_to: held.hashed_to,
            hash: held.hash.try_into().unwrap_or(EMPTY),
        })
    }
}

impl From<Registration> for pb::Registration {
    fn from(registration: Registration) -> Self {
        Self { time: registration.time, node: registration.node.into() }
    }
}

impl TryFrom<pb::Registration> for Registration {
    type Error = WireError;
    fn try_from(registration: pb::Registration) -> Result<Self, WireError> {
        Ok(Self { time: registration.time, node: node(registration.node)? })
    }
}

impl From<&Person> for pb::Person {
    fn from(person: &Person) -> Self {
        let asked = if person.asked_name == person.name { "" } else { person.asked_name.as_str() };
        Self {
            name: person.name.to_string(),
            registration: Some(person.registration.into()),
            resume_key_hash: person.key_hash.map(Vec::from).unwrap_or_default(),
            asked_name: asked.to_owned(),
            attached: person.attached,
            node: person.node.into(),
            claimed: person.is_claimed,
        }
    }
}

impl TryFrom<pb::Person> for Person {
    type Error = WireError;
    fn try_from(person: pb::Person) -> Result<Self, WireError> {
        let parse = |name: &str| Name::parse(name.as_bytes()).map_err(malformed("name"));
        let name = parse(&person.name)?;
        Ok(Self {
            asked_name: if person.asked_name.is_empty() { name.clone() } else { parse(&person.asked_name)? },
            name,
            registration: required(person.registration)?.try_into()?,
            key_hash: person.resume_key_hash.try_into().ok(),
            attached: person.attached,
            node: node(person.node)?,
            is_claimed: person.claimed,
        })
    }
}

impl From<&Expected> for pb::ExpectedPerson {
    fn from(expected: &Expected) -> Self {
        Self { person: Some((&expected.person).into()), for_ms: expected.for_ms }
    }
}

impl TryFrom<pb::ExpectedPerson> for Expected {
    type Error = WireError;
    fn try_from(expected: pb::ExpectedPerson) -> Result<Self, WireError> {
        Ok(Self { person: required(expected.person)?.try_into()?, for_ms: expected.for_ms })
    }
}

impl From<&Member> for pb::Member {
    fn from(member: &Member) -> Self {
        Self { node: member.node.into(), advertise: member.advertise.clone(), chat_port: member.chat_port.into() }
    }
}

impl TryFrom<pb::Member> for Member {
    type Error = WireError;
    fn try_from(member: pb::Member) -> Result<Self, WireError> {
        Ok(Self {
            node: node(member.node)?,
            advertise: member.advertise,
            chat_port: u16::try_from(member.chat_port).map_err(malformed("port"))?,
        })
    }
}

impl From<Outcome> for pb::Outcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            origin: Some(outcome.origin.into()),
            first: outcome.first,
            delivered: outcome.delivered,
            gone: outcome.gone,
            names: outcome.names,
            count: outcome.count,
        }
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = WireError;
    fn try_from(outcome: pb::Outcome) -> Result<Self, WireError> {
        if outcome.count == 0 || outcome.first.checked_add(outcome.count).is_none() {
            return Err(WireError::Malformed("outcome of no entries"));
        }
        Ok(Self {
            origin: required(outcome.origin)?.try_into()?,
            first: outcome.first,
            count: outcome.count,
            delivered: outcome.delivered,
            gone: outcome.gone,
            names: outcome.names,
        })
    }
}

impl From<&Hello> for pb::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            protocol: hello.protocol,
            origin: Some(hello.origin.into()),
            advertise: hello.advertise.clone(),
            chat_port: hello.chat_port.into(),
            held: all_into(&hello.held),
            people: hello.people.iter().map(Into::into).collect(),
            expected: hello.expected.iter().map(Into::into).collect(),
            time: hello.time,
            members: hello.members.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = WireError;
    fn try_from(hello: pb::Hello) -> Result<Self, WireError> {
        Ok(Self {
            protocol: hello.protocol,
            origin: required(hello.origin)?.try_into()?,
            advertise: hello.advertise,
            chat_port: u16::try_from(hello.chat_port).map_err(malformed("port"))?,
            held: try_all(hello.held)?,
            people: try_all(hello.people)?,
            expected: try_all(hello.expected)?,
            time: hello.time,
            members: try_all(hello.members)?,
        })
    }
}

/// The body of a state change, for the hand-written encoding of entries.
#[must_use]
pub fn change_body(change: &StateChange) -> Vec<u8> {
    use pb::state_change::Kind;
    let kind = match &change.kind {
        ChangeKind::Claim(claim) => Kind::Claim(pb::Claim {
            name: claim.name.clone(),
            registration: Some(claim.registration.into()),
            node: claim.node.into(),
            claimed: claim.claimed,
            passphrase_hash: claim.passphrase_hash.clone(),
        }),
        ChangeKind::Membership(membership) => Kind::Membership(pb::Membership {
            room: membership.room.clone(),
            registration: Some(membership.registration.into()),
            is_member: membership.is_member,
        }),
        ChangeKind::Topic(topic) => Kind::Topic(pb::Topic { room: topic.room.clone(), text: topic.text.clone() }),
        ChangeKind::Read(read) => Kind::Read(pb::Read {
            registration: Some(read.registration.into()),
            heights: read.heights.iter().map(|id| (*id).into()).collect(),
        }),
        ChangeKind::Session(session) => Kind::Session(pb::Session {
            name: session.name.clone(),
            registration: Some(session.registration.into()),
            key_hash: session.key_hash.to_vec(),
        }),
    };
    pb::StateChange { time: change.time, kind: Some(kind) }.encode_to_vec()
}

/// Reads what `change_body` wrote; `None` if it is a kind of change that only a later version knows.
///
/// # Errors
/// If it is no state change.
pub fn read_change(bytes: &[u8]) -> Result<Option<StateChange>, WireError> {
    use pb::state_change::Kind;
    let change = pb::StateChange::decode(bytes).map_err(malformed("state change"))?;
    let kind = match change.kind {
        None => return Ok(None),
        Some(Kind::Claim(claim)) => ChangeKind::Claim(change::Claim {
            name: claim.name,
            registration: required(claim.registration)?.try_into()?,
            node: node(claim.node)?,
            claimed: claim.claimed,
            passphrase_hash: claim.passphrase_hash,
        }),
        Some(Kind::Membership(membership)) => ChangeKind::Membership(change::Membership {
            room: membership.room,
            registration: required(membership.registration)?.try_into()?,
            is_member: membership.is_member,
        }),
        Some(Kind::Topic(topic)) => ChangeKind::Topic(change::Topic { room: topic.room, text: topic.text }),
        Some(Kind::Read(read)) => ChangeKind::Read(change::Read {
            registration: required(read.registration)?.try_into()?,
            heights: try_all(read.heights)?,
        }),
        Some(Kind::Session(session)) => ChangeKind::Session(change::Session {
            name: session.name,
            registration: required(session.registration)?.try_into()?,
            key_hash: session.key_hash.try_into().map_err(|_| WireError::Malformed("session key"))?,
        }),
    };
    Ok(Some(StateChange { time: change.time, kind }))
}

impl From<EntryId> for pb::Height {
    fn from(id: EntryId) -> Self {
        let origin = pb::Origin { node: id.node.into(), incarnation: id.incarnation };
        Self { origin: Some(origin), height: id.number }
    }
}

impl TryFrom<pb::Height> for EntryId {
    type Error = WireError;
    fn try_from(height: pb::Height) -> Result<Self, WireError> {
        let origin: Origin = required(height.origin)?.try_into()?;
        Ok(Self { node: origin.node, incarnation: origin.incarnation, number: height.height })
    }
}

fn all_into<T: Clone + Into<U>, U>(items: &[T]) -> Vec<U> {
    items.iter().map(|item| item.clone().into()).collect()
}

fn try_all<T: TryInto<U, Error = WireError>, U>(items: Vec<T>) -> Result<Vec<U>, WireError> {
    items.into_iter().map(TryInto::try_into).collect()
}

/// The body of an origin, for the hand-written encoding of entries.
#[must_use]
pub fn origin_body(origin: Origin) -> Vec<u8> {
    pb::Origin::from(origin).encode_to_vec()
}

/// Reads what `origin_body` wrote.
///
/// # Errors
/// If it is no origin.
pub fn read_origin(bytes: Bytes) -> Result<Origin, WireError> {
    decode::<pb::Origin>(bytes)?.try_into()
}

/// Field number in `PeerFrame`, and body, of any frame but entries (which have an encoding of their own).
#[must_use]
pub fn peer_frame_body(frame: &PeerFrame) -> (u8, Vec<u8>) {
    match frame {
        PeerFrame::Challenge(nonce) => (1, pb::Challenge { nonce: nonce.clone() }.encode_to_vec()),
        PeerFrame::Proof(mac) => (2, pb::Proof { mac: mac.clone() }.encode_to_vec()),
        PeerFrame::Hello(hello) => (3, pb::Hello::from(&**hello).encode_to_vec()),
        PeerFrame::Entries(entries) => (4, entries.bytes.to_vec()),
        PeerFrame::Heartbeat { held, time, outcomes_taken } => {
            let (held, time, outcomes_taken) = (all_into(held), *time, *outcomes_taken);
            (5, pb::Heartbeat { held, time, outcomes_taken }.encode_to_vec())
        }
        PeerFrame::Want { origin, from, stop } => {
            (6, pb::Want { origin: Some((*origin).into()), from: *from, stop: *stop }.encode_to_vec())
        }
        PeerFrame::Presence { joined, left, quit } => {
            let joined = joined.iter().map(Into::into).collect();
            (7, pb::Presence { joined, left: all_into(left), quit: all_into(quit) }.encode_to_vec())
        }
        PeerFrame::Reserve { ballot, person } => {
            (8, pb::Reserve { ballot: *ballot, person: Some(person.into()) }.encode_to_vec())
        }
        PeerFrame::Vote { ballot, granted, former, mail } => {
            let former = former.as_deref().map(Into::into);
            let mail = mail.as_deref().map(Into::into);
            (9, pb::Vote { ballot: *ballot, granted: *granted, former, mail }.encode_to_vec())
        }
        PeerFrame::Outcomes { batch, outcomes } => {
            (10, pb::Outcomes { outcomes: all_into(outcomes), batch: *batch }.encode_to_vec())
        }
        PeerFrame::Members(members) => {
            (11, pb::Members { members: members.iter().map(Into::into).collect() }.encode_to_vec())
        }
        PeerFrame::WantRange(Stretch { origin, first, last }) => {
            (16, pb::WantRange { origin: Some((*origin).into()), first: *first, last: *last }.encode_to_vec())
        }
        PeerFrame::Range(entries) => {
            let (origin, first) = (Some(entries.origin.into()), entries.first);
            (17, pb::Range { origin, first, entries: entries.bytes.to_vec() }.encode_to_vec())
        }
        PeerFrame::Goodbye => (12, pb::Goodbye {}.encode_to_vec()),
        PeerFrame::Refusal(reason) => (13, pb::Refusal { reason: reason.clone() }.encode_to_vec()),
        PeerFrame::Report(report) => (14, pb::NodeReport::from(&**report).encode_to_vec()),
        PeerFrame::Unsettled { client, registration, awaited } => {
            let (registration, awaited) = (Some((*registration).into()), all_into(awaited));
            (15, pb::PeerUnsettled { client: *client, registration, awaited }.encode_to_vec())
        }
        PeerFrame::Receipts { client, receipts } => {
            let receipts = receipts.iter().map(prost::Message::encode_to_vec).collect();
            (18, pb::Receipts { client: *client, receipts }.encode_to_vec())
        }
    }
}

/// Reads what `peer_frame_body` wrote.
///
/// # Errors
/// If it is no such frame.
pub fn read_peer_frame(field: u64, bytes: Bytes) -> Result<PeerFrame, WireError> {
    Ok(match field {
        1 => PeerFrame::Challenge(decode::<pb::Challenge>(bytes)?.nonce),
        2 => PeerFrame::Proof(decode::<pb::Proof>(bytes)?.mac),
        3 => PeerFrame::Hello(Box::new(decode::<pb::Hello>(bytes)?.try_into()?)),
        5 => {
            let heartbeat = decode::<pb::Heartbeat>(bytes)?;
            let (time, outcomes_taken) = (heartbeat.time, heartbeat.outcomes_taken);
            PeerFrame::Heartbeat { held: try_all(heartbeat.held)?, time, outcomes_taken }
        }
        6 => {
            let want = decode::<pb::Want>(bytes)?;
            PeerFrame::Want { origin: required(want.origin)?.try_into()?, from: want.from, stop: want.stop }
        }
        7 => {
            let presence = decode::<pb::Presence>(bytes)?;
            let (joined, left) = (try_all(presence.joined)?, try_all(presence.left)?);
            PeerFrame::Presence { joined, left, quit: try_all(presence.quit)? }
        }
        8 => {
            let reserve = decode::<pb::Reserve>(bytes)?;
            PeerFrame::Reserve { ballot: reserve.ballot, person: required(reserve.person)?.try_into()? }
        }
        9 => {
            let vote = decode::<pb::Vote>(bytes)?;
            let former = vote.former.map(Person::try_from).transpose()?.map(Box::new);
            let mail = vote.mail.map(Mail::try_from).transpose()?.map(Box::new);
            PeerFrame::Vote { ballot: vote.ballot, granted: vote.granted, former, mail }
        }
        10 => {
            let outcomes = decode::<pb::Outcomes>(bytes)?;
            PeerFrame::Outcomes { batch: outcomes.batch, outcomes: try_all(outcomes.outcomes)? }
        }
        11 => PeerFrame::Members(try_all(decode::<pb::Members>(bytes)?.members)?),
        16 => {
            let want = decode::<pb::WantRange>(bytes)?;
            let origin = required(want.origin)?.try_into()?;
            PeerFrame::WantRange(Stretch { origin, first: want.first, last: want.last })
        }
        17 => {
            let range = decode::<pb::Range>(bytes)?;
            let (origin, bytes) = (required(range.origin)?.try_into()?, range.entries.into());
            PeerFrame::Range(Entries { origin, first: range.first, sent_unix_us: 0, bytes })
        }
        12 => PeerFrame::Goodbye,
        13 => PeerFrame::Refusal(decode::<pb::Refusal>(bytes)?.reason),
        14 => PeerFrame::Report(Box::new(decode::<pb::NodeReport>(bytes)?.try_into()?)),
        15 => {
            let unsettled = decode::<pb::PeerUnsettled>(bytes)?;
            PeerFrame::Unsettled {
                client: unsettled.client,
                registration: required(unsettled.registration)?.try_into()?,
                awaited: unsettled.awaited.into_iter().map(Into::into).collect(),
            }
        }
        18 => {
            let receipts = decode::<pb::Receipts>(bytes)?;
            let read = receipts.receipts.iter().map(|run| decode_body::<pb::ReceiptRun>(run)?.checked());
            PeerFrame::Receipts { client: receipts.client, receipts: read.collect::<Result<_, _>>()? }
        }
        _ => return Err(WireError::Malformed("frame from a peer: unknown kind")),
    })
}

impl From<&Mail> for pb::Mail {
    fn from(mail: &Mail) -> Self {
        Self { registration: Some(mail.registration.into()), received: heights_to_proto(&mail.received) }
    }
}

impl TryFrom<pb::Mail> for Mail {
    type Error = WireError;
    fn try_from(mail: pb::Mail) -> Result<Self, WireError> {
        Ok(Self { registration: required(mail.registration)?.try_into()?, received: heights_from_proto(mail.received) })
    }
}

impl From<Awaited> for pb::Awaited {
    fn from(awaited: Awaited) -> Self {
        Self { number: awaited.number, reference: awaited.reference }
    }
}

impl From<pb::Awaited> for Awaited {
    fn from(awaited: pb::Awaited) -> Self {
        Self { number: awaited.number, reference: awaited.reference }
    }
}

impl From<&NodeReport> for pb::NodeReport {
    fn from(report: &NodeReport) -> Self {
        Self {
            clients: report.clients,
            people: report.people,
            sees: all_into(&report.sees),
            stopping: report.is_stopping,
            unwritable: report.unwritable.clone(),
            damaged: report.damaged,
            diverging: report.diverging,
        }
    }
}

impl TryFrom<pb::NodeReport> for NodeReport {
    type Error = WireError;
    fn try_from(report: pb::NodeReport) -> Result<Self, WireError> {
        Ok(Self {
            clients: report.clients,
            people: report.people,
            sees: report.sees.into_iter().map(node).collect::<Result<_, _>>()?,
            is_stopping: report.stopping,
            unwritable: report.unwritable,
            damaged: report.damaged,
            diverging: report.diverging,
        })
    }
}

/// Heights as the extended frames carry them.
#[must_use]
pub fn heights_to_proto(heights: &Heights) -> Vec<pb::Height> {
    heights.iter().map(|(origin, height)| pb::Height { origin: Some(origin.into()), height }).collect()
}

/// Heights from an extended frame; what cannot be read is left out.
#[must_use]
pub fn heights_from_proto(heights: Vec<pb::Height>) -> Heights {
    heights.into_iter().filter_map(|height| Some((height.origin?.try_into().ok()?, height.height))).collect()
}

/// A message of which a resuming client still wants to hear; `None` if it cannot be read.
#[must_use]
pub fn awaited(unsettled: pb::Unsettled) -> Option<(Origin, Awaited)> {
    let id = unsettled.id?;
    Some((id.origin?.try_into().ok()?, Awaited { number: id.number, reference: unsettled.reference }))
}
