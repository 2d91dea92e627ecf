//! What must hold in the end, when all is healed and quiet.

use std::collections::{BTreeMap, BTreeSet};

use clique::{
    clique::Origin,
    wire::{Dialect, extended::State},
};

use crate::{
    hearing::Place,
    model::{MessageId, Model, PersonId, Said},
    scene::{Answer, Scene, Standing, TICK_MS},
};

/// Whoever was there for so long when a message to everyone was said must hear it: hosts can be apart by a tick.
const CERTAINTY_MS: u64 = 2 * TICK_MS;
/// The longest that a quiet, whole clique may take to hold the same everywhere, in milliseconds.
const PROBING_MS: u64 = 3_000;

/// What keeps a healed clique from being whole.
pub fn unsettled(scene: &mut Scene) -> Vec<String> {
    let mut wrong = Vec::new();
    let (nodes, people) = (scene.nodes.len(), scene.people.len());
    for (index, node) in scene.nodes.iter().enumerate() {
        let status = *node.handle.status.borrow();
        let seen = status.map(|status| (status.nodes_reachable, status.nodes_known, status.people));
        if node.standing != Standing::Up || seen != Some((nodes, nodes, people)) {
            wrong.push(format!(
                "node {index} is {:?} and sees {seen:?} (nodes reachable, known, people); it should be {nodes}, {nodes}, {people}",
                node.standing
            ));
        }
    }
    let model = scene.stage.model();
    let lost = model.people.iter().filter(|life| life.connection.is_none());
    wrong.extend(lost.map(|life| format!("{} has not come back", life.name)));
    wrong
}

/// What is still to be heard, or to be told to its sender.
pub fn unheard(scene: &mut Scene) -> Vec<String> {
    let model = scene.stage.model();
    let nodes = u32::try_from(scene.nodes.len()).unwrap();
    (0..model.said.len())
        .flat_map(|message| [missing(&model, message), untold(&model, message, nodes)].concat())
        .collect()
}

/// Whether a node had taken a message, as far as its sender can tell.
fn is_accepted(model: &Model, message: MessageId) -> bool {
    let said = &model.said[message];
    let talk = &model.talks[said.connection];
    match talk.dialect {
        Dialect::Extended => {
            matches!(said.first(), Some(State::Accepted | State::Kept)) && !said.was(State::Undelivered)
        }
        // Without receipts: the node is still the same, and has refused nothing.
        _ => talk.is_open && talk.refusals == 0,
    }
}

/// Whether crashes can have taken the last copy, where there are no disks: as many nodes as are known to have had it have died
/// since it was said, the one that accepted it among them.
fn may_be_lost(model: &Model, said: &Said) -> bool {
    if model.has_disks {
        return false;
    }
    let dead = model.deaths.iter().filter(|(at_ms, _)| *at_ms >= said.said_ms).map(|(_, node)| *node);
    let dead: BTreeSet<u16> = dead.collect();
    let holders = usize::try_from(said.most_holding()).unwrap();
    dead.contains(&model.talks[said.connection].node) && dead.len() >= holders
}

fn is_due(model: &Model, message: MessageId, reader: PersonId) -> bool {
    let (said, life) = (&model.said[message], &model.people[reader]);
    let Some(since_ms) = life.stays.last().map(|stay| stay.since_ms) else { return false };
    if life.is_renamed || model.people[said.sender].is_renamed {
        return false;
    }
    match said.to {
        None => said.sender != reader && since_ms + CERTAINTY_MS <= said.said_ms,
        // A sender's node may take somebody for the one who had the name before.
        Some(to) => to == reader && life.is_one_stay(),
    }
}

fn missing(model: &Model, message: MessageId) -> Vec<String> {
    let said = &model.said[message];
    if !is_accepted(model, message) || may_be_lost(model, said) {
        return Vec::new();
    }
    let readers = (0..model.people.len()).filter(|reader| is_due(model, message, *reader));
    let deaf = readers.filter(|reader| !model.people[*reader].has_heard(message));
    deaf.map(|reader| format!("Kept: {} has not heard m{message}", model.people[reader].name)).collect()
}

/// Senders who are still connected where they spoke know what became of it.
fn untold(model: &Model, message: MessageId, nodes: u32) -> Vec<String> {
    let said = &model.said[message];
    let talk = &model.talks[said.connection];
    if talk.dialect != Dialect::Extended || !talk.is_open {
        return Vec::new();
    }
    // That it was heard is known only there, until its sender's node has been told.
    let is_heard = said.to.map(|to| &model.people[to]).is_some_and(|life| {
        let present = life.connection.filter(|_| life.is_one_stay());
        present.is_some_and(|connection| model.talks[connection].has_heard(message))
    });
    let is_final = said.was(State::Refused) || said.was(State::Undelivered);
    let what = if said.receipts.is_empty() {
        "nothing".to_owned()
    } else if !is_final && said.most_holding() < nodes {
        format!("only that {} of {nodes} nodes have it", said.most_holding())
    } else if is_heard && !said.was(State::Delivered) && !is_final {
        "not that it was heard".to_owned()
    } else {
        return Vec::new();
    };
    vec![format!("Honest: the sender of m{message} knows {what}")]
}

pub fn at_the_end(scene: &mut Scene) -> Vec<String> {
    let heights = match same_heights(scene) {
        Ok(heights) => heights,
        Err(wrong) => return wrong,
    };
    let model = scene.stage.model();
    (0..model.said.len()).flat_map(|message| kept(&model, message, &heights)).collect()
}

/// What every node has of what each origin said; the same everywhere, at the latest after a while.
fn same_heights(scene: &mut Scene) -> Result<BTreeMap<Origin, u64>, Vec<String>> {
    let end_ms = scene.now_ms() + PROBING_MS;
    loop {
        let mut told = heights(scene, end_ms)?;
        let differing = (1..told.len()).filter(|node| told[*node] != told[0]);
        let wrong: Vec<String> = differing
            .map(|node| format!("Same everywhere: node 0 has {:?}, node {node} {:?}", told[0], told[node]))
            .collect();
        if wrong.is_empty() {
            return Ok(told.swap_remove(0));
        }
        if scene.now_ms() >= end_ms {
            return Err(wrong);
        }
    }
}

/// Asks every node how far it has what each origin said.
fn heights(scene: &mut Scene, end_ms: u64) -> Result<Vec<BTreeMap<Origin, u64>>, Vec<String>> {
    let answers: Vec<_> = (0..scene.node_count()).map(|node| scene.probe(node)).collect();
    while answers.iter().any(|answer| answer.borrow().is_none()) && scene.now_ms() < end_ms {
        let until_ms = scene.now_ms() + TICK_MS;
        scene.run_until(until_ms);
    }
    let told = |(node, answer): (usize, &Answer)| match &*answer.borrow() {
        Some(heights) => Ok(heights.iter().filter(|(_, height)| *height > 0).collect()),
        None => Err(vec![format!("node {node} does not answer a probe")]),
    };
    answers.iter().enumerate().map(told).collect()
}

/// What is in the history was heard by everybody whom it is for; what is not, only a crash can have taken.
fn kept(model: &Model, message: MessageId, heights: &BTreeMap<Origin, u64>) -> Vec<String> {
    let said = &model.said[message];
    let Some((origin, number)): Option<Place> = said.place() else { return Vec::new() };
    if heights.get(&origin).copied().unwrap_or(0) < number {
        let text = format!("Kept: m{message} ({origin}#{number}) was accepted and is gone, and not by a crash");
        return if may_be_lost(model, said) { Vec::new() } else { vec![text] };
    }
    if said.was(State::Undelivered) {
        let has_heard = said.to.is_some_and(|to| {
            // Somebody else is one who came back unknown: what was for the former is told to the next, but not counted.
            let life = &model.people[to];
            // And one who had said goodbye can come back to a node that was restarted: the log says whose the session is, and
            // does not know of the goodbye.
            let was_gone = life.goodbyes_ms.iter().any(|at_ms| *at_ms >= said.said_ms);
            life.is_one_stay() && life.has_heard(message) && !(model.has_disks && was_gone)
        });
        return has_heard
            .then(|| format!("Honest: m{message} was heard, its sender was told that it was not"))
            .into_iter()
            .collect();
    }
    let readers = (0..model.people.len()).filter(|reader| is_due(model, message, *reader));
    let deaf = readers.filter(|reader| !model.people[*reader].has_heard(message));
    deaf.map(|reader| {
        let who = &model.people[reader].name;
        format!("Kept: m{message} ({origin}#{number}) is on every node, and {who} has not heard it")
    })
    .collect()
}
