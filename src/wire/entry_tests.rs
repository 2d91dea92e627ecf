use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    chat::{
        EntryId,
        change::{ChangeKind, Claim, Membership, Read, Session, Topic},
    },
    wire::proto::generated as pb,
};

#[derive(Debug, Clone)]
enum To {
    Person(String, Registration),
    Owner(String, Registration),
    Room(String),
    Everyone,
}

#[derive(Debug, Clone)]
struct Said {
    time: u64,
    sender: String,
    to: To,
    text: Vec<u8>,
    receipts: bool,
    trace: Option<Trace>,
    registration: Registration,
}

impl Said {
    fn message(&self) -> Message<'_> {
        Message {
            sender: &self.sender,
            sender_registration: self.registration,
            to: match &self.to {
                To::Person(name, registration) => Addressee::Person(name, *registration),
                To::Owner(name, registration) => Addressee::Owner(name, *registration),
                To::Room(room) => Addressee::Room(room),
                To::Everyone => Addressee::Everyone,
            },
            text: &self.text,
            receipts: self.receipts,
            trace: self.trace,
        }
    }
}

fn registration() -> impl Strategy<Value = Registration> {
    any::<(u64, u16)>().prop_map(|(time, node)| Registration { time, node })
}

fn said() -> impl Strategy<Value = Said> {
    let trace = any::<([u8; 16], [u8; 8])>().prop_map(|(trace_id, span_id)| Trace { trace_id, span_id });
    (
        any::<u64>(),
        "\\PC{1,20}",
        prop_oneof![
            ("\\PC{1,20}", registration()).prop_map(|(name, registration)| To::Person(name, registration)),
            ("\\PC{1,20}", registration()).prop_map(|(name, registration)| To::Owner(name, registration)),
            "#\\PC{1,20}".prop_map(To::Room),
            Just(To::Everyone),
        ],
        proptest::collection::vec(any::<u8>(), 0..300),
        any::<bool>(),
        proptest::option::of(trace),
        registration(),
    )
        .prop_map(|(time, sender, to, text, receipts, trace, registration)| Said {
            time,
            sender,
            to,
            text,
            receipts,
            trace,
            registration,
        })
}

fn change() -> impl Strategy<Value = StateChange> {
    let id = any::<(u16, u64, u64)>().prop_map(|(node, incarnation, number)| EntryId { node, incarnation, number });
    let kind = prop_oneof![
        ("\\PC{1,20}", registration(), any::<(u16, u64)>(), "[ -~]{0,90}").prop_map(
            |(name, registration, (node, claimed), passphrase_hash)| {
                ChangeKind::Claim(Claim { name, registration, node, claimed, passphrase_hash })
            }
        ),
        ("#\\PC{1,20}", registration(), any::<bool>()).prop_map(|(room, registration, is_member)| {
            ChangeKind::Membership(Membership { room, registration, is_member })
        }),
        ("#\\PC{1,20}", "\\PC{0,40}").prop_map(|(room, text)| ChangeKind::Topic(Topic { room, text })),
        (registration(), proptest::collection::vec(id, 0..4))
            .prop_map(|(registration, heights)| ChangeKind::Read(Read { registration, heights })),
        ("\\PC{1,20}", registration(), any::<[u8; 32]>()).prop_map(|(name, registration, key_hash)| {
            ChangeKind::Session(Session { name, registration, key_hash })
        }),
    ];
    (any::<u64>(), kind).prop_map(|(time, kind)| StateChange { time, kind })
}

fn dependencies() -> impl Strategy<Value = Dependencies> {
    proptest::collection::vec(
        any::<(u16, u64, u64)>().prop_map(|(node, incarnation, height)| (Origin { node, incarnation }, height)),
        0..4,
    )
}

proptest! {
    #[test]
    fn the_hand_written_encoding_is_the_published_one(said in proptest::collection::vec(said(), 1..5), needs in dependencies()) {
        let mut builder = ChunkBuilder::new(needs.clone());
        for said in &said {
            builder.push(said.time, &said.message());
        }
        let chunk = builder.finish(7);
        let published = pb::Entries::decode(chunk.bytes.clone()).unwrap();
        prop_assert_eq!(published.entries.len(), said.len());
        for (index, (entry, said)) in published.entries.iter().zip(&said).enumerate() {
            prop_assert_eq!(entry.time, said.time);
            prop_assert_eq!(entry.depends_on.len(), if index == 0 { needs.len() } else { 0 });
            let Some(pb::entry::Body::Message(message)) = &entry.body else { panic!("{entry:?}") };
            prop_assert_eq!(&message.sender, &said.sender);
            prop_assert_eq!(&message.text, &said.text);
            prop_assert_eq!(message.receipts, said.receipts);
            prop_assert_eq!(message.trace.as_ref().map(|trace| trace.trace_id.clone()), said.trace.map(|trace| trace.trace_id.to_vec()));
            match (&message.addressee, &said.to) {
                (
                    Some(pb::message::Addressee::Person(person)),
                    To::Person(name, registration) | To::Owner(name, registration),
                ) => {
                    prop_assert_eq!(&person.name, name);
                    prop_assert_eq!(person.registration, Some((*registration).into()));
                    prop_assert_eq!(person.claimed, matches!(said.to, To::Owner(..)));
                }
                (Some(pb::message::Addressee::Room(room)), To::Room(name)) => prop_assert_eq!(&room.room, name),
                (Some(pb::message::Addressee::Everyone(_)), To::Everyone) => {}
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn entries_are_read_as_they_were_written(said in proptest::collection::vec(said(), 1..5), needs in dependencies()) {
        let mut builder = ChunkBuilder::new(needs.clone());
        for said in &said {
            builder.push(said.time, &said.message());
        }
        let written = builder.finish(3);
        let (read, latest) = read_chunk(3, written.bytes.clone()).unwrap();
        prop_assert_eq!(&read.ends, &written.ends);
        prop_assert_eq!(&read.dependencies, &written.dependencies);
        prop_assert_eq!(latest, said.iter().map(|said| said.time).max().unwrap());
        for (number, said) in (3..).zip(&said) {
            let bytes = read.slice(number, number);
            let (view, length) = read_entry(&bytes).unwrap();
            prop_assert_eq!(length, bytes.len());
            prop_assert_eq!(view, EntryView { time: said.time, body: Body::Message(said.message()) });
        }
    }

    #[test]
    fn entries_in_a_row_are_read_as_each_by_itself(
        people in proptest::collection::vec(said(), 1..4),
        order in proptest::collection::vec((0..4_usize, any::<(u64, bool)>(), "[a-z]{0,20}"), 1..30),
        flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        needs in dependencies(),
    ) {
        let mut builder = ChunkBuilder::new(needs);
        for (person, (time, receipts), text) in &order {
            let said = &people[person % people.len()];
            builder.push(*time, &Message { text: text.as_bytes(), receipts: *receipts, ..said.message() });
        }
        let chunk = builder.finish(1);
        let mut bytes = chunk.bytes.to_vec();
        for (place, bits) in flips {
            *place.get_mut(&mut bytes) ^= bits;
        }
        let mut reader = EntryReader::default();
        let mut begin = 0;
        for end in chunk.ends.iter().map(|end| usize::try_from(*end).unwrap()) {
            let alone = read_entry(&bytes[begin..end]).map(|(view, _)| view);
            prop_assert_eq!(reader.read(&bytes[begin..end]), alone);
            begin = end;
        }
    }

    #[test]
    fn the_published_encoder_is_understood(text in proptest::collection::vec(any::<u8>(), 0..100), time in any::<u64>()) {
        let entries = pb::Entries {
            entries: vec![pb::Entry {
                time,
                depends_on: vec![],
                body: Some(pb::entry::Body::Message(pb::Message {
                    sender: "a".into(),
                    sender_registration: Some(pb::Registration { time: 1, node: 0 }),
                    addressee: Some(pb::message::Addressee::Everyone(pb::Everyone {})),
                    text: text.clone(),
                    receipts: false,
                    trace: None,
                })),
            }],
            ..pb::Entries::default()
        };
        let bytes = entries.encode_to_vec();
        let (view, _) = read_entry(&bytes).unwrap();
        prop_assert_eq!(view.message().unwrap().text, &text[..]);
        prop_assert_eq!(view.time, time);
    }

    #[test]
    fn state_changes_are_read_as_they_were_written(changes in proptest::collection::vec((any::<u64>(), change()), 1..5)) {
        let mut builder = ChunkBuilder::default();
        for (time, change) in &changes {
            builder.push_change(*time, change);
        }
        let (read, _) = read_chunk(1, builder.finish(1).bytes).unwrap();
        for (number, (time, change)) in (1..).zip(changes) {
            let bytes = read.slice(number, number);
            let view = read_entry(&bytes).unwrap().0;
            prop_assert_eq!(view, EntryView { time, body: Body::Change(Box::new(change)) });
        }
    }

    #[test]
    fn what_a_later_version_says_is_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..50), field in 5..15_u8) {
        let mut builder = ChunkBuilder::default();
        builder.push_body(7, field, bytes.len(), |out| out.extend_from_slice(&bytes));
        let (read, latest) = read_chunk(1, builder.finish(1).bytes).unwrap();
        prop_assert_eq!(latest, 7);
        prop_assert_eq!(read_entry(&read.bytes).unwrap().0.body, Body::Unknown);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let _ = read_chunk(1, bytes.clone().into());
        let mut builder = ChunkBuilder::default();
        builder.push(1, &Message {
            sender: "a",
            sender_registration: Registration { time: 1, node: 1 },
            to: Addressee::Everyone,
            text: &bytes,
            receipts: true,
            trace: None,
        });
        let whole = builder.finish(1).bytes;
        let cut = cut.index(whole.len());
        prop_assert!(read_chunk(1, whole.slice(..cut)).is_err());
    }
}
