//! The state of all nodes as a person reads it.

use std::{collections::BTreeMap, fmt::Write as _};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    chat::notice::list,
    clique::Origin,
    node::hub::{History, NodeCondition, NodeOverview, Overview},
};

/// Shown where nothing is known.
const UNKNOWN: &str = "?";

/// The nodes, the heights of their logs, and what is wrong.
#[must_use]
pub fn table(overview: &Overview) -> String {
    let mut text = format!("as node {} sees it: {}\n", overview.asked, summary(overview));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\n{}", nodes(overview).trim_fmt());
    if overview.nodes.iter().any(|node| !node.heights.is_empty()) {
        let _ = writeln!(text, "{}", heights(overview).trim_fmt());
    }
    text.push('\n');
    if overview.alarms.is_empty() {
        text.push_str("All is well.");
    }
    for (place, alarm) in overview.alarms.iter().enumerate() {
        let _ = write!(text, "{}alarm: {alarm}", if place == 0 { "" } else { "\n" });
    }
    text
}

fn summary(overview: &Overview) -> String {
    let reached = overview.nodes.iter().filter(|node| node.is_reached()).count();
    let histories = match overview.histories {
        History::Equal => "their histories are equal",
        History::Lacking => "some lack a part of the history",
        History::Diverging => "THEIR HISTORIES CONTRADICT EACH OTHER",
        History::Unknown => "whether their histories are equal is not known yet",
    };
    let oldest = match overview.oldest_lacking_ms {
        Some(age_ms) => format!("the oldest message that is not everywhere is {} old", age(age_ms)),
        None => "every message is everywhere".to_owned(),
    };
    format!("{reached} of {} nodes can be reached; {histories}; {oldest}", overview.nodes_known)
}

fn nodes(overview: &Overview) -> Table {
    let mut table = new_table();
    table.set_header(["node", "state", "chat", "clients", "people", "lacks", "oldest", "sees", "history"]);
    for node in &overview.nodes {
        table.add_row([
            node.node.to_string(),
            state(node),
            node.chat_address.clone(),
            known(node.clients),
            known(node.people),
            node.lacks.to_string(),
            node.oldest_lacking_ms.map_or("-".to_owned(), age),
            if node.is_reached() { sees(node) } else { UNKNOWN.to_owned() },
            history(node),
        ]);
    }
    table
}

fn known(count: Option<u32>) -> String {
    count.map_or(UNKNOWN.to_owned(), |count| count.to_string())
}

fn sees(node: &NodeOverview) -> String {
    if node.sees.is_empty() { "nobody".to_owned() } else { list(&node.sees) }
}

fn state(node: &NodeOverview) -> String {
    let since = node.unreachable_ms.map(|ms| format!(" for {}", age(ms))).unwrap_or_default();
    match node.state {
        NodeCondition::Up => "up".to_owned(),
        NodeCondition::Stopping => "stopping".to_owned(),
        NodeCondition::Unwritable => "up, disk not writable".to_owned(),
        NodeCondition::Unreachable => format!("UNREACHABLE{since}"),
        NodeCondition::Stopped => format!("stopped{since}"),
        NodeCondition::NotSeen => "not seen yet".to_owned(),
    }
}

fn history(node: &NodeOverview) -> String {
    let mut text = match node.history {
        History::Equal => "equal",
        History::Lacking => "behind",
        History::Diverging => "DIVERGING",
        History::Unknown => UNKNOWN,
    }
    .to_owned();
    if node.damaged > 0 {
        let _ = write!(text, ", {} DAMAGED", node.damaged);
    }
    text
}

/// One row per origin: how far each node holds its log. Of former lives only those on which the nodes differ.
fn heights(overview: &Overview) -> Table {
    let mut table = new_table();
    let mut origins: BTreeMap<Origin, Vec<Option<u64>>> = BTreeMap::new();
    for (place, node) in overview.nodes.iter().enumerate() {
        for height in &node.heights {
            let origin = Origin { node: height.node, incarnation: height.incarnation };
            let row = origins.entry(origin).or_insert_with(|| vec![None; overview.nodes.len()]);
            row[place] = Some(height.height);
        }
    }
    let mut header = vec!["log of".to_owned()];
    header.extend(overview.nodes.iter().map(|node| format!("on node {}", node.node)));
    table.set_header(header);
    let latest: BTreeMap<u16, u64> = origins.keys().map(|origin| (origin.node, origin.incarnation)).collect();
    for (origin, row) in &origins {
        let top = row.iter().flatten().max().copied().unwrap_or(0);
        let is_latest = latest.get(&origin.node) == Some(&origin.incarnation);
        if !is_latest && row.iter().all(|height| *height == Some(top)) {
            continue;
        }
        let of =
            if is_latest { format!("node {}", origin.node) } else { format!("node {}, a former life", origin.node) };
        let mut cells = vec![of];
        cells.extend(row.iter().map(|height| cell(*height, top)));
        table.add_row(cells);
    }
    table
}

fn cell(height: Option<u64>, top: u64) -> String {
    match height {
        Some(height) if height < top => format!("{height} (-{})", top - height),
        Some(height) => height.to_string(),
        None if top == 0 => "0".to_owned(),
        None => UNKNOWN.to_owned(),
    }
}

/// A time span in one unit.
fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::hub::OriginHeight;

    fn node(node: u16, heights: &[(u16, u64)]) -> NodeOverview {
        let heights =
            heights.iter().map(|(node, height)| OriginHeight { node: *node, incarnation: 1, height: *height });
        NodeOverview {
            node,
            chat_address: format!("127.0.0.1:40{node}0"),
            state: NodeCondition::Up,
            clients: Some(2),
            people: Some(1),
            sees: vec![1 - node],
            history: History::Equal,
            heights: heights.collect(),
            ..NodeOverview::default()
        }
    }

    #[test]
    fn what_is_wrong_is_in_the_table_and_below_it() {
        let mut overview =
            Overview { nodes_known: 2, nodes: vec![node(0, &[(0, 9)]), node(1, &[(0, 7)])], ..Overview::default() };
        overview.histories = History::Equal;
        assert!(table(&overview).ends_with("All is well."), "{}", table(&overview));
        let lost = &mut overview.nodes[1];
        (lost.state, lost.unreachable_ms, lost.lacks) = (NodeCondition::Unreachable, Some(65_000), 2);
        overview.alarms = vec!["node 1 is away".to_owned(), "and that is bad".to_owned()];
        let shown = table(&overview);
        for part in
            ["1 of 2 nodes can be reached", "UNREACHABLE for 65 s", "7 (-2)", "alarm: node 1 is away\nalarm: and"]
        {
            assert!(shown.contains(part), "{part} is not in:\n{shown}");
        }
    }
}
