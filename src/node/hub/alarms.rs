//! What is wrong with the clique, as far as one node can tell: a sentence each, for `clique status` and `/nodes`.

use super::overview::{NodeCondition, NodeOverview, Overview};
use crate::chat::notice::list;

/// A node that lacks entries for longer than this is not just busy, in milliseconds.
pub const MAX_LACKING_MS: u64 = 5_000;

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    /// Whether a node can be reached at all; the line of a node in `/nodes` says that itself.
    pub(super) is_about_presence: bool,
    pub(super) text: String,
}

/// Everything that is wrong.
pub(super) fn alarms(overview: &Overview) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let mut alarm = |is_about_presence, text| alarms.push(Alarm { is_about_presence, text });
    match overview.nodes_known.saturating_sub(overview.nodes.len()) {
        0 => {}
        1 => alarm(true, "1 node has not been seen yet".to_owned()),
        missing => alarm(true, format!("{missing} nodes have not been seen yet")),
    }
    for node in &overview.nodes {
        if let Some(text) = presence(node, overview) {
            alarm(true, text);
        }
        faults(node).into_iter().for_each(|text| alarm(false, text));
    }
    for (one, other) in cut_pairs(overview) {
        alarm(false, format!("nodes {one} and {other} cannot see each other"));
    }
    alarms
}

/// Why a node cannot be reached, and who can.
fn presence(node: &NodeOverview, overview: &Overview) -> Option<String> {
    let index = node.node;
    let seconds = node.unreachable_ms.unwrap_or(0) / 1_000;
    let mut text = match node.state {
        NodeCondition::Up | NodeCondition::Unwritable => return None,
        NodeCondition::Stopping => return Some(format!("node {index} is stopping")),
        NodeCondition::Stopped => format!("node {index} was stopped {seconds} s ago"),
        NodeCondition::Unreachable => format!("node {index} cannot be reached for {seconds} s"),
        NodeCondition::NotSeen => format!("node {index} has not been seen yet"),
    };
    if node.lacks > 0 {
        text.push_str(&format!("; it lacks at least {}", messages(node.lacks)));
    }
    let seen_by = overview.nodes.iter().filter(|other| other.is_reached() && other.sees.contains(&index));
    let seen_by: Vec<u16> = seen_by.map(|other| other.node).collect();
    if !seen_by.is_empty() {
        let noun = if seen_by.len() == 1 { "node" } else { "nodes" };
        text.push_str(&format!("; {noun} {} can reach it", list(&seen_by)));
    }
    Some(text)
}

fn faults(node: &NodeOverview) -> Vec<String> {
    let index = node.node;
    let mut faults = Vec::new();
    if !node.unwritable.is_empty() {
        faults
            .push(format!("node {index} takes no messages, because it cannot write to its disk: {}", node.unwritable));
    }
    if node.damaged > 0 {
        let what = if node.damaged == 1 { "1 stretch".to_owned() } else { format!("{} stretches", node.damaged) };
        faults.push(format!("{what} of the history on node {index} cannot be read back; its peers are asked for it"));
    }
    if node.diverging > 0 {
        let what = if node.diverging == 1 { "1 stretch".to_owned() } else { format!("{} stretches", node.diverging) };
        faults.push(format!("on {what} the history of node {index} contradicts that of another node"));
    }
    let oldest_ms = node.oldest_lacking_ms.unwrap_or(0);
    if node.is_reached() && oldest_ms > MAX_LACKING_MS {
        faults.push(format!(
            "node {index} lacks {}, the oldest for {} s, although it can be reached",
            messages(node.lacks),
            oldest_ms / 1_000
        ));
    }
    faults
}

/// Two nodes that can be reached from here but do not see each other.
fn cut_pairs(overview: &Overview) -> Vec<(u16, u16)> {
    let reached: Vec<&NodeOverview> =
        overview.nodes.iter().filter(|node| node.is_reached() && node.clients.is_some()).collect();
    let mut pairs = Vec::new();
    for (place, one) in reached.iter().enumerate() {
        // What two nodes say of each other is not of the same moment: only if neither sees the other is there a cut.
        let blind = reached
            .iter()
            .skip(place + 1)
            .filter(|other| !one.sees.contains(&other.node) && !other.sees.contains(&one.node));
        pairs.extend(blind.map(|other| (one.node, other.node)));
    }
    pairs
}

/// `"1 message"`, `"2 messages"`.
fn messages(count: u64) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u16, sees: &[u16]) -> NodeOverview {
        NodeOverview {
            node,
            state: NodeCondition::Up,
            clients: Some(0),
            sees: sees.to_vec(),
            ..NodeOverview::default()
        }
    }

    fn texts(nodes: Vec<NodeOverview>, nodes_known: usize) -> Vec<String> {
        let overview = Overview { nodes_known, nodes, ..Overview::default() };
        alarms(&overview).into_iter().map(|alarm| alarm.text).collect()
    }

    #[test]
    fn a_whole_clique_that_is_only_busy_gives_no_alarm() {
        let mut behind = node(2, &[0, 1]);
        (behind.lacks, behind.oldest_lacking_ms) = (900, Some(MAX_LACKING_MS));
        assert_eq!(texts(vec![node(0, &[1, 2]), node(1, &[0, 2]), behind], 3), [""; 0]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_in_a_sentence_each() {
        let mut lost = node(2, &[]);
        (lost.state, lost.unreachable_ms, lost.lacks) = (NodeCondition::Unreachable, Some(12_900), 37);
        let mut full = node(3, &[0, 1]);
        (full.state, full.unwritable) = (NodeCondition::Unwritable, "no space is left".to_owned());
        (full.damaged, full.diverging, full.lacks, full.oldest_lacking_ms) = (2, 1, 1, Some(9_000));
        let said = texts(vec![node(0, &[3]), node(1, &[2, 3]), lost, full], 5);
        assert_eq!(
            said,
            [
                "1 node has not been seen yet",
                "node 2 cannot be reached for 12 s; it lacks at least 37 messages; node 1 can reach it",
                "node 3 takes no messages, because it cannot write to its disk: no space is left",
                "2 stretches of the history on node 3 cannot be read back; its peers are asked for it",
                "on 1 stretch the history of node 3 contradicts that of another node",
                "node 3 lacks 1 message, the oldest for 9 s, although it can be reached",
                "nodes 0 and 1 cannot see each other",
            ]
        );
    }
}
