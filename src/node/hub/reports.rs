//! What people ask of the node: who is here, the state of the nodes, help.

use super::{Hub, Now, alarms::alarms, clients::count};
use crate::{
    chat::{Command, notice},
    wire::extended::{FromNode, NodeState, NodesChanged},
};

/// Names shown by `/who`; the rest is counted.
const MAX_NAMES_SHOWN: usize = 200;

impl Hub {
    pub(super) fn report_for(&self, command: Command, now: Now) -> Vec<String> {
        match command {
            Command::Who => self.who(),
            Command::Nodes => self.nodes(now),
            Command::Help => notice::help(),
            Command::Quit => vec![notice::goodbye()],
        }
    }

    /// For a newcomer who talks to the service.
    pub(super) fn state_and_tips(&self, now: Now) -> Vec<String> {
        let mut lines = vec![format!(
            "this is node {}, which sees {} of {} nodes and {}",
            self.node(),
            self.members.reachable_count(),
            self.members.known_count(),
            notice::people(self.directory.present_count())
        )];
        lines.extend(self.nodes(now).into_iter().skip(1));
        lines.push("try: * hello (to everyone), NAME hello (to one person), /who, /nodes, /help".to_owned());
        lines
    }

    fn who(&self) -> Vec<String> {
        let total = self.directory.present_count();
        let mut lines = vec![format!("{} here:", notice::people(total))];
        lines.extend(
            self.directory
                .present()
                .take(MAX_NAMES_SHOWN)
                .map(|person| format!("{} on node {}", person.name, person.node)),
        );
        if total > MAX_NAMES_SHOWN {
            lines.push(format!("and {} more", total - MAX_NAMES_SHOWN));
        }
        lines
    }

    fn nodes(&self, now: Now) -> Vec<String> {
        let (reachable, known) = (self.members.reachable_count(), self.members.known_count());
        let mut lines = vec![format!("{reachable} of {known} nodes can be reached:")];
        let mut nodes = self.node_states();
        nodes.sort_by_key(|node| node.node);
        lines.extend(nodes.iter().map(|node| {
            let index = node.node;
            let people = notice::people(node.people as usize);
            if node.here {
                format!("node {index} ({}): this one, {people}", node.chat_address)
            } else if node.reachable {
                let behind = match node.entries_behind {
                    0 => "has everything".to_owned(),
                    1 => "lacks 1 message".to_owned(),
                    behind => format!("lacks {behind} messages"),
                };
                format!("node {index} ({}): up, {people}, {behind}", node.chat_address)
            } else {
                let since = u16::try_from(index).ok().and_then(|index| self.lost_since_ms(index)).map_or_else(
                    || "not seen yet".to_owned(),
                    |since| format!("cannot be reached for {} s", now.monotonic_ms.saturating_sub(since) / 1_000),
                );
                format!("node {index} ({}): {since}", node.chat_address)
            }
        }));
        let alarms = alarms(&self.overview(now)).into_iter().filter(|alarm| !alarm.is_about_presence);
        lines.extend(alarms.map(|alarm| format!("alarm: {}", alarm.text)));
        lines
    }

    pub(super) fn nodes_frame(&self) -> FromNode {
        FromNode::NodesChanged(NodesChanged { nodes: self.node_states() })
    }

    fn node_states(&self) -> Vec<NodeState> {
        let log = self.replica.log();
        let here = NodeState {
            node: self.node().into(),
            reachable: true,
            chat_address: chat_address(&self.settings.advertise, self.settings.chat_port),
            people: count(self.directory.count_on(self.node())),
            entries_behind: 0,
            here: true,
        };
        let others = self.members.iter().map(|(member, linked)| NodeState {
            node: member.node.into(),
            reachable: linked.is_some(),
            chat_address: chat_address(&member.advertise, member.chat_port),
            people: count(self.directory.count_on(member.node)),
            entries_behind: linked.map_or(0, |linked| {
                let theirs = |origin| self.replica.sources().peer_height(linked.link, origin);
                log.held()
                    .map(|held| held.height.saturating_sub(theirs(held.origin).max(held.first - 1)))
                    .fold(0, u64::saturating_add)
            }),
            here: false,
        });
        std::iter::once(here).chain(others).collect()
    }
}

/// People reach a node on the host that it advertises, on its chat port.
pub(super) fn chat_address(advertise: &str, chat_port: u16) -> String {
    let host = advertise.rsplit_once(':').map_or(advertise, |(host, _)| host);
    format!("{host}:{chat_port}")
}
