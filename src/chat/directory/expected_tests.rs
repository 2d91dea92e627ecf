use super::*;
use crate::chat::directory::Registering;

const KEY: Option<[u8; 32]> = Some([7; 32]);
const OTHER_KEY: Option<[u8; 32]> = Some([8; 32]);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn asks(directory: &mut Directory, text: &str, key: Option<[u8; 32]>, now: u64) -> Registering {
    directory.register(name(text), key, None, None, now)
}

/// Somebody with this key on the node of a directory that has nobody else to ask.
fn given(directory: &mut Directory, text: &str, key: Option<[u8; 32]>, now: u64) -> Person {
    let Registering::Given(person) = asks(directory, text, key, now) else { panic!("{text} should be given") };
    directory.admit(person.clone());
    person
}

/// Their connection breaks.
fn breaks(directory: &mut Directory, person: &Person, until_ms: u64) {
    directory.left(person.node, person.registration);
    directory.expect(person.registration, until_ms);
}

#[test]
fn whose_connection_has_broken_keeps_the_name_and_gets_it_with_their_key() {
    let mut directory = Directory::new(0);
    let bob = given(&mut directory, "bob", KEY, 1);
    breaks(&mut directory, &bob, 30_000);
    assert_eq!(directory.lookup("bob"), Lookup::Expected(&bob));
    assert_eq!(asks(&mut directory, "Bob", OTHER_KEY, 2), Registering::Taken);
    assert_eq!(asks(&mut directory, "bob", None, 2), Registering::Taken);
    assert_eq!(directory.held_for_ms(&name("BOB"), 1_000), Some(29_000));
    let back = given(&mut directory, "bob", KEY, 3);
    assert_eq!((back.registration, directory.held_for_ms(&name("bob"), 1_000)), (bob.registration, None));
    assert_eq!(directory.lookup("bob"), Lookup::Present(&back));
    assert!(directory.let_go(u64::MAX).is_empty(), "who came back is not let go");
}

#[test]
fn after_the_time_the_name_is_free_and_it_is_told_who_has_not_come_back() {
    let mut directory = Directory::new(0);
    let bob = given(&mut directory, "bob", KEY, 1);
    breaks(&mut directory, &bob, 30_000);
    let version = directory.version();
    assert!(directory.let_go(29_999).is_empty());
    assert_eq!((directory.version(), directory.let_go_due_ms()), (version, Some(30_000)));
    assert_eq!(directory.let_go(30_000), [bob.registration]);
    assert!(directory.version() > version, "what is remembered of the name is not so any more");
    assert_eq!((directory.lookup("bob"), directory.let_go_due_ms()), (Lookup::Unknown, None));
    assert!(directory.may_resume(bob.registration), "the session outlives it");
    given(&mut directory, "bob", OTHER_KEY, 2);
}

#[test]
fn who_says_goodbye_or_cannot_resume_is_not_expected() {
    let mut directory = Directory::new(0);
    let bob = given(&mut directory, "bob", KEY, 1);
    directory.left(0, bob.registration);
    directory.forget(bob.registration);
    directory.expect(bob.registration, 30_000);
    assert_eq!(directory.lookup("bob"), Lookup::Unknown);
    let ann = given(&mut directory, "ann", None, 2);
    breaks(&mut directory, &ann, 30_000);
    assert_eq!(directory.lookup("ann"), Lookup::Unknown);
    let owner = Person { is_claimed: true, ..given(&mut directory, "cleo", KEY, 3) };
    directory.admit(owner.clone());
    breaks(&mut directory, &owner, 30_000);
    assert_eq!(directory.lookup("cleo"), Lookup::Unknown);
    // The goodbye of a connection that this node was told of as broken comes behind.
    let dora = given(&mut directory, "dora", OTHER_KEY, 4);
    breaks(&mut directory, &dora, 30_000);
    directory.forget(dora.registration);
    assert_eq!(directory.lookup("dora"), Lookup::Unknown);
    assert_eq!(directory.let_go(0), [dora.registration]);
}

#[test]
fn the_people_of_a_lost_node_are_away_and_their_names_are_held_for_a_while() {
    let mut directory = Directory::new(0);
    let bob = given(&mut Directory::new(1), "bob", KEY, 3);
    directory.node_up(1, vec![bob.clone()], 0);
    directory.node_down(1, false, 30_000);
    assert_eq!(directory.lookup("bob"), Lookup::Away(&bob), "what is sent to them waits for their node");
    assert_eq!(asks(&mut directory, "bob", OTHER_KEY, 9), Registering::Taken);
    directory.let_go(30_000);
    assert_eq!(directory.lookup("bob"), Lookup::Away(&bob));
    given(&mut directory, "bob", OTHER_KEY, 9);
}

#[test]
fn the_people_of_a_node_that_has_restarted_are_expected_back() {
    let mut directory = Directory::new(0);
    let bob = given(&mut Directory::new(1), "bob", KEY, 3);
    directory.node_up(1, vec![bob.clone()], 0);
    directory.node_up(1, vec![], 30_000);
    assert_eq!(directory.lookup("bob"), Lookup::Expected(&bob));
    // Whether its link was seen to be down or not.
    directory.node_up(1, vec![bob.clone()], 0);
    directory.node_down(1, false, 40_000);
    directory.node_up(1, vec![], 50_000);
    assert_eq!((directory.lookup("bob"), directory.let_go_due_ms()), (Lookup::Expected(&bob), Some(40_000)));
}

#[test]
fn every_node_holds_the_name_and_each_lets_its_person_have_it() {
    let mut first = Directory::new(0);
    let bob = given(&mut first, "bob", KEY, 5);
    let mut second = Directory::new(1);
    second.node_up(0, vec![bob.clone()], 0);
    breaks(&mut first, &bob, 30_000);
    breaks(&mut second, &bob, 30_000);
    // One that comes now hears of it from the node where it happened.
    let mut third = Directory::new(2);
    third.node_up(0, vec![], 0);
    let told: Vec<(Person, u64)> = first.expected_here(1_000).map(|(person, ms)| (person.clone(), ms)).collect();
    assert_eq!(told, [(bob.clone(), 29_000)]);
    assert_eq!(second.expected_here(1_000).count(), 0, "each node speaks for its own people");
    third.expected_there(bob.clone(), 29_000);
    assert_eq!(third.lookup("bob"), Lookup::Expected(&bob));
    let stranger = Person { registration: Registration { time: 9, node: 3 }, key_hash: OTHER_KEY, ..bob.clone() };
    // As a node asks that has forgotten whose key it is.
    let themself = Person { key_hash: KEY, ..stranger.clone() };
    for directory in [&mut first, &mut second, &mut third] {
        assert!(!directory.asked(&stranger).0);
        assert!(directory.asked(&themself).0 && directory.asked(&bob).0);
    }
    assert_eq!(asks(&mut third, "bob", OTHER_KEY, 7), Registering::Taken);
    let Registering::Ask { person, .. } = asks(&mut third, "bob", KEY, 7) else { panic!("it is asked for") };
    assert_eq!(person.registration, bob.registration);
    third.admit(person.clone());
    first.node_up(2, vec![person.clone()], 0);
    assert_eq!(first.lookup("bob"), Lookup::Present(&person));
    assert!(first.let_go(u64::MAX).is_empty());
}

#[test]
fn who_is_connected_elsewhere_is_not_expected() {
    let mut directory = Directory::new(0);
    let bob = given(&mut directory, "bob", KEY, 1);
    let there = Person { node: 1, attached: 2, ..bob.clone() };
    directory.node_up(1, vec![there.clone()], 0);
    breaks(&mut directory, &bob, 30_000);
    assert_eq!((directory.lookup("bob"), directory.let_go_due_ms()), (Lookup::Present(&there), None));
    directory.expected_there(Person { node: 2, ..bob }, 30_000);
    assert_eq!(directory.let_go_due_ms(), None);
}

#[test]
fn who_has_the_name_from_the_other_side_of_a_cut_moves_though_somebody_is_expected_under_it() {
    let mut directory = Directory::new(0);
    let bob = given(&mut directory, "bob", KEY, 5);
    breaks(&mut directory, &bob, 30_000);
    let other = given(&mut Directory::new(1), "bob", OTHER_KEY, 4);
    directory.node_up(1, vec![other.clone()], 0);
    assert!(directory.asked(&Person { node: 2, ..other.clone() }).0);
    directory.left(1, other.registration);
    directory.expect(other.registration, 30_000);
    // Both are expected: whoever is back first has it.
    assert!(directory.asked(&bob).0 && directory.asked(&other).0);
}

#[test]
fn the_one_who_lost_a_conflict_is_not_given_a_name_that_is_held() {
    let mut directory = Directory::new(3);
    let held = given(&mut directory, "bob~3", KEY, 5);
    breaks(&mut directory, &held, 30_000);
    let late = given(&mut directory, "bob", None, 20);
    let early = given(&mut Directory::new(1), "bob", None, 10);
    let changes = directory.node_up(1, vec![early], 0);
    let renamed = changes.iter().find_map(|change| match change {
        super::super::Change::RenamedHere { person, .. } => Some(person),
        _ => None,
    });
    let renamed = renamed.expect("the later one is renamed");
    assert_eq!(renamed.registration, late.registration);
    assert_ne!(renamed.name.key(), held.name.key());
}

#[test]
fn the_longest_expected_are_let_go_where_there_are_too_many() {
    let mut directory = Directory::new(0);
    let people: Vec<Person> = (0..=MAX_EXPECTED as u64)
        .map(|number| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            given(&mut directory, &format!("p{number}"), Some(key), number + 1)
        })
        .collect();
    for (person, until_ms) in people.iter().zip(1..) {
        breaks(&mut directory, person, until_ms);
    }
    assert_eq!(directory.let_go(0), [people[0].registration]);
    assert_eq!(directory.let_go_due_ms(), Some(2));
}
