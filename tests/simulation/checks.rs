//! What must hold in the end, when all is healed and quiet.

use std::collections::{BTreeMap, BTreeSet};

use clique::{
    chat::Registration,
    node::hub::Hub,
    wire::{
        Dialect,
        extended::{Receipt, State},
    },
};

use crate::{
    model::{Entry, Talk},
    person::{ConnectionId, Reading},
    reading::{is_open, waits_for_return},
    scenario::Theme,
    world::World,
};

pub fn at_the_end(world: &World, theme: &Theme) -> Vec<String> {
    let checks = [
        linked,
        same_history,
        same_directory,
        same_ledger,
        people_know_their_names,
        kept,
        kept_in_rooms,
        honest_refusals,
        honest_receipts,
    ];
    checks.iter().flat_map(|check| check(world, theme)).collect()
}

fn hubs(world: &World) -> impl Iterator<Item = &Hub> + Clone {
    world.nodes.iter().filter(|node| node.is_running()).map(|node| &node.hub)
}

fn linked(world: &World, _: &Theme) -> Vec<String> {
    let count = hubs(world).count();
    hubs(world)
        .filter(|hub| hub.members().reachable_count() != count)
        .map(|hub| format!("node {} reaches {} of {count} nodes", hub.node(), hub.members().reachable_count()))
        .collect()
}

/// The same heights everywhere, everything applied, nothing lost that somebody held. (Bytes are compared when applied.)
fn same_history(world: &World, theme: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut heights = BTreeMap::new();
    for held in hubs(world).flat_map(|hub| hub.replica().log().held()) {
        let height = heights.entry(held.origin).or_insert(0);
        *height = held.height.max(*height);
    }
    let mut hashes = BTreeMap::new();
    for hub in hubs(world) {
        let (node, log) = (hub.node(), hub.replica().log());
        let disk = &world.nodes[usize::from(node)].disk;
        wrong.extend(disk.wrong.iter().map(|what| format!("Kept: on node {node} {what}")));
        if hub.replica().damaged().next().is_some() || hub.replica().diverging().next().is_some() {
            let wrongs: Vec<_> = hub.replica().damaged().collect();
            let differs: Vec<_> = hub.replica().diverging().collect();
            wrong.push(format!("Same everywhere: node {node} is damaged on {wrongs:?}, differs on {differs:?}"));
        }
        for origin in log.origins() {
            let hash = log.chain(origin).map(|chain| (log.floor(origin), log.height(origin), chain.hash()));
            if *hashes.entry(origin).or_insert(hash) != hash && !is_bounded(theme) {
                wrong.push(format!("Same everywhere: node {node} has another hash of {origin}"));
            }
            if log.synced(origin) != log.height(origin) {
                let (synced, height) = (log.synced(origin), log.height(origin));
                wrong.push(format!("Kept: node {node} has synced {origin} to {synced} of {height}"));
            }
        }
        for (origin, height) in &heights {
            let (held, applied) = (log.height(*origin), log.applied(*origin));
            if (held, applied) != (*height, *height) {
                let needs = log.unapplied(*origin).map(|chunk| chunk.dependencies.to_vec());
                wrong.push(format!(
                    "Same everywhere: node {node} holds {origin} to {held}, applied {applied}, of {height}; next needs {needs:?}"
                ));
            }
        }
        for ((origin, number), message) in world.model.entries.iter().filter(|_| !is_bounded(theme)) {
            let is_lost = world.model.said[*message].entry.as_ref().is_none_or(|entry| entry.is_lost);
            let is_cut = *number < log.floor(*origin);
            let is_held = is_cut || log.entry(*origin, *number).is_some() || disk.has(*origin, *number);
            let said = world.model.said[*message].entry.as_ref().map(|entry| &entry.bytes);
            if log.entry(*origin, *number).is_some_and(|bytes| Some(&bytes) != said) {
                wrong.push(format!(
                    "Same everywhere: node {node} holds something else at {origin}#{number} (m{message})"
                ));
            }
            if !is_lost && !is_held {
                wrong.push(format!("Kept: node {node} does not have {origin}#{number} (m{message})"));
            }
        }
    }
    wrong
}

fn is_bounded(theme: &Theme) -> bool {
    theme.is_bounded()
}

type View = BTreeMap<String, (String, Registration, u16)>;

fn view(hub: &Hub) -> View {
    let present = hub.directory().present();
    present
        .map(|person| (person.name.key().to_owned(), (person.name.to_string(), person.registration, person.node)))
        .collect()
}

/// One holder per name, the same everywhere, and these are the people who are connected.
fn same_directory(world: &World, _: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    let views: Vec<(u16, View, usize)> =
        hubs(world).map(|hub| (hub.node(), view(hub), hub.directory().present().count())).collect();
    for (node, view, count) in &views {
        if view.len() != *count {
            wrong.push(format!("node {node} knows {count} people under {} names", view.len()));
        }
        let differs = |one: &View, other: &View| -> Vec<String> {
            let only = one.iter().filter(|(name, holder)| other.get(*name) != Some(holder));
            only.map(|(name, (_, registration, at))| format!("{name} of {registration:?} on node {at}")).collect()
        };
        let (first, first_view, _) = &views[0];
        let (here, there) = (differs(view, first_view), differs(first_view, view));
        if !(here.is_empty() && there.is_empty()) {
            wrong.push(format!("Same everywhere: only node {node} knows {here:?}, only node {first} {there:?}"));
        }
    }
    // An abandoned connection counts for as long as its node has no reason to end it.
    let connected: BTreeSet<Registration> =
        world.connections.keys().filter_map(|connection| world.model.talks[connection].registration).collect();
    let known: BTreeSet<Registration> =
        views.iter().flat_map(|(_, view, _)| view.values()).map(|(_, registration, _)| *registration).collect();
    for registration in connected.symmetric_difference(&known) {
        let is_known = known.contains(registration);
        wrong.push(format!("People: {registration:?} is connected: {}, known: {is_known}", !is_known));
    }
    wrong
}

/// One owner for a claimed name, the same members and topics of rooms, and the same mail waiting: everywhere.
fn same_ledger(world: &World, _: &Theme) -> Vec<String> {
    let ledger = |hub: &Hub| {
        let ledger = hub.ledger();
        let owners = world.model.owners.iter().filter_map(|registration| ledger.owner_by_registration(*registration));
        let owners: BTreeMap<Registration, (String, String, usize)> = owners
            .map(|owner| {
                let unread = ledger.mailboxes().unread(owner.registration).len();
                (owner.registration, (owner.name.key().to_owned(), owner.passphrase_hash.clone(), unread))
            })
            .collect();
        let rooms: BTreeMap<String, (Vec<(Registration, u64)>, String)> = ledger
            .rooms()
            .iter()
            .map(|(name, room)| (name.to_owned(), (room.members().collect(), room.topic().to_owned())))
            .collect();
        (ledger.owner_count(), owners, rooms)
    };
    let mut wrong = Vec::new();
    let Some(first) = hubs(world).next() else { return wrong };
    let expected = ledger(first);
    for hub in hubs(world) {
        let (node, found) = (hub.node(), ledger(hub));
        if found != expected {
            wrong
                .push(format!("Same everywhere: the ledger of node {node} is {found:?}, the first one's {expected:?}"));
        }
        for (registration, (key, ..)) in &found.1 {
            if hub.ledger().owner(key).map(|owner| owner.registration) != Some(*registration) {
                wrong.push(format!("Owners: on node {node} the owner of {key} is not {registration:?}"));
            }
        }
    }
    wrong
}

fn open_talks(world: &World) -> impl Iterator<Item = (ConnectionId, &Talk)> {
    world.model.talks.iter().filter(|(_, talk)| talk.is_open).map(|(connection, talk)| (*connection, talk))
}

/// Everybody has been told what they are called, and extended clients see whom the nodes see.
fn people_know_their_names(world: &World, _: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    for (connection, talk) in open_talks(world).filter(|(_, talk)| talk.reading != Reading::Never) {
        let Some(registration) = talk.registration else {
            wrong.push(format!("person {} still has no name (connection {connection})", talk.person));
            continue;
        };
        let Some(hub) = hubs(world).find(|hub| hub.node() == talk.node) else { continue };
        let here = hub.directory().person(registration).map(|person| person.name.to_string());
        let name = &world.people[talk.person].name;
        if here.as_ref() != Some(name) {
            wrong.push(format!("person {} thinks that they are {name}; node {} says {here:?}", talk.person, talk.node));
        }
        let seen = &world.connections[&connection].people;
        let there: BTreeMap<String, u16> =
            hub.directory().present().map(|person| (person.name.to_string(), person.node)).collect();
        if talk.dialect == Dialect::Extended && *seen != there {
            wrong.push(format!("person {} sees {seen:?}, node {} sees {there:?}", talk.person, talk.node));
        }
    }
    wrong
}

/// Whoever is there has read everything that is for them; or has been told how much not.
fn kept(world: &World, theme: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    let model = &world.model;
    for (_, talk) in open_talks(world).filter(|(_, talk)| talk.reading != Reading::Never) {
        let Some(registration) = talk.registration else { continue };
        let stay = &model.stays[&registration];
        // Somebody who had to begin anew in between, at a node that did not know them, cannot say what they had before;
        // but if nodes have disks, an extended client can.
        let since = stay.connections.first().copied().unwrap_or(0);
        let has_begun_anew = model.talks.range(since..).any(|(_, other)| {
            other.person == talk.person && other.registration.is_some_and(|other| other != registration)
        });
        let goes_on = talk.dialect == Dialect::Extended && theme.disk_ms.is_some();
        if has_begun_anew && !goes_on {
            continue;
        }
        wrong.extend(goes_on.then(|| kept_across_registrations(world, talk)).flatten());
        let admitted_ms = match goes_on {
            true => model.begun_ms(talk),
            false => stay.connections.first().map_or(0, |first| model.talks[first].admitted_ms),
        };
        let is_lost = |message: usize| model.said[message].entry.as_ref().is_none_or(|entry| entry.is_lost);
        let missing: Vec<usize> = (0..model.said.len())
            .filter(|message| model.is_due(registration, admitted_ms, *message) && !is_lost(*message))
            .filter(|message| !goes_on || !model.is_before(*message, admitted_ms) && !model.is_history(talk, *message))
            .filter(|message| !(stay.heard.contains(*message) || goes_on && model.knows(talk, *message)))
            .collect();
        let told = |of: fn(&Talk) -> u64| stay.connections.iter().map(|id| of(&model.talks[id])).sum::<u64>();
        let (missed, in_cuts) = (told(|talk| talk.missed), told(|talk| talk.lost_in_cuts));
        let count = missing.len() as u64;
        // Said while the name was being asked for: it may have been for them.
        let uncertain = (0..model.said.len()).filter(|message| {
            model.is_due(registration, 0, *message) && !model.is_due(registration, admitted_ms, *message)
        });
        let uncertain = uncertain.count() as u64;
        let is_calm = theme.cut + theme.crash + theme.stop + theme.roam + theme.leave == 0;
        let is_right = if is_calm && stay.connections.len() == 1 {
            (count..=count + uncertain).contains(&missed)
        } else {
            count <= missed + in_cuts
        };
        if !is_right {
            let shown: Vec<String> = missing.iter().take(5).map(|message| format!("m{message}")).collect();
            wrong.push(format!(
                "Kept: person {} lacks {count} messages ({}) and was told of {missed} missed, {in_cuts} lost in cuts",
                talk.person,
                shown.join(", ")
            ));
        }
    }
    wrong
}

/// Whoever was connected and in a room when something was said there has read it.
fn kept_in_rooms(world: &World, _: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    let model = &world.model;
    for (connection, talk) in open_talks(world).filter(|(_, talk)| talk.reading != Reading::Never) {
        let (Some(registration), Some(hub)) = (talk.registration, hubs(world).find(|hub| hub.node() == talk.node))
        else {
            continue;
        };
        // What was said before a device logged in is history to it.
        let is_owner = model.owners.contains(&registration);
        let first = model.stays[&registration].connections.first().filter(|_| !is_owner);
        let admitted_ms = first.map_or(talk.admitted_ms, |first| model.talks[first].admitted_ms);
        let is_due = |entry: &Entry| {
            let since = entry.room.as_deref().and_then(|room| hub.ledger().rooms().member_since(room, registration));
            let is_cut = entry.number < hub.replica().log().floor(entry.origin);
            let was_there = since.is_some_and(|since| since < entry.time) && admitted_ms < entry.accepted_ms;
            was_there && entry.sender != registration && !entry.is_lost && !is_cut
        };
        let missing: Vec<String> = (0..model.said.len())
            .filter(|message| model.said[*message].entry.as_ref().is_some_and(is_due))
            .filter(|message| !model.knows(talk, *message) && !model.stays[&registration].heard.contains(*message))
            .map(|message| format!("m{message}"))
            .collect();
        if !missing.is_empty() {
            let person = talk.person;
            wrong.push(format!("Kept: person {person} (connection {connection}) lacks {missing:?} of their rooms"));
        }
    }
    wrong
}

/// Of what was sent to somebody directly nothing is missing, though they had to begin anew.
fn kept_across_registrations(world: &World, talk: &Talk) -> Option<String> {
    let model = &world.model;
    let (formers, begun_ms) = (model.registrations(talk), model.begun_ms(talk));
    let is_kept = |entry: &Entry| {
        let is_cut = hubs(world).any(|hub| entry.number < hub.replica().log().floor(entry.origin));
        !entry.is_lost && !entry.is_mail && !is_cut
    };
    let missing: Vec<String> = (0..model.said.len())
        .filter(|message| {
            let entry = model.said[*message].entry.as_ref();
            entry.is_some_and(|entry| is_kept(entry) && entry.to.is_some_and(|to| formers.contains(&to)))
        })
        .filter(|message| !model.has_heard(talk, *message) && !model.is_before(*message, begun_ms))
        .map(|message| format!("m{message}"))
        .collect();
    let (person, count) = (talk.person, formers.len());
    (!missing.is_empty()).then(|| format!("Kept: person {person}, registered {count} times, lacks {missing:?}"))
}

/// Every message on a connection that is still open was taken, or refused with a notice or receipt.
fn honest_refusals(world: &World, theme: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    for (connection, talk) in open_talks(world).filter(|(_, talk)| talk.reading != Reading::Never) {
        let unknown = talk.said.iter().filter(|message| {
            let said = &world.model.said[**message];
            said.entry.is_none() && said.to != "clique"
        });
        if talk.dialect == Dialect::Extended {
            for message in &talk.said {
                let said = &world.model.said[*message];
                let first = said.receipts.first().map(Receipt::state);
                // From a small log an entry can be gone before the model sees it.
                let was_taken = said.entry.is_some() || (is_bounded(theme) && first != Some(State::Refused));
                let is_right = match first {
                    Some(State::Accepted | State::Kept) => was_taken,
                    Some(State::Refused) => !was_taken,
                    Some(State::Delivered) => said.to == "clique",
                    _ => false,
                };
                if !is_right {
                    let is_taken = said.entry.is_some();
                    wrong.push(format!("Honest: m{message} (taken: {is_taken}) has the first receipt {first:?}"));
                }
            }
        } else if unknown.clone().count() != talk.refusals && !is_bounded(theme) {
            let (count, told) = (unknown.count(), talk.refusals);
            wrong.push(format!("Honest: {count} messages of connection {connection} were not taken, {told} notices"));
        }
    }
    wrong
}

/// Whoever wrote to somebody whose connection had just broken knows by now whether they have had it.
fn still_waiting(world: &World, theme: &Theme, message: usize, reader: Option<&Talk>) -> Option<String> {
    let said = &world.model.said[message];
    let (entry, last) = (said.entry.as_ref()?, said.receipts.last()?);
    let is_told = matches!(last.state(), State::Delivered | State::Undelivered);
    let reads = reader.is_none_or(|reader| reader.reading != Reading::Never);
    let is_cut = hubs(world).any(|hub| entry.number < hub.replica().log().floor(entry.origin));
    let to = entry.to?;
    let is_expected = hubs(world).any(|hub| hub.node() == entry.origin.node && hub.directory().is_expected(to));
    let is_wrong = waits_for_return(&said.receipts) && !is_told && !is_expected && reads;
    let what = format!("Honest: m{message} waited for a return, and its sender knows only {:?}", last.state());
    (is_wrong && !is_cut && !is_bounded(theme)).then_some(what)
}

/// Senders of direct messages who are still there know what became of them, and it is true.
fn honest_receipts(world: &World, theme: &Theme) -> Vec<String> {
    let mut wrong = Vec::new();
    let model = &world.model;
    let nodes = hubs(world).count() as u64;
    let open: Vec<(ConnectionId, &Talk)> = open_talks(world).collect();
    let senders = open.iter().filter(|(_, talk)| talk.dialect == Dialect::Extended && talk.reading != Reading::Never);
    for message in senders.flat_map(|(_, talk)| &talk.said) {
        let said = &model.said[*message];
        let (Some(entry), Some(last)) = (&said.entry, said.receipts.last()) else { continue };
        let holding = said.receipts.iter().map(|receipt| u64::from(receipt.nodes_holding)).max().unwrap_or(0);
        // Nothing more is said of what was not delivered.
        if holding != nodes && last.state() != State::Undelivered && !is_bounded(theme) {
            wrong.push(format!("Honest: m{message} is on {nodes} nodes, its sender knows of {holding}"));
        }
        let Some(to) = entry.to else { continue };
        let was = |state: State| said.receipts.iter().any(|receipt| receipt.state() == state);
        let reader = open.iter().find(|(_, talk)| talk.registration == Some(to)).copied();
        let has_read = model.stays.get(&to).is_some_and(|stay| stay.heard.contains(*message));
        if said.receipts.iter().any(|receipt| receipt.state() == State::Undelivered && !is_open(receipt)) && has_read {
            wrong.push(format!("Honest: m{message} was read, its sender was told that it was not delivered"));
        }
        wrong.extend(still_waiting(world, theme, *message, reader.map(|(_, talk)| talk)));
        let Some((connection, reader)) = reader.filter(|(_, talk)| talk.reading != Reading::Never) else { continue };
        // Written to a connection that ended before it was read, it comes again with the resumed one, if it is still there.
        // What is kept no longer is not shown again.
        let is_cut = hubs(world).any(|hub| entry.number < hub.replica().log().floor(entry.origin));
        if was(State::Delivered) && !has_read && !is_bounded(theme) && !is_cut {
            wrong.push(format!("Honest: m{message} was not read by person {}, its sender was told so", reader.person));
        }
        let read_there = reader.heard.contains(message);
        if read_there && !was(State::Delivered) {
            let state = last.state();
            wrong.push(format!(
                "Honest: m{message} was read on connection {connection}, its sender knows only {state:?}"
            ));
        }
    }
    wrong
}
