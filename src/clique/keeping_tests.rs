use super::*;

const ME: Origin = Origin { node: 0, incarnation: 2 };
const FORMER: Origin = Origin { node: 0, incarnation: 1 };
const PEER: Origin = Origin { node: 1, incarnation: 1 };
const LINK: LinkId = 7;

/// Entries of one byte each, which is their number.
fn chunk(first: u64, last: u64) -> Chunk {
    let bytes: Vec<u8> = (first..=last).map(|number| number.to_le_bytes()[0]).collect();
    let ends = (1..).take(bytes.len()).collect();
    Chunk { first, bytes: bytes.into(), ends, dependencies: [].into() }
}

fn applied(replica: &mut Replica) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| replica.apply_next(0, u64::MAX)).map(|run| (run.chunk.first, run.chunk.last())).collect()
}

#[test]
fn what_was_set_aside_goes_on_where_the_log_has_come_to_it() {
    let mut replica = Replica::with_store(ME, 1 << 20);
    let mut chain = Chain::default();
    chain.push(&chunk(1, 10));
    replica.recover(Stored { origin: FORMER, first: 1, chain, tail: vec![chunk(1, 10)] }, 0);
    replica.set_aside(FORMER, [(5, chunk(16, 20)), (6, chunk(25, 30))].into());
    assert_eq!(applied(&mut replica), [(1, 10)]);

    let asks = replica.link_up(LINK, PEER, &[Held::new(FORMER, 1, 24)]);
    assert!(asks.contains(&Ask::From { link: LINK, origin: FORMER, number: 11 }), "{asks:?}");
    replica.receive(LINK, FORMER, chunk(11, 14), 1, 0);
    assert_eq!(replica.log().height(FORMER), 14, "one entry is still missing");
    replica.receive(LINK, FORMER, chunk(15, 18), 1, 0);
    assert_eq!(replica.log().height(FORMER), 20);
    replica.receive(LINK, FORMER, chunk(19, 24), 1, 0);
    assert_eq!(replica.log().height(FORMER), 30);
    assert_eq!(applied(&mut replica).last(), Some(&(25, 30)));
    assert!(replica.aside.is_empty());

    let mut whole = Chain::default();
    whole.push(&chunk(1, 30));
    assert_eq!(replica.log().chain(FORMER).map(Chain::hash), Some(whole.hash()));
    let written: u64 = replica
        .take_writes()
        .iter()
        .map(|write| match write {
            super::Write::Entries { chunk, .. } => chunk.ends.len() as u64,
            super::Write::Cut { .. } | super::Write::Repair { .. } | super::Write::Rehash { .. } => 0,
        })
        .sum();
    assert_eq!(written, 20, "each is written where it belongs, what was set aside too");
}

#[test]
fn the_disk_is_told_the_hash_at_each_boundary_among_what_it_is_given() {
    let mut replica = Replica::with_store(ME, 1 << 20);
    replica.link_up(LINK, PEER, &[Held::new(PEER, 1, 700)]);
    let mut whole = Chain::default();
    whole.push(&chunk(1, 700));
    let all: Vec<(u64, Hash)> = whole.boundaries().filter(|(number, _)| *number > 0).collect();
    for (first, last, expected) in [(1, 255, &all[..0]), (256, 256, &all[..1]), (257, 600, &all[1..]), (601, 700, &[])]
    {
        replica.receive(LINK, PEER, chunk(first, last), 1, 0);
        let writes = replica.take_writes();
        let [super::Write::Entries { boundaries, .. }] = &writes[..] else { panic!("{writes:?}") };
        assert_eq!(&boundaries[..], expected);
    }
}
