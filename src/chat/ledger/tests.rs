use proptest::prelude::*;

use super::*;
use crate::chat::{
    Name, Registration,
    change::{Claim, Membership, Session, Topic},
};

/// What an entry can say, as far as the ledger cares.
#[derive(Debug, Clone)]
enum Said {
    Public,
    ToRoom(&'static str),
    ToOwner(Registration),
    Change(StateChange),
}

fn registration() -> impl Strategy<Value = Registration> {
    (1..6_u64, 0..3_u16).prop_map(|(time, node)| Registration { time, node })
}

fn room() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("#tea"), Just("#ops")]
}

fn id() -> impl Strategy<Value = EntryId> {
    (0..3_u16, 1..60_u64).prop_map(|(node, number)| EntryId { node, incarnation: 1, number })
}

fn change() -> impl Strategy<Value = StateChange> {
    let names = prop_oneof![Just("bob"), Just("Bob"), Just("bob~1"), Just("eve")];
    let kind = prop_oneof![
        (names, registration(), 0..3_u16, 1..9_u64, "[ab]").prop_map(
            |(name, registration, node, claimed, passphrase_hash)| {
                ChangeKind::Claim(Claim { name: name.to_owned(), registration, node, claimed, passphrase_hash })
            }
        ),
        (room(), registration(), any::<bool>()).prop_map(|(room, registration, is_member)| {
            ChangeKind::Membership(Membership { room: room.to_owned(), registration, is_member })
        }),
        (room(), "[a-c]?").prop_map(|(room, text)| ChangeKind::Topic(Topic { room: room.to_owned(), text })),
        (registration(), proptest::collection::vec(id(), 0..3))
            .prop_map(|(registration, heights)| ChangeKind::Read(Read { registration, heights })),
        (registration(), 0..3_u8).prop_map(|(registration, key)| {
            ChangeKind::Session(Session { name: "bob".to_owned(), registration, key_hash: [key; 32] })
        }),
    ];
    (1..9_u64, kind).prop_map(|(time, kind)| StateChange { time, kind })
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        1 => Just(Said::Public),
        1 => room().prop_map(Said::ToRoom),
        2 => registration().prop_map(Said::ToOwner),
        4 => change().prop_map(Said::Change),
    ]
}

/// Entries with distinct places in the log.
fn entries() -> impl Strategy<Value = Vec<(EntryId, u64, Said)>> {
    proptest::collection::btree_map(id(), (1..20_u64, said()), 1..40)
        .prop_map(|entries| entries.into_iter().map(|(id, (time, said))| (id, time, said)).collect())
}

fn take(ledger: &mut Ledger, (id, time, said): &(EntryId, u64, Said)) {
    let to = match said {
        Said::Public => Addressee::Everyone,
        Said::ToRoom(room) => Addressee::Room(room),
        Said::ToOwner(registration) => Addressee::Owner("bob", *registration),
        Said::Change(change) => {
            ledger.take_change(*id, *time, change);
            return;
        }
    };
    let sender_registration = Registration { time: 1, node: 0 };
    let message = Message { sender: "a", sender_registration, to, text: b"", receipts: false, trace: None };
    ledger.take_message(*id, *time, &message);
}

/// All that can be asked of a ledger, as text.
fn state(ledger: &Ledger) -> String {
    let mut lines = Vec::new();
    for registration in (0..7).flat_map(|time| (0..4).map(move |node| Registration { time, node })) {
        let owner = ledger.owner_by_registration(registration);
        let holds = owner.map(|owner| ledger.owner(owner.name.key()).map(|owner| owner.registration));
        let rooms: Vec<&str> = ledger.rooms.of(registration).collect();
        let (read, unread) = (ledger.mailboxes.read(registration), ledger.mailboxes.unread(registration));
        let session = ledger.sessions.get(registration);
        lines.push(format!("{owner:?} {holds:?} {rooms:?} {read:?} {unread:?} {session:?}"));
    }
    for (name, room) in ledger.rooms.iter() {
        let members: Vec<_> = room.members().collect();
        lines.push(format!("{name} {members:?} {:?} {:?}", room.topic(), room.recent()));
    }
    for key in 0..3 {
        lines.push(format!("{:?}", ledger.sessions.of_key([key; 32]).collect::<Vec<_>>()));
    }
    lines.push(format!("{:?} {:?}", ledger.public, ledger.mailboxes.unread_count(Registration { time: 1, node: 0 })));
    lines.join("\n")
}

fn ledger_of(entries: &[(EntryId, u64, Said)], settling: usize) -> Ledger {
    let mut ledger = Ledger::default();
    for (index, entry) in entries.iter().enumerate() {
        take(&mut ledger, entry);
        if settling > 0 && index % settling == 0 {
            ledger.settle_names();
        }
    }
    ledger.settle_names();
    ledger
}

proptest! {
    #[test]
    fn the_same_entries_in_any_order_and_more_than_once_give_the_same_state(
        (ordered, shuffled) in entries().prop_flat_map(|entries| (Just(entries.clone()), Just(entries).prop_shuffle())),
        settling in 0..5_usize,
        again in any::<prop::sample::Index>(),
    ) {
        let mut twice = shuffled.clone();
        twice.push(shuffled[again.index(shuffled.len())].clone());
        prop_assert_eq!(state(&ledger_of(&ordered, 1)), state(&ledger_of(&twice, settling)));
    }

    #[test]
    fn each_name_has_one_owner_and_each_owner_one_name(entries in entries()) {
        let ledger = ledger_of(&entries, 0);
        let mut keys = std::collections::BTreeSet::new();
        for registration in (0..7).flat_map(|time| (0..4).map(move |node| Registration { time, node })) {
            let Some(owner) = ledger.owner_by_registration(registration) else { continue };
            prop_assert!(keys.insert(owner.name.key().to_owned()), "{:?} has two owners", owner.name);
            prop_assert_eq!(ledger.owner(owner.name.key()).map(|owner| owner.registration), Some(registration));
        }
    }

    #[test]
    fn a_copy_of_what_is_in_force_says_the_same_as_what_was_cut(entries in entries()) {
        let whole = ledger_of(&entries, 0);
        let copies: Vec<(EntryId, u64, Said)> = (0..3)
            .flat_map(|node| whole.carried(node, 1, u64::MAX, 0))
            .zip(1..)
            .map(|(copy, number)| (EntryId { node: 9, incarnation: 1, number }, 100, Said::Change(copy)))
            .collect();
        let of_copies = ledger_of(&copies, 0);
        for registration in (0..7).flat_map(|time| (0..4).map(move |node| Registration { time, node })) {
            let name = |ledger: &Ledger| {
                ledger.owner_by_registration(registration).map(|owner| (owner.name.clone(), owner.passphrase_hash.clone()))
            };
            prop_assert_eq!(name(&whole), name(&of_copies));
            prop_assert_eq!(whole.mailboxes.read(registration), of_copies.mailboxes.read(registration));
        }
    }
}

#[test]
fn of_two_claims_of_a_name_the_earlier_has_it_whichever_comes_first() {
    let claim = |time: u64, node: u16| StateChange {
        time,
        kind: ChangeKind::Claim(Claim {
            name: "Bob".to_owned(),
            registration: Registration { time, node },
            node,
            claimed: time,
            passphrase_hash: format!("hash {node}"),
        }),
    };
    let id = |node| EntryId { node, incarnation: 1, number: 1 };
    let mut ledger = Ledger::default();
    assert!(ledger.take_change(id(3), 20, &claim(20, 3)));
    assert_eq!(ledger.settle_names().len(), 1);
    assert!(ledger.take_change(id(1), 10, &claim(10, 1)));
    let news = ledger.settle_names();
    let late = news.iter().find(|named| named.registration.node == 3).unwrap();
    assert_eq!((late.name.as_str(), late.old.as_ref().map(Name::as_str)), ("Bob~3", Some("Bob")));
    assert_eq!(ledger.owner("bob").unwrap().passphrase_hash, "hash 1");
    assert_eq!(ledger.owner("bob~3").unwrap().passphrase_hash, "hash 3");
}

#[test]
fn what_was_read_does_not_wait_and_only_the_latest_messages_are_recent() {
    let owner = Registration { time: 1, node: 0 };
    let id = |number| EntryId { node: 2, incarnation: 7, number };
    let mut ledger = Ledger::default();
    for number in 1..=2 * MAX_RECENT as u64 {
        let said = if number % 2 == 0 { Said::Public } else { Said::ToOwner(owner) };
        take(&mut ledger, &(id(number), number, said));
    }
    ledger.note_read(&Read { registration: owner, heights: vec![id(1_990)] });
    let unread: Vec<u64> = ledger.mailboxes().unread(owner).iter().map(|(_, id)| id.number).collect();
    assert_eq!(unread, [1_991, 1_993, 1_995, 1_997, 1_999]);
    take(&mut ledger, &(id(2_002), 2_002, Said::Public));
    assert_eq!(ledger.public().last(usize::MAX).count(), MAX_RECENT);
    assert_eq!(ledger.public().last(1).next(), Some((2_002, id(2_002))));
    ledger.forget(2, 7, 1_999);
    assert_eq!(ledger.mailboxes().unread_count(owner), (1, 1));
    assert_eq!(ledger.public().last(usize::MAX).count(), 2);
}

#[test]
fn a_session_is_its_key_s_until_nothing_can_wait_for_it_any_more() {
    let id = |number| EntryId { node: 2, incarnation: 7, number };
    let session = |time, name: &str| Session {
        name: name.to_owned(),
        registration: Registration { time, node: 0 },
        key_hash: [7; 32],
    };
    let said = |time, session: &Session| StateChange { time, kind: ChangeKind::Session(session.clone()) };
    let (early, late, renamed) = (session(1, "bob"), session(2, "bob"), session(2, "bob~3"));
    let mut ledger = Ledger::default();
    ledger.note_session(&early, 10);
    assert!(!ledger.take_change(id(1), 10, &said(10, &early)), "it was known already");
    assert!(ledger.take_change(id(2), 20, &said(20, &late)));
    assert!(!ledger.take_change(id(3), 30, &said(30, &renamed)));
    ledger.take_change(id(4), 25, &said(25, &late));
    assert_eq!(ledger.sessions().of_key([7; 32]).collect::<Vec<_>>(), [&early, &renamed], "what was said last counts");
    assert_eq!(ledger.sessions().of_key([8; 32]).count(), 0);
    assert_eq!(ledger.carried(2, 7, 4, 0).len(), 2);
    assert_eq!(ledger.carried(2, 7, 4, 11), [said(30, &renamed)], "the other has run out");
    ledger.forget(2, 7, 4);
    assert_eq!(ledger.sessions().of_key([7; 32]).count(), 0);
}
