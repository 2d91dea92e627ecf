//! Who this client is to any node: its name, the key that proves a former connection, and what it has had.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::timeout;

use super::connection::{Connection, ConnectionError};
use crate::{
    clique::{Heights, Origin},
    wire::extended::{
        FromClient, FromNode, MessageId, Register, RegisterRefused, Registered, Resume, heights_from_proto,
        heights_to_proto,
    },
};

/// A node asks the others before it gives a name out; this is long enough for that, links that just died included.
const REGISTER_TIMEOUT_MS: u64 = 5_000;
/// Messages that are remembered so as not to be shown twice.
const MAX_SEEN: usize = 10_000;
/// Longest base of a varied name, in bytes, so that the variant is legal too.
const MAX_VARIED_BASE_BYTES: usize = 56;

/// What makes a client the same one on any node.
pub struct Identity {
    /// The name as it stands, which a node may have changed.
    name: String,
    session_key: [u8; 32],
    /// What was received; none before the first registration.
    received: Option<Heights>,
    /// What was sent and acknowledged.
    sent: Heights,
    seen: HashSet<(Origin, u64)>,
    seen_order: VecDeque<(Origin, u64)>,
}

impl Identity {
    pub fn new(name: String) -> Self {
        Self {
            name,
            session_key: rand::random(),
            received: None,
            sent: Heights::default(),
            seen: HashSet::new(),
            seen_order: VecDeque::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn set_name(&mut self, name: String) {
        self.name = name;
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

    /// What to say to a node.
    pub fn register(&self) -> Registering {
        let resume = self.received.as_ref().map(|received| Resume {
            heights: heights_to_proto(received),
            sent: heights_to_proto(&self.sent),
            ..Resume::default()
        });
        Registering(Register {
            name: self.name.clone(),
            session_key: self.session_key.to_vec(),
            resume,
            ..Register::default()
        })
    }

    /// A node has taken this client.
    pub fn registered(&mut self, registered: &Registered) {
        self.name.clone_from(&registered.name);
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

    /// Takes note of a message; `false` if it was there before.
    pub fn receive(&mut self, id: Option<&MessageId>) -> bool {
        let Some((origin, number)) = id.and_then(place) else { return true };
        if !self.seen.insert((origin, number)) {
            return false;
        }
        self.seen_order.push_back((origin, number));
        if self.seen_order.len() > MAX_SEEN
            && let Some(oldest) = self.seen_order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        if let Some(received) = &mut self.received {
            received.raise(origin, number);
        }
        true
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
        Registered { name: "al".to_owned(), resumed, heights: heights_to_proto(&heights), ..Registered::default() }
    }

    fn resumes_from(identity: &Identity) -> Option<u64> {
        let resume = identity.register().0.resume?;
        Some(heights_from_proto(resume.heights).get(Origin { node: 0, incarnation: 1 }))
    }

    #[test]
    fn it_resumes_from_what_it_was_shown() {
        let mut identity = Identity::new("al".to_owned());
        assert_eq!(resumes_from(&identity), None);
        identity.registered(&registered(false, 5));
        assert_eq!(resumes_from(&identity), Some(5));
        assert!(identity.receive(Some(&id(0, 7))));
        assert!(!identity.receive(Some(&id(0, 7))), "once is enough");
        assert_eq!(resumes_from(&identity), Some(7));
        // The node is further, but what lies between is only about to be sent.
        identity.registered(&registered(true, 20));
        assert_eq!(resumes_from(&identity), Some(7));
        // It does not know this session: this is a new beginning.
        identity.registered(&registered(false, 30));
        assert_eq!(resumes_from(&identity), Some(30));
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let mut identity = Identity::new("al".to_owned());
        let mut names = Vec::new();
        for attempt in 1..=3 {
            identity.vary_name(attempt);
            names.push(identity.name().to_owned());
        }
        assert_eq!(names, ["al-2", "al-3", "al-4"]);
        let mut long = Identity::new("é".repeat(32));
        long.vary_name(1);
        assert!(crate::chat::Name::parse(long.name().as_bytes()).is_ok(), "{}", long.name());
    }
}
