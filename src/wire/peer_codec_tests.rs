use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    chat::{Name, Person, Registration},
    clique::{Held, Member, Origin},
    wire::{
        entry::ChunkBuilder,
        extended::{Receipt, ReceiptRun},
        peer::{Awaited, Expected, Hello, Mail, NodeReport, Outcome, PROTOCOL_VERSION},
        proto::generated as pb,
    },
};

fn origin() -> Origin {
    Origin { node: 3, incarnation: 77 }
}

fn person() -> Person {
    Person {
        name: Name::parse(b"bob~3").unwrap(),
        asked_name: Name::parse(b"bob").unwrap(),
        registration: Registration { time: 5, node: 3 },
        key_hash: Some([9; 32]),
        attached: 6,
        node: 3,
        is_claimed: true,
    }
}

fn whole(frame: &PeerFrame) -> Bytes {
    let (head, entries) = encode(frame);
    [head, entries.to_vec()].concat().into()
}

#[test]
fn every_kind_of_frame_is_read_as_it_was_written() {
    let held = vec![Held::new(origin(), 2, 9)];
    let member = Member { node: 1, advertise: "n1:4011".into(), chat_port: 4010 };
    let names = vec!["ann".to_owned(), "bob".to_owned()];
    let outcome = Outcome { origin: origin(), first: 8, count: 5, delivered: 2, gone: true, names: names.clone() };
    let receipt = Receipt { reference: 4, nodes_holding: 2, recipients_names: names, ..Receipt::default() };
    let receipts = ReceiptRun { first: Some(receipt), count: 3 };
    let awaited = Awaited { number: 8, reference: 4 };
    let mail = Mail { registration: person().registration, received: [(origin(), 3)].into_iter().collect() };
    let report = NodeReport {
        clients: 7,
        people: 6,
        sees: vec![0, 2],
        is_stopping: true,
        unwritable: "no space left".into(),
        damaged: 1,
        diverging: 2,
    };
    let frames = [
        PeerFrame::Challenge(vec![1; 32]),
        PeerFrame::Proof(vec![2; 32]),
        PeerFrame::Hello(Box::new(Hello {
            protocol: PROTOCOL_VERSION,
            origin: origin(),
            advertise: "here:1".into(),
            chat_port: 4000,
            held: held.clone(),
            people: vec![person()],
            expected: vec![Expected { person: person(), for_ms: 29_000 }],
            time: 12,
            members: vec![member.clone()],
        })),
        PeerFrame::Heartbeat { held, time: 13, outcomes_taken: 5 },
        PeerFrame::Want { origin: origin(), from: 4, stop: true },
        PeerFrame::Presence {
            joined: vec![person()],
            left: vec![Registration { time: 1, node: 2 }],
            quit: vec![Registration { time: 1, node: 2 }],
        },
        PeerFrame::Reserve { ballot: 4, person: person() },
        PeerFrame::Vote { ballot: 4, granted: true, former: None, mail: None },
        PeerFrame::Vote { ballot: 4, granted: true, former: Some(Box::new(person())), mail: Some(Box::new(mail)) },
        PeerFrame::Outcomes { batch: 3, outcomes: vec![outcome] },
        PeerFrame::Members(vec![member]),
        PeerFrame::Goodbye,
        PeerFrame::Refusal("no".into()),
        PeerFrame::Report(Box::new(report)),
        PeerFrame::Unsettled { client: 5, registration: person().registration, awaited: vec![awaited] },
        PeerFrame::Receipts { client: 5, receipts: vec![receipts] },
    ];
    for frame in frames {
        assert_eq!(decode(&mut whole(&frame)), Ok(frame));
    }
}

fn entries(text: &[u8], sent_unix_us: u64) -> PeerFrame {
    let mut builder = ChunkBuilder::new(vec![(origin(), 4)]);
    for time in 1..4 {
        builder.push(
            time,
            &crate::chat::Message {
                sender: "ann",
                sender_registration: Registration { time: 1, node: 0 },
                to: crate::chat::Addressee::Everyone,
                text,
                receipts: false,
                trace: None,
            },
        );
    }
    PeerFrame::Entries(Entries { origin: origin(), first: 11, sent_unix_us, bytes: builder.finish(11).bytes })
}

proptest! {
    #[test]
    fn entries_pass_through_and_are_what_the_published_format_says(
        text in proptest::collection::vec(any::<u8>(), 0..3000),
        sent in any::<u64>(),
    ) {
        let frame = entries(&text, sent);
        let bytes = whole(&frame);
        prop_assert_eq!(decode(&mut bytes.clone()), Ok(frame));
        // The same bytes, read by the generated code: a key and a length, then `Entries`.
        let body = bytes.slice(1 + crate::wire::entry::varint_bytes(bytes.len() as u64 - 3)..);
        let published = pb::Entries::decode(body).unwrap();
        prop_assert_eq!((published.first, published.sent_unix_us, published.entries.len()), (11, sent, 3));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&mut Bytes::from(bytes));
    }
}
