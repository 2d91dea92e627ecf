//! Who is where, as the node tells it.

use std::collections::BTreeMap;

use crate::wire::extended::PeopleChanged;

/// Most changes at once that are named one by one.
const MAX_NAMED: usize = 3;

/// Everybody, by name, with the index of their node.
#[derive(Debug, Default, Clone)]
pub struct People(BTreeMap<String, u32>);

impl People {
    /// A new connection: a snapshot follows.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Enters a change and says it in a few sentences; a snapshot goes without saying.
    pub fn apply(&mut self, change: &PeopleChanged, me: &str) -> Vec<String> {
        if change.snapshot {
            self.0.clear();
        }
        let mut sentences = Vec::new();
        let (mut joined, mut left) = (0, 0);
        for name in &change.left {
            let moved = change.joined.iter().any(|person| person.name == *name);
            if !moved && self.0.remove(name).is_some() && name != me {
                left += 1;
                sentences.push(format!("{name} has left"));
            }
        }
        for person in &change.joined {
            let before = self.0.insert(person.name.clone(), person.node);
            if !change.snapshot && before.is_none() && person.name != me {
                joined += 1;
                sentences.push(format!("{} is here, on node {}", person.name, person.node));
            }
        }
        if change.snapshot {
            return Vec::new();
        }
        if sentences.len() > MAX_NAMED {
            let some = |count: usize, what: &str| (count > 0).then(|| format!("{count} people {what}"));
            let both: Vec<String> =
                [some(left, "have left"), some(joined, "have come")].into_iter().flatten().collect();
            return vec![both.join(", ")];
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extended::PersonAt;

    fn change(snapshot: bool, joined: &[&str], left: &[&str]) -> PeopleChanged {
        let at = |name: &&str| PersonAt { name: (*name).to_owned(), node: 1 };
        PeopleChanged {
            snapshot,
            joined: joined.iter().map(at).collect(),
            left: left.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn changes_are_said_and_snapshots_and_oneself_are_not() {
        let mut people = People::default();
        assert!(people.apply(&change(true, &["alice", "bob"], &[]), "alice").is_empty());
        assert_eq!(
            people.apply(&change(false, &["carol", "alice"], &["bob"]), "alice"),
            ["bob has left", "carol is here, on node 1"]
        );
        assert_eq!(people.names().collect::<Vec<_>>(), ["alice", "carol"]);
        // Somebody who moves to another node neither leaves nor comes.
        assert!(people.apply(&change(false, &["carol"], &["carol"]), "alice").is_empty());
    }

    #[test]
    fn many_changes_are_one_sentence() {
        let mut people = People::default();
        people.apply(&change(true, &["a", "b"], &[]), "me");
        assert_eq!(
            people.apply(&change(false, &["c", "d", "e"], &["a", "b"]), "me"),
            ["2 people have left, 3 people have come"]
        );
    }
}
