use proptest::prelude::*;

use super::*;

/// Until when whoever has just gone is expected back.
const SOON: u64 = RETURN_MS;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn given(directory: &mut Directory, text: &str, now: u64) -> Person {
    let Registering::Given(person) = directory.register(name(text), None, None, None, now) else {
        panic!("{text} should be given without asking");
    };
    directory.admit(person.clone());
    person
}

#[test]
fn a_lone_node_gives_a_name_once() {
    let mut directory = Directory::new(0);
    given(&mut directory, "Bob", 1);
    assert_eq!(directory.register(name("bOB"), None, None, None, 2), Registering::Taken);
}

#[test]
fn a_name_is_asked_of_every_reachable_node_and_one_no_is_enough() {
    let mut directory = Directory::new(0);
    directory.node_up(1, vec![], SOON);
    directory.node_up(2, vec![], SOON);
    let Registering::Ask { ballot, voters, .. } = directory.register(name("bob"), None, None, None, 5) else {
        panic!("others must be asked");
    };
    assert_eq!(voters, [1, 2]);
    assert_eq!(directory.voted(1, ballot, true, None), None);
    assert!(!directory.voted(2, ballot, false, None).unwrap().given);
}

#[test]
fn a_vote_that_cannot_come_any_more_does_not_hold_up_the_ballot() {
    let mut directory = Directory::new(0);
    directory.node_up(1, vec![], SOON);
    let Registering::Ask { .. } = directory.register(name("bob"), None, None, None, 5) else { panic!() };
    let (_, settled) = directory.node_down(1, false, SOON);
    assert!(settled[0].given);
}

#[test]
fn of_two_nodes_that_give_out_a_name_at_once_the_earlier_succeeds() {
    let mut early = Directory::new(0);
    let mut late = Directory::new(1);
    early.node_up(1, vec![], SOON);
    late.node_up(0, vec![], SOON);
    let Registering::Ask { person: first, .. } = early.register(name("bob"), None, None, None, 5) else { panic!() };
    let Registering::Ask { person: second, .. } = late.register(name("bob"), None, None, None, 6) else { panic!() };
    let (granted, lost) = late.asked(&first);
    assert!(granted && lost.len() == 1 && !lost[0].given);
    assert_eq!(early.asked(&second), (false, vec![]));
}

#[test]
fn after_a_split_the_earlier_registration_keeps_the_name_and_the_later_is_renamed() {
    let mut left = Directory::new(0);
    let mut right = Directory::new(3);
    let early = given(&mut left, "bob", 10);
    let late = given(&mut right, "Bob", 20);
    left.node_up(3, vec![late.clone()], SOON);
    let changes = right.node_up(0, vec![early.clone()], SOON);
    let Some(Change::RenamedHere { person, old }) = changes.last() else { panic!("{changes:?}") };
    assert_eq!((person.name.as_str(), old.as_str()), ("Bob~3", "Bob"));
    assert_eq!(person.registration, late.registration);
    left.joined(person.clone());
    for directory in [&left, &right] {
        assert!(matches!(directory.lookup("bob"), Lookup::Present(p) if p.registration == early.registration));
        assert!(matches!(directory.lookup("bob~3"), Lookup::Present(p) if p.registration == late.registration));
    }
}

#[test]
fn people_on_a_lost_node_are_away_and_their_names_are_free() {
    let mut directory = Directory::new(0);
    let bob = given(&mut Directory::new(1), "bob", 3);
    directory.node_up(1, vec![bob.clone()], SOON);
    directory.node_down(1, false, SOON);
    assert_eq!(directory.lookup("bob"), Lookup::Away(&bob));
    let Registering::Given(_) = directory.register(name("bob"), None, None, None, 9) else { panic!() };
    directory.node_up(1, vec![], SOON);
    directory.node_down(1, true, SOON);
    assert_eq!(directory.lookup("bob"), Lookup::Unknown);
}

#[test]
fn a_client_with_its_session_key_gets_its_registration_back_on_another_node() {
    let hash = Some([7; 32]);
    let mut first = Directory::new(0);
    let Registering::Given(person) = first.register(name("bob"), hash, None, None, 5) else { panic!() };
    first.admit(person.clone());
    let mut second = Directory::new(1);
    second.node_up(0, vec![person.clone()], SOON);
    assert_eq!(second.register(name("bob"), Some([8; 32]), None, None, 6), Registering::Taken);
    let Registering::Ask { ballot, person: moved, .. } = second.register(name("bob"), hash, None, None, 7) else {
        panic!()
    };
    assert_eq!(moved.registration, person.registration);
    assert!(first.asked(&moved).0);
    second.voted(0, ballot, true, None).unwrap();
    first.node_up(1, vec![], SOON);
    let changes = first.joined(moved);
    assert!(changes.contains(&Change::MovedAway { registration: person.registration, node: 1 }));
}

proptest! {
    /// Whatever two sides gave out, both end with one holder per name, and the same one.
    #[test]
    fn two_sides_of_a_cut_agree_after_healing(
        left_names in proptest::collection::btree_map("[a-c]{1,2}", 0..100_u64, 0..6),
        right_names in proptest::collection::btree_map("[a-c]{1,2}", 0..100_u64, 0..6),
    ) {
        let mut sides = [Directory::new(0), Directory::new(1)];
        for (side, names) in sides.iter_mut().zip([left_names, right_names]) {
            for (text, time) in names {
                given(side, &text, time);
            }
        }
        let people: Vec<Vec<Person>> =
            sides.iter().zip([0, 1]).map(|(side, node)| side.people_on(node).cloned().collect()).collect();
        let mut outbox: Vec<(usize, Person)> = Vec::new();
        for (side, other) in [(0_usize, 1_u16), (1, 0)] {
            for change in sides[side].node_up(other, people[usize::from(other)].clone(), SOON) {
                if let Change::RenamedHere { person, .. } = change {
                    outbox.push((usize::from(other), person));
                }
            }
        }
        while let Some((to, person)) = outbox.pop() {
            for change in sides[to].joined(person) {
                if let Change::RenamedHere { person, .. } = change {
                    outbox.push((1 - to, person));
                }
            }
        }
        let view = |side: &Directory| -> Vec<(String, Registration)> {
            side.present().map(|p| (p.name.key().to_owned(), p.registration)).collect()
        };
        let (left, right) = (view(&sides[0]), view(&sides[1]));
        prop_assert_eq!(&left, &right);
        let mut keys: Vec<&String> = left.iter().map(|(key, _)| key).collect();
        let all = keys.len();
        keys.dedup();
        prop_assert_eq!(keys.len(), all, "one holder per name");
    }
}
