//! Who this client is to any node: its name, the key that proves a former connection, and what it has had.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::timeout;

use super::{
    connection::{Connection, ConnectionError},
    seen::Seen,
};
use crate::{
    chat::Passphrase,
    clique::{Heights, Origin},
    wire::extended::{
        Delivery, FromClient, FromNode, MessageId, Register, RegisterRefused, Registered, Registration, Resume,
        RoomState, Unsettled, heights_from_proto, heights_to_proto,
    },
};

/// A node asks the others before it gives a name out; this is long enough for that, links that just died included.
const REGISTER_TIMEOUT_MS: u64 = 5_000;
/// Registrations of one session that are remembered.
const MAX_FORMERS: usize = 16;
/// Messages that are remembered so as not to be shown twice.
const MAX_RECEIVED: usize = 10_000;
/// The same of what was said before and shown as history.
const MAX_SHOWN_AS_HISTORY: usize = 2_000;
/// Most rooms that are joined again on another node.
const MAX_ROOMS: usize = 256;
/// Longest base of a varied name, in bytes, so that the variant is legal too.
const MAX_VARIED_BASE_BYTES: usize = 56;

/// What makes a client the same one on any node.
pub struct Identity {
    /// The name as it stands, which a node may have changed.
    name: String,
    session_key: [u8; 32],
    /// How many of the latest messages to show first.
    history: u32,
    passphrase: Option<Passphrase>,
    /// Given in a /claim that the node has not confirmed.
    claiming: Option<Passphrase>,
    /// As the node gave it.
    registration: Option<Registration>,
    /// All that nodes gave, the first one first.
    formers: Vec<Registration>,
    /// What was received; none before the first registration.
    received: Option<Heights>,
    /// What was sent and acknowledged.
    sent: Heights,
    seen: Seen,
    seen_as_history: Seen,
    /// Something said before may come again: somebody asked for it on this connection.
    has_asked_for_history: bool,
    rooms: BTreeSet<String>,
    /// The next list of rooms shows which of them this node does not know.
    must_join_again: bool,
}

impl Identity {
    pub fn new(name: String, passphrase: Option<Passphrase>, history: u32) -> Self {
        Self {
            name,
            session_key: rand::random(),
            history,
            passphrase,
            claiming: None,
            registration: None,
            formers: Vec::new(),
            received: None,
            sent: Heights::default(),
            seen: Seen::new(MAX_RECEIVED),
            seen_as_history: Seen::new(MAX_SHOWN_AS_HISTORY),
            has_asked_for_history: false,
            rooms: BTreeSet::new(),
            must_join_again: false,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_name(&mut self, name: String) {
        self.name = name;
    }

    pub fn set_passphrase(&mut self, passphrase: Passphrase) {
        self.passphrase = Some(passphrase);
    }

    /// A /claim is on its way.
    pub fn claim(&mut self, passphrase: Passphrase) {
        self.claiming = Some(passphrase);
    }

    /// The node has the claim; or it refused the passphrase that was valid before, and may have had the claim without
    /// saying so. `false` if there was none.
    pub fn take_claim(&mut self) -> bool {
        let claiming = self.claiming.take();
        let is_some = claiming.is_some();
        self.passphrase = claiming.or_else(|| self.passphrase.take());
        is_some
    }

    /// Whether some node has registered this client before.
    pub fn has_registered(&self) -> bool {
        self.received.is_some()
    }

    /// The name with a number, after somebody else took it: `alice-2`.
    pub fn vary_name(&mut self, attempt: u32) {
        let base = self.name.rsplit_once('-').filter(|(_, number)| attempt > 1 && number.parse::<u32>().is_ok());
        let base = base.map_or(self.name.as_str(), |(base, _)| base);
        let mut end = base.len().min(MAX_VARIED_BASE_BYTES);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        self.name = format!("{}-{}", &base[..end], attempt + 1);
    }

    /// What to say to a node; `unsettled` is what it is to go on telling about.
    pub fn register(&self, unsettled: Vec<Unsettled>) -> Registering {
        let resume = self.received.as_ref().map(|received| Resume {
            heights: heights_to_proto(received),
            sent: heights_to_proto(&self.sent),
            unsettled,
            registration: self.registration,
            formers: self.formers.clone(),
        });
        Registering(Register {
            name: self.name.clone(),
            session_key: self.session_key.to_vec(),
            resume,
            passphrase: self.passphrase.as_ref().map_or_else(String::new, |known| known.reveal().to_owned()),
            history: self.history,
        })
    }

    /// A node has taken this client.
    pub fn registered(&mut self, registered: &Registered) {
        self.name.clone_from(&registered.name);
        self.registration = registered.registration;
        if let Some(registration) = registered.registration.filter(|given| !self.formers.contains(given)) {
            self.formers.push(registration);
            if self.formers.len() > MAX_FORMERS {
                // The first says since when it goes.
                self.formers.remove(1);
            }
        }
        self.has_asked_for_history = false;
        // The rooms of a claimed name are known everywhere, and may have been left from another device.
        self.must_join_again = self.received.is_some() && !registered.claimed;
        if registered.claimed && self.passphrase.is_none() {
            self.take_claim();
        }
        match &mut self.received {
            // What was missed is still to come, so the node's own heights do not count as received.
            Some(_) if registered.resumed => {}
            // A new beginning, perhaps at a node that is behind: what was received stays received.
            Some(received) => {
                let heights = heights_from_proto(registered.heights.clone());
                heights.iter().for_each(|(origin, height)| received.raise(origin, height));
            }
            None => self.received = Some(heights_from_proto(registered.heights.clone())),
        }
    }

    /// A command is on its way.
    pub fn asks(&mut self, command: &str) {
        let word = command.split_whitespace().next().unwrap_or_default().to_lowercase();
        self.has_asked_for_history |= matches!(word.as_str(), "history" | "join");
    }

    /// All the rooms that the node knows this client to be in; gives those that must be joined again.
    pub fn update_rooms(&mut self, rooms: &[RoomState]) -> Vec<String> {
        let known: BTreeSet<String> = rooms.iter().take(MAX_ROOMS).map(|room| room.name.clone()).collect();
        let before = std::mem::replace(&mut self.rooms, known);
        if !std::mem::take(&mut self.must_join_again) {
            return Vec::new();
        }
        let missing: Vec<String> = before.difference(&self.rooms).cloned().collect();
        self.rooms.extend(missing.iter().cloned());
        missing
    }

    /// Takes note of a message; `false` if it is not to be shown, because it was before.
    pub fn receive(&mut self, delivery: &Delivery) -> bool {
        let Some((origin, number)) = delivery.id.as_ref().and_then(place) else { return true };
        if delivery.history {
            let is_new = !self.seen.contains((origin, number)) && self.seen_as_history.insert((origin, number));
            return is_new || self.has_asked_for_history;
        }
        if let Some(received) = &mut self.received {
            received.raise(origin, number);
        }
        self.seen.insert((origin, number))
    }

    /// Takes note of a message of one's own that a node has.
    pub fn acknowledge(&mut self, id: Option<&MessageId>) {
        if let Some((origin, number)) = id.and_then(place) {
            self.sent.raise(origin, number);
        }
    }
}

fn place(id: &MessageId) -> Option<(Origin, u64)> {
    let origin = id.origin.as_ref()?;
    Some((Origin { node: u16::try_from(origin.node).ok()?, incarnation: origin.incarnation }, id.number))
}

/// A request for a name, ready to be made.
pub struct Registering(Register);

impl Registering {
    /// # Errors
    /// If the connection ends, or the node does not answer in time.
    pub async fn ask(
        self,
        connection: &mut Connection,
    ) -> Result<Result<Registered, RegisterRefused>, ConnectionError> {
        connection.send(&FromClient::Register(self.0));
        let answer = async {
            loop {
                let frame = connection.next().await?;
                match FromNode::read(&frame)? {
                    Some(FromNode::Registered(registered)) => return Ok(Ok(registered)),
                    Some(FromNode::RegisterRefused(refused)) => return Ok(Err(refused)),
                    _ => {}
                }
            }
        };
        timeout(Duration::from_millis(REGISTER_TIMEOUT_MS), answer).await.map_err(|_| ConnectionError::Silent)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extended;

    fn id(node: u32, number: u64) -> MessageId {
        MessageId { origin: Some(extended::Origin { node, incarnation: 1 }), number }
    }

    fn registered(resumed: bool, height: u64) -> Registered {
        let heights = [(Origin { node: 0, incarnation: 1 }, height)].into_iter().collect();
        let registration = Some(Registration { time: 7, node: 0 });
        let heights = heights_to_proto(&heights);
        Registered { name: "al".to_owned(), resumed, heights, registration, ..Registered::default() }
    }

    fn live(number: u64) -> Delivery {
        Delivery { id: Some(id(0, number)), ..Delivery::default() }
    }

    fn history(number: u64) -> Delivery {
        Delivery { history: true, ..live(number) }
    }

    fn rooms(names: &[&str]) -> Vec<RoomState> {
        names.iter().map(|name| RoomState { name: (*name).to_owned(), topic: String::new() }).collect()
    }

    fn resumes_from(identity: &Identity) -> Option<u64> {
        let resume = identity.register(Vec::new()).0.resume?;
        assert_eq!(resume.registration, Some(Registration { time: 7, node: 0 }));
        Some(heights_from_proto(resume.heights).get(Origin { node: 0, incarnation: 1 }))
    }

    #[test]
    fn it_resumes_from_what_it_was_shown() {
        let mut identity = Identity::new("al".to_owned(), None, 0);
        assert_eq!(resumes_from(&identity), None);
        identity.registered(&registered(false, 5));
        assert_eq!(resumes_from(&identity), Some(5));
        assert!(identity.receive(&live(7)));
        assert!(!identity.receive(&live(7)), "once is enough");
        assert_eq!(resumes_from(&identity), Some(7));
        // The node is further, but what lies between is only about to be sent.
        identity.registered(&registered(true, 20));
        assert_eq!(resumes_from(&identity), Some(7));
        // It does not know this session: this is a new beginning.
        identity.registered(&registered(false, 30));
        assert_eq!(resumes_from(&identity), Some(30));
    }

    #[test]
    fn history_is_shown_once_unless_asked_for_and_never_counts_as_received() {
        let mut identity = Identity::new("al".to_owned(), None, 20);
        identity.registered(&registered(false, 5));
        assert_eq!(identity.register(Vec::new()).0.history, 20);
        assert!(identity.receive(&history(9)));
        assert_eq!(resumes_from(&identity), Some(5));
        assert!(!identity.receive(&history(9)));
        assert!(identity.receive(&live(9)), "what was shown as history is still new when it is received");
        assert!(identity.receive(&live(10)));
        assert!(!identity.receive(&history(10)));
        identity.asks("HISTORY * 3");
        assert!(identity.receive(&history(10)));
        assert_eq!(resumes_from(&identity), Some(10));
    }

    #[test]
    fn rooms_that_the_next_node_does_not_know_are_joined_again_unless_the_name_is_claimed() {
        let mut identity = Identity::new("al".to_owned(), None, 0);
        identity.registered(&registered(false, 0));
        assert!(identity.update_rooms(&rooms(&["#ship", "#tea"])).is_empty());
        identity.registered(&registered(true, 0));
        assert_eq!(identity.update_rooms(&rooms(&["#tea"])), ["#ship"]);
        assert!(identity.update_rooms(&rooms(&["#tea"])).is_empty(), "left on purpose");
        identity.registered(&Registered { claimed: true, ..registered(true, 0) });
        assert!(identity.update_rooms(&[]).is_empty());
    }

    #[test]
    fn a_claim_counts_once_the_node_has_it_and_is_tried_when_that_is_not_known() {
        let shown = |identity: &Identity| identity.register(Vec::new()).0.passphrase;
        let mut identity = Identity::new("al".to_owned(), None, 0);
        identity.claim(Passphrase::typed(b"one"));
        assert_eq!(shown(&identity), "");
        assert!(identity.take_claim());
        assert_eq!(shown(&identity), "one");
        assert!(!identity.take_claim());
        assert_eq!(shown(&identity), "one");
        let mut identity = Identity::new("al".to_owned(), None, 0);
        identity.claim(Passphrase::typed(b"two"));
        identity.registered(&Registered { claimed: true, ..registered(true, 0) });
        assert_eq!(shown(&identity), "two");
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let mut identity = Identity::new("al".to_owned(), None, 0);
        let mut names = Vec::new();
        for attempt in 1..=3 {
            identity.vary_name(attempt);
            names.push(identity.name().to_owned());
        }
        assert_eq!(names, ["al-2", "al-3", "al-4"]);
        let mut long = Identity::new("é".repeat(32), None, 0);
        long.vary_name(1);
        assert!(crate::chat::Name::parse(long.name().as_bytes()).is_ok(), "{}", long.name());
    }
}
