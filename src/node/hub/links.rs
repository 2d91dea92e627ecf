//! Links to peers, once they have proved themselves: entries both ways, presence, heartbeats.

use std::collections::BTreeMap;

use super::{
    Hub, Lost, Now, Ports, Timing,
    feeding::{Feed, HOLD_BACK_MS},
};
use crate::{
    chat::{Person, Registration, notice},
    clique::{
        Heights, Held, LinkId, Member, Origin, Stretch,
        members::{Admission, LinkRefusal, Linked},
    },
    wire::peer::{Hello, NodeReport, PROTOCOL_VERSION, PeerFrame},
};

/// What comes from a peer.
#[derive(Debug)]
pub enum FromLink {
    /// The peer has proved itself and said hello.
    Opened {
        dialed_by_us: bool,
        hello: Box<Hello>,
    },
    Frame(PeerFrame),
    /// Its output has room again.
    Drained,
    Closed,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) node: u16,
    pub(super) origin: Origin,
    pub(super) heard_ms: u64,
    pub(super) heartbeat_sent_ms: u64,
    /// What the peer wants.
    pub(super) feeds: BTreeMap<Origin, Feed>,
    /// Somebody there waits for what was accepted here.
    pub(super) is_awaited: bool,
    /// Since when entries for nobody there are held back, to go together.
    pub(super) held_back_since_ms: Option<u64>,
    /// What the peer repairs, and the read that it waits for.
    pub(super) range: Option<(u64, Stretch)>,
    /// Since when heights wait to be acknowledged.
    pub(super) acknowledge_since_ms: Option<u64>,
    pub(super) unacknowledged: u64,
    pub(super) joined: Vec<Person>,
    pub(super) left: Vec<Registration>,
    pub(super) quit: Vec<Registration>,
    /// What the peer last said of itself.
    pub(super) report: Option<NodeReport>,
    /// Whether the peer has what this node says of itself.
    pub(super) is_reported_to: bool,
    said_goodbye: bool,
}

impl Link {
    pub(super) fn next_deadline_ms(&self, timing: &Timing) -> u64 {
        let heartbeat = self.heartbeat_sent_ms + timing.heartbeat_ms;
        let death = self.heard_ms + timing.dead_after_ms;
        let acknowledge = self.acknowledge_since_ms.map_or(u64::MAX, |since| since + timing.acknowledge_ms);
        let held_back = self.held_back_since_ms.map_or(u64::MAX, |since| since + HOLD_BACK_MS);
        heartbeat.min(death).min(acknowledge).min(held_back)
    }
}

impl Hub {
    /// What this node says of itself when a link opens.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let mut members: Vec<Member> = self.members.iter().map(|(member, _)| member.clone()).collect();
        members.push(self.me_as_member());
        Hello {
            protocol: PROTOCOL_VERSION,
            origin: self.settings.origin,
            advertise: self.settings.advertise.clone(),
            chat_port: self.settings.chat_port,
            // They are said again when the link is taken up: meanwhile they may have changed.
            held: Vec::new(),
            people: Vec::new(),
            expected: Vec::new(),
            time: 0,
            members,
        }
    }

    /// Takes what a peer sent.
    pub fn from_link(&mut self, link: LinkId, input: FromLink, now: Now, ports: &mut impl Ports) {
        match input {
            FromLink::Opened { dialed_by_us, hello } => self.link_opened(link, dialed_by_us, *hello, now, ports),
            FromLink::Closed => self.link_closed(link, now, ports),
            FromLink::Drained => {}
            FromLink::Frame(frame) => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.heard_ms = now.monotonic_ms;
                    self.frame(link, frame, now, ports);
                }
            }
        }
    }

    fn link_opened(&mut self, link: LinkId, dialed_by_us: bool, hello: Hello, now: Now, ports: &mut impl Ports) {
        if hello.protocol != PROTOCOL_VERSION {
            let reason = format!(
                "this node speaks version {PROTOCOL_VERSION} of the peer protocol, the other one {}; run the same release on all",
                hello.protocol
            );
            return Self::refuse_link(link, &reason, ports);
        }
        let (origin, node) = (hello.origin, hello.origin.node);
        let member = Member { node, advertise: hello.advertise, chat_port: hello.chat_port };
        match self.members.admit(Linked { link, origin, dialed_by_us }, member) {
            Admission::Refuse { reason: reason @ LinkRefusal::SameIndex(_) } => {
                return Self::refuse_link(link, &reason.to_string(), ports);
            }
            // Both dialled, or the node found itself: nothing that the other side must be told.
            Admission::Refuse { reason } => return ports.close_link(link, &reason.to_string()),
            Admission::Take { instead_of: Some(former) } => {
                if self.links.get(&former).is_some_and(|former| former.origin != origin) {
                    self.keep_mailboxes(node, former);
                    self.unconfirm(node);
                    // A former life does not vote any more.
                    let settled = self.directory.abstains(node);
                    self.settle(settled, now, ports);
                }
                self.drop_link(former, ports);
                ports.close_link(former, "another link to the same node has taken its place");
            }
            Admission::Take { instead_of: None } => {}
        }
        self.links.insert(
            link,
            Link {
                node,
                origin,
                heard_ms: now.monotonic_ms,
                heartbeat_sent_ms: now.monotonic_ms,
                feeds: BTreeMap::new(),
                is_awaited: false,
                held_back_since_ms: None,
                range: None,
                acknowledge_since_ms: None,
                unacknowledged: 0,
                joined: Vec::new(),
                left: Vec::new(),
                quit: self.quit.iter().copied().collect(),
                report: None,
                is_reported_to: false,
                said_goodbye: false,
            },
        );
        self.nodes_changed = true;
        let state = Hello {
            held: self.replica.log().held().collect(),
            people: self.directory.said_by(self.node()).cloned().collect(),
            time: self.replica.clock().last(),
            expected: self.expected_here(now),
            ..self.hello()
        };
        ports.to_link(link, PeerFrame::Hello(Box::new(state)));
        // Votes that were asked for on a former link do not come on this one.
        for (ballot, person) in self.directory.awaited_from(node) {
            ports.to_link(link, PeerFrame::Reserve { ballot, person: person.clone() });
        }
        // A node's former lives send nothing any more.
        self.outcomes_taken.retain(|other, _| other.node != node || *other == origin);
        for (batch, outcomes) in self.owed_outcomes.entry(node).or_default().unconfirmed(origin) {
            ports.to_link(link, PeerFrame::Outcomes { batch, outcomes });
        }
        self.ask_unsettled(link, origin, ports);
        let asks = self.replica.link_up(link, origin, &[]);
        Self::send_asks(asks, ports);
        self.learn(&hello.members, ports);
        let member = self.members.iter().find(|(member, _)| member.node == node).map(|(member, _)| member.clone());
        for other in self.links.keys().filter(|other| **other != link) {
            ports.to_link(*other, PeerFrame::Members(member.clone().into_iter().collect()));
        }
    }

    fn refuse_link(link: LinkId, reason: &str, ports: &mut impl Ports) {
        ports.to_link(link, PeerFrame::Refusal(reason.to_owned()));
        ports.close_link(link, reason);
    }

    /// The peer's state, said once both sides have taken the link up.
    fn peer_state(&mut self, link: LinkId, hello: Hello, now: Now, ports: &mut impl Ports) {
        let Some(node) = self.links.get(&link).map(|link| link.node) else { return };
        self.replica.clock().see(hello.time);
        let people: Vec<Person> = hello.people.into_iter().map(|person| Person { node, ..person }).collect();
        for person in &people {
            self.replica.clock().see(person.attached);
            self.is_back(person);
        }
        let was_announced = self.lost.remove(&node).is_some_and(|lost| lost.is_announced);
        if was_announced {
            self.came_back(node, link, &hello.held);
        }
        for person in &people {
            // A second link can take the place of the first while the name is being settled.
            if was_announced || self.directory.person(person.registration).is_some() {
                self.note_renamed_there(person);
            }
        }
        let changes = self.directory.node_up(node, people, self.return_by_ms(now));
        self.people_changed(changes, ports);
        self.expected_there(node, hello.expected, now);
        self.peer_holds(link, &hello.held, ports);
        let me = self.settings.origin;
        let confirmed = hello.held.iter().find(|held| held.origin == me).map_or(0, |held| held.height);
        self.confirmed(node, confirmed);
        self.learn(&hello.members, ports);
    }

    fn peer_holds(&mut self, link: LinkId, held: &[Held], ports: &mut impl Ports) {
        let asks = self.replica.peer_holds(link, held);
        Self::send_asks(asks, ports);
        for (origin, lost) in self.replica.give_up() {
            self.tell_everyone(&notice::lost_in_cut(origin.node, lost), ports);
        }
    }

    pub(super) fn link_closed(&mut self, link: LinkId, now: Now, ports: &mut impl Ports) {
        let Some(state) = self.links.get(&link) else { return };
        let (node, said_goodbye) = (state.node, state.said_goodbye);
        if self.members.unlink(link) != Some(node) {
            return self.drop_link(link, ports);
        }
        if !said_goodbye {
            self.keep_mailboxes(node, link);
        }
        let heights: Heights = self.replica.sources().peer_heights(link).collect();
        self.drop_link(link, ports);
        // One that came and went before it said anything has been lost all the time.
        if self.directory.is_reachable(node) || !self.lost.contains_key(&node) {
            let since_ms = now.monotonic_ms;
            let lost = Lost { since_ms, said_goodbye, is_announced: false, is_bridged: false, heights };
            self.lost.insert(node, lost);
        }
        let (changes, settled) = self.directory.node_down(node, said_goodbye, self.return_by_ms(now));
        self.people_changed(changes, ports);
        self.settle(settled, now, ports);
        self.nodes_changed = true;
        self.reachable_shrank();
    }

    fn drop_link(&mut self, link: LinkId, ports: &mut impl Ports) {
        self.links.remove(&link);
        // Who holds what the lost one said matters now: the others are told at once.
        self.links.values_mut().for_each(|link| link.acknowledge_since_ms = Some(0));
        let asks = self.replica.link_down(link);
        Self::send_asks(asks, ports);
    }

    fn frame(&mut self, link: LinkId, frame: PeerFrame, now: Now, ports: &mut impl Ports) {
        let Some((node, origin)) = self.links.get(&link).map(|link| (link.node, link.origin)) else { return };
        match frame {
            PeerFrame::Entries(entries) => self.entries(link, entries, now, ports),
            PeerFrame::Heartbeat { held, time, outcomes_taken } => {
                self.owed_outcomes.entry(node).or_default().confirmed(outcomes_taken);
                self.replica.clock().see(time);
                self.peer_holds(link, &held, ports);
                if let Some(mine) = held.iter().find(|held| held.origin == self.settings.origin) {
                    self.confirmed(node, mine.height);
                }
            }
            PeerFrame::Want { origin, from, stop } => {
                if let Some(state) = self.links.get_mut(&link) {
                    if stop {
                        state.feeds.remove(&origin);
                    } else {
                        state.feeds.insert(origin, Feed::from(from.max(1)));
                    }
                }
            }
            PeerFrame::WantRange(wanted) => self.range_wanted(link, wanted, ports),
            PeerFrame::Range(entries) => self.range_came(link, entries, now, ports),
            PeerFrame::Presence { joined, left, quit } => {
                for registration in left {
                    let changes = self.directory.left(node, registration);
                    self.people_changed(changes, ports);
                    if !quit.contains(&registration) {
                        self.directory.expect(registration, self.return_by_ms(now));
                    }
                }
                quit.into_iter().for_each(|registration| self.does_not_return(registration));
                for person in joined {
                    self.replica.clock().see(person.attached);
                    self.is_back(&person);
                    self.note_renamed_there(&person);
                    let changes = self.directory.joined(Person { node, ..person });
                    self.people_changed(changes, ports);
                }
            }
            PeerFrame::Reserve { ballot, person } => {
                let vote = self.vote(ballot, &Person { node, ..person }, now, ports);
                ports.to_link(link, vote);
            }
            PeerFrame::Vote { ballot, granted, former, mail } => {
                if let Some(mail) = mail {
                    self.hear_of_mail(ballot, *mail);
                }
                let settled = self.directory.voted(node, ballot, granted, former.map(|former| *former));
                self.settle(settled.into_iter().collect(), now, ports);
            }
            PeerFrame::Outcomes { batch, outcomes } => {
                let taken = self.outcomes_taken.entry(origin).or_default();
                if batch <= *taken {
                    // It came before; only its confirmation was lost.
                    return;
                }
                *taken = batch;
                // Those of a former life concern nobody any more.
                let me = self.settings.origin;
                self.outcomes_here.extend(outcomes.into_iter().filter(|outcome| outcome.origin == me));
            }
            PeerFrame::Members(members) => self.learn(&members, ports),
            PeerFrame::Goodbye => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.said_goodbye = true;
                }
            }
            PeerFrame::Hello(hello) => self.peer_state(link, *hello, now, ports),
            PeerFrame::Unsettled { client, registration, awaited } => {
                self.asked_for_unsettled(origin, (client, registration), awaited);
            }
            PeerFrame::Receipts { client, receipts } => self.receipts_for(origin, client, receipts, ports),
            PeerFrame::Report(report) => self.peer_reports(link, *report),
            PeerFrame::Refusal(reason) => ports.close_link(link, &reason),
            PeerFrame::Challenge(_) | PeerFrame::Proof(_) => {
                ports.close_link(link, "the peer began a second handshake on an open link");
            }
        }
    }

    fn learn(&mut self, members: &[Member], ports: &mut impl Ports) {
        for member in members {
            if self.members.learn(member) {
                self.nodes_changed = true;
                ports.dial(member);
            }
        }
    }

    /// Puts a change among this node's people on its way to every peer.
    pub(super) fn broadcast_presence(&mut self, joined: Vec<Person>, left: Vec<Registration>) {
        for link in self.links.values_mut() {
            link.joined.extend(joined.iter().cloned());
            link.left.extend(left.iter().copied());
        }
    }
}
