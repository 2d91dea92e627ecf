use proptest::prelude::*;

use super::*;

fn origin(node: u16) -> Origin {
    Origin { node, incarnation: 1 }
}

/// Entries of `size` bytes, each filled with its number.
fn chunk(first: u64, count: usize, size: usize) -> Chunk {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for index in 0..count {
        bytes.resize(bytes.len() + size, u8::try_from((first + index as u64) % 251).unwrap());
        ends.push(u32::try_from(bytes.len()).unwrap());
    }
    Chunk { first, bytes: bytes.into(), ends: ends.into(), dependencies: [].into() }
}

#[test]
fn entries_come_back_as_they_were() {
    let mut log = Log::new(1 << 20);
    log.push(origin(0), chunk(1, 3, 5));
    log.push(origin(0), chunk(4, 2, 7));
    assert_eq!(log.entry(origin(0), 2).unwrap(), vec![2; 5]);
    assert_eq!(log.entry(origin(0), 5).unwrap(), vec![5; 7]);
    assert_eq!(log.entry(origin(0), 6), None);
    let tail = log.chunk(origin(0), 2).unwrap().from(2);
    assert_eq!((tail.first, tail.last(), tail.slice(3, 3)), (2, 3, Bytes::from(vec![3; 5])));
}

#[test]
fn readers_before_a_hole_keep_what_is_held_and_peers_are_told_where_it_goes_on() {
    let mut log = Log::new(1 << 20);
    log.push(origin(0), chunk(1, 3, 5));
    log.apply(origin(0), 3);
    assert_eq!(log.skip_to(origin(0), 10, crate::clique::chain::EMPTY), 6);
    log.push(origin(0), chunk(10, 2, 5));
    assert_eq!(log.held().next(), Some(Held { origin: origin(0), first: 10, height: 11 }));
    assert!(log.entry(origin(0), 2).is_some() && log.entry(origin(0), 7).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Push { node: u16, count: usize },
    Apply { node: u16, count: u64 },
    Evict,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3_u16, 1..6_usize).prop_map(|(node, count)| Step::Push { node, count }),
        (0..3_u16, 1..6_u64).prop_map(|(node, count)| Step::Apply { node, count }),
        Just(Step::Evict),
    ]
}

proptest! {
    /// The order of application against a plain list, whatever is dropped meanwhile.
    #[test]
    fn positions_stay_true_through_eviction(steps in proptest::collection::vec(step(), 1..80)) {
        let mut log = Log::new(0);
        let mut model: Vec<(Origin, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Push { node, count } => {
                    let first = log.height(origin(node)) + 1;
                    log.push(origin(node), chunk(first, count, 10));
                }
                Step::Apply { node, count } => {
                    let node = origin(node);
                    let count = count.min(log.height(node) - log.applied(node));
                    if count > 0 {
                        let applied = log.apply(node, count).unwrap();
                        prop_assert_eq!(applied.position, model.len() as u64);
                        model.extend((applied.first..applied.first + count).map(|number| (node, number)));
                    }
                }
                Step::Evict => {
                    let has_applied = log.applied_at(0).is_some();
                    let evicted = log.evict();
                    prop_assert_eq!(evicted.is_some(), has_applied, "what is applied can go");
                    if let Some((gone, chunk)) = evicted {
                        let last = gone.first + gone.count - 1;
                        prop_assert!(last <= log.applied(gone.origin) && last <= chunk.last());
                        prop_assert!(log.entry(gone.origin, last).is_none());
                    }
                }
            }
            let heights: Heights = log.applied_heights().iter().map(|(origin, height)| (origin, height / 2)).collect();
            let oldest = usize::try_from(log.applied_at(0).map_or(log.next_position(), |run| run.position)).unwrap();
            let beyond = (oldest..model.len()).find(|at| model[*at].1 > heights.get(model[*at].0));
            prop_assert_eq!(log.position_beyond(&heights), beyond.unwrap_or(model.len()) as u64);
            let mut position = 0;
            while let Some(run) = log.applied_at(position) {
                for index in 0..run.count {
                    let at = usize::try_from(run.position + index).unwrap();
                    prop_assert_eq!(model[at], (run.origin, run.first + index));
                }
                position = run.position + run.count;
            }
            prop_assert_eq!(position.max(log.next_position()), log.next_position());
        }
    }
}
