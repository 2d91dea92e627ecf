//! What this node knows of all nodes, for those who run them; and what it says of itself to its peers for that purpose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Hub, Now, Ports, alarms::alarms, clients::count, reports::chat_address};
use crate::{
    clique::{Heights, LinkId, Member, Origin, members::Linked, time},
    wire::{
        entry::read_entry,
        peer::{NodeReport, PeerFrame},
    },
};

/// The whole clique, as one node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The node that was asked.
    pub asked: u16,
    pub time_unix_ms: u64,
    /// Size of the clique; more than there are in `nodes` if some have never been seen.
    pub nodes_known: usize,
    /// Those that have been heard of, by index.
    pub nodes: Vec<NodeOverview>,
    /// Age of the oldest entry that some node lacks.
    pub oldest_lacking_ms: Option<u64>,
    /// Whether all nodes hold the same.
    pub histories: History,
    /// What is wrong, a sentence each.
    pub alarms: Vec<String>,
}

/// One node, as another sees it, or itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOverview {
    pub node: u16,
    /// Where people connect.
    pub chat_address: String,
    pub state: NodeCondition,
    /// For how long it has not been reachable.
    pub unreachable_ms: Option<u64>,
    /// Client connections, as far as it has said.
    pub clients: Option<u32>,
    pub people: Option<u32>,
    /// The nodes that it is linked with.
    pub sees: Vec<u16>,
    /// How many entries it lacks that some other node has; of one that cannot be reached, when it was last heard.
    pub lacks: u64,
    /// Age of the oldest of them.
    pub oldest_lacking_ms: Option<u64>,
    /// Compared with the node that was asked.
    pub history: History,
    /// Stretches of its log that cannot be read back as they were written.
    pub damaged: u32,
    /// Stretches on which its history and that of another node contradict each other.
    pub diverging: u32,
    /// Why its store takes nothing; empty if it does.
    pub unwritable: String,
    pub heights: Vec<OriginHeight>,
}

/// How far a node holds one origin's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginHeight {
    pub node: u16,
    pub incarnation: u64,
    pub height: u64,
}

/// How a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeCondition {
    Up,
    /// It lets nobody in any more.
    Stopping,
    /// It takes no messages, because nothing can be written to its disk.
    Unwritable,
    /// It was linked, and is not any more.
    Unreachable,
    /// It said goodbye.
    Stopped,
    /// Others know it.
    #[default]
    NotSeen,
}

/// How two histories compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// The same entries.
    Equal,
    /// One lacks some of the other.
    Lacking,
    /// They contradict each other.
    Diverging,
    #[default]
    Unknown,
}

/// What this node last said of itself.
#[derive(Debug, Default)]
pub(super) struct Reported {
    checked_ms: u64,
    report: NodeReport,
}

/// Per origin the last entry that nobody holds any more, and the last that somebody holds.
type Extents = BTreeMap<Origin, (u64, u64)>;

impl Hub {
    /// Tells peers what has changed of what this node says of itself, at most once in a heartbeat interval.
    pub(super) fn tell_report(&mut self, now: Now, ports: &mut impl Ports) {
        if now.monotonic_ms < self.reported.checked_ms + self.settings.timing.heartbeat_ms {
            return;
        }
        let report = self.report_of_mine();
        let has_changed = report != self.reported.report;
        for (link, state) in &mut self.links {
            if has_changed || !std::mem::replace(&mut state.is_reported_to, true) {
                ports.to_link(*link, PeerFrame::Report(Box::new(report.clone())));
            }
        }
        self.reported = Reported { checked_ms: now.monotonic_ms, report };
    }

    fn report_of_mine(&self) -> NodeReport {
        NodeReport {
            clients: count(self.clients.len()),
            people: count(self.directory.count_on(self.node())),
            sees: self.linked_nodes().map(|(member, _)| member.node).collect(),
            is_stopping: self.is_stopping,
            ..NodeReport::default()
        }
    }

    fn linked_nodes(&self) -> impl Iterator<Item = (&Member, Linked)> {
        self.members.iter().filter_map(|(member, linked)| Some((member, linked?)))
    }

    /// What this node knows of all nodes. Looks at every origin for every node.
    #[must_use]
    pub fn overview(&self, now: Now) -> Overview {
        let extents = self.extents();
        let mut nodes: Vec<NodeOverview> =
            self.members.iter().map(|(member, linked)| self.other(member, linked, now)).collect();
        nodes.push(self.myself());
        nodes.sort_by_key(|node| node.node);
        let mine: Heights = self.replica.log().held().map(|held| (held.origin, held.height)).collect();
        for node in &mut nodes {
            let heights = match (self.lost.get(&node.node), self.members.linked(node.node)) {
                _ if node.node == self.node() => mine.clone(),
                (Some(lost), _) => lost.heights.clone(),
                (None, Some(linked)) => self.replica.sources().peer_heights(linked.link).collect(),
                (None, None) => Heights::default(),
            };
            self.compare(node, &heights, &extents, now);
        }
        let reached = || nodes.iter().filter(|node| node.is_reached());
        let mut overview = Overview {
            asked: self.node(),
            time_unix_ms: now.unix_ms(),
            nodes_known: self.members.known_count(),
            oldest_lacking_ms: nodes.iter().filter_map(|node| node.oldest_lacking_ms).max(),
            histories: reached().map(|node| node.history).fold(History::Equal, History::and),
            alarms: Vec::new(),
            nodes,
        };
        overview.alarms = alarms(&overview).into_iter().map(|alarm| alarm.text).collect();
        overview
    }

    fn myself(&self) -> NodeOverview {
        let address = chat_address(&self.settings.advertise, self.settings.chat_port);
        NodeOverview::of(self.node(), address, Some(&self.report_of_mine()))
    }

    fn other(&self, member: &Member, linked: Option<Linked>, now: Now) -> NodeOverview {
        let link = linked.and_then(|linked| self.links.get(&linked.link));
        let address = chat_address(&member.advertise, member.chat_port);
        let mut node = NodeOverview::of(member.node, address, link.and_then(|link| link.report.as_ref()));
        if link.is_some() && node.state == NodeCondition::NotSeen {
            // It has not said anything of itself yet.
            node.state = NodeCondition::Up;
        }
        if let Some(lost) = self.lost.get(&member.node) {
            node.unreachable_ms = Some(now.monotonic_ms.saturating_sub(lost.since_ms));
            node.state = if lost.said_goodbye { NodeCondition::Stopped } else { NodeCondition::Unreachable };
        }
        node
    }

    fn extents(&self) -> Extents {
        let mut extents = Extents::new();
        let mut widen = |origin, first: u64, height: u64| {
            let (gone, last) = extents.entry(origin).or_insert((u64::MAX, 0));
            *gone = (*gone).min(first.saturating_sub(1));
            *last = (*last).max(height);
        };
        for held in self.replica.log().held() {
            widen(held.origin, held.first, held.height);
        }
        for (_, linked) in self.linked_nodes() {
            let sources = self.replica.sources();
            for (origin, height) in sources.peer_heights(linked.link) {
                widen(origin, sources.peer_first(linked.link, origin), height);
            }
        }
        extents
    }

    /// Fills in what a node that holds this much lacks.
    fn compare(&self, node: &mut NodeOverview, heights: &Heights, extents: &Extents, now: Now) {
        let height = |(origin, height): (Origin, u64)| OriginHeight {
            node: origin.node,
            incarnation: origin.incarnation,
            height,
        };
        node.heights = heights.iter().map(height).collect();
        if node.state == NodeCondition::NotSeen {
            return;
        }
        for (origin, (gone, last)) in extents {
            let has = heights.get(*origin).max(*gone);
            node.lacks += last.saturating_sub(has);
            if has < *last
                && let Some(bytes) = self.replica.log().entry(*origin, has + 1)
                && let Ok((view, _)) = read_entry(&bytes)
            {
                let age_ms = now.unix_ms().saturating_sub(time::unix_ms(view.time));
                node.oldest_lacking_ms = node.oldest_lacking_ms.max(Some(age_ms));
            }
        }
        node.history = match (node.is_reached(), node.lacks) {
            (false, _) => History::Unknown,
            (true, _) if node.diverging > 0 => History::Diverging,
            (true, 0) => History::Equal,
            (true, _) => History::Lacking,
        };
    }

    /// A peer says something of itself.
    pub(super) fn peer_reports(&mut self, link: LinkId, report: NodeReport) {
        if let Some(state) = self.links.get_mut(&link) {
            state.report = Some(report);
        }
    }
}

impl NodeOverview {
    fn of(node: u16, chat_address: String, report: Option<&NodeReport>) -> Self {
        let Some(report) = report else { return Self { node, chat_address, ..Self::default() } };
        let state = if report.is_stopping {
            NodeCondition::Stopping
        } else if report.unwritable.is_empty() {
            NodeCondition::Up
        } else {
            NodeCondition::Unwritable
        };
        Self {
            node,
            chat_address,
            state,
            clients: Some(report.clients),
            people: Some(report.people),
            sees: report.sees.clone(),
            damaged: report.damaged,
            diverging: report.diverging,
            unwritable: report.unwritable.clone(),
            ..Self::default()
        }
    }

    /// Whether what is said of it is of now.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        matches!(self.state, NodeCondition::Up | NodeCondition::Stopping | NodeCondition::Unwritable)
    }
}

impl History {
    /// The two together: as good as the worse one.
    fn and(self, other: Self) -> Self {
        let rank = |history| match history {
            Self::Equal => 0,
            Self::Unknown => 1,
            Self::Lacking => 2,
            Self::Diverging => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}
