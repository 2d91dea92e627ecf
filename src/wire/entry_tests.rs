use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::wire::proto::generated as pb;

#[derive(Debug, Clone)]
struct Said {
    time: u64,
    sender: String,
    to: Option<(String, Registration)>,
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
            to: self
                .to
                .as_ref()
                .map_or(Addressee::Everyone, |(name, registration)| Addressee::Person(name, *registration)),
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
        proptest::option::of(("\\PC{1,20}", registration())),
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
            let message = entry.message.as_ref().unwrap();
            prop_assert_eq!(&message.sender, &said.sender);
            prop_assert_eq!(&message.text, &said.text);
            prop_assert_eq!(message.receipts, said.receipts);
            prop_assert_eq!(message.trace.as_ref().map(|trace| trace.trace_id.clone()), said.trace.map(|trace| trace.trace_id.to_vec()));
            match (&message.addressee, &said.to) {
                (Some(pb::message::Addressee::Person(person)), Some((name, registration))) => {
                    prop_assert_eq!(&person.name, name);
                    prop_assert_eq!(person.registration, Some((*registration).into()));
                }
                (Some(pb::message::Addressee::Everyone(_)), None) => {}
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
            prop_assert_eq!(view, EntryView { time: said.time, message: said.message() });
        }
    }

    #[test]
    fn the_published_encoder_is_understood(text in proptest::collection::vec(any::<u8>(), 0..100), time in any::<u64>()) {
        let entries = pb::Entries {
            entries: vec![pb::Entry {
                time,
                depends_on: vec![],
                message: Some(pb::Message {
                    sender: "a".into(),
                    sender_registration: Some(pb::Registration { time: 1, node: 0 }),
                    addressee: Some(pb::message::Addressee::Everyone(pb::Everyone {})),
                    text: text.clone(),
                    receipts: false,
                    trace: None,
                }),
            }],
            ..pb::Entries::default()
        };
        let bytes = entries.encode_to_vec();
        let (view, _) = read_entry(&bytes).unwrap();
        prop_assert_eq!(view.message.text, &text[..]);
        prop_assert_eq!(view.time, time);
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
