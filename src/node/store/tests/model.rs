//! The store against a model, whatever is asked of it.

use proptest::prelude::*;

use super::{watched::Watched, *};

#[derive(Debug, Clone)]
enum Step {
    Append {
        origin: u8,
        count: u64,
        text_bytes: usize,
    },
    /// Cut at this share of the segments that are held.
    Cut {
        origin: u8,
        share: f64,
    },
    /// Replaced by what it was.
    Repair {
        origin: u8,
        from: f64,
        count: u64,
    },
    Read {
        origin: u8,
        at: f64,
        max_bytes: usize,
    },
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let origin = 0..3_u8;
    prop_oneof![
        6 => (origin.clone(), 1..400_u64, prop_oneof![0..200_usize, 2_000..3_000_usize])
            .prop_map(|(origin, count, text_bytes)| Step::Append { origin, count, text_bytes }),
        2 => (origin.clone(), 0.0..1.0).prop_map(|(origin, share)| Step::Cut { origin, share }),
        2 => (origin.clone(), 0.0..1.0, 1..600_u64)
            .prop_map(|(origin, from, count)| Step::Repair { origin, from, count }),
        3 => (origin, 0.0..1.0, 1..100_000_usize).prop_map(|(origin, at, max_bytes)| Step::Read { origin, at, max_bytes }),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Model {
    first: u64,
    chain: Chain,
    /// Every entry's bytes, from number 1.
    entries: Vec<Vec<u8>>,
}

impl Model {
    fn height(&self) -> u64 {
        self.entries.len() as u64
    }

    fn joined(&self, from: u64, to: u64) -> Vec<u8> {
        let index = |number: u64| usize::try_from(number).unwrap();
        self.entries[index(from - 1)..index(to)].concat()
    }

    fn at(&self, share: f64) -> u64 {
        let kept = self.height() + 1 - self.first;
        self.first + (kept as f64 * share) as u64
    }
}

fn number(origin: u8) -> Origin {
    // The first is journaled.
    Origin { node: ORIGIN.node + u16::from(origin), incarnation: 9 }
}

fn check(store: &Running, models: &[Model]) {
    for (origin, model) in (0..).zip(models).filter(|(_, model)| model.height() > 0) {
        let recovered = store.of_origin(number(origin));
        assert_eq!((recovered.first, recovered.height), (model.first, model.height()));
        assert_eq!(&recovered.damaged, &[]);
        assert_eq!(recovered.chain.hash(), model.chain.hash());
        let shown = store.seen.iter().filter(|(of, _)| *of == number(origin));
        let bytes: Vec<u8> = shown.flat_map(|(_, chunk)| chunk.bytes.to_vec()).collect();
        assert!(bytes == model.joined(model.first, model.height()));
    }
}

fn run(steps: Vec<Step>, sync: Sync, row_bytes: usize) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), sync);
    let medium = Watched::with_packs(folder.path(), row_bytes, 100_000);
    let open = || Running::on(medium.clone(), &settings);
    let mut store = open();
    let mut models: Vec<Model> = (0..3).map(|_| Model { first: 1, ..Model::default() }).collect();
    let mut is_synced = true;
    for step in steps {
        match step {
            Step::Append { origin, count, text_bytes } => {
                let model = &mut models[usize::from(origin)];
                let chunk = chunk(model.height() + 1, count, origin.into(), text_bytes);
                model.chain.push(&chunk);
                let numbers = chunk.first..=chunk.last();
                model.entries.extend(numbers.map(|number| chunk.slice(number, number).to_vec()));
                store.append(number(origin), &chunk);
                is_synced = false;
            }
            Step::Cut { origin, share } => {
                let model = &mut models[usize::from(origin)];
                let first = (model.at(share) - 1) / SEGMENT_ENTRIES * SEGMENT_ENTRIES + 1;
                if first > model.first {
                    model.first = first;
                    let hash = model.chain.hash_at(first - 1).unwrap();
                    store.say(|sequence| ToStore::Cut { sequence, origin: number(origin), first, hash });
                    is_synced = false;
                }
            }
            Step::Repair { origin, from, count } => {
                let model = &models[usize::from(origin)];
                let first = model.at(from);
                if first <= model.height() {
                    let last = model.height().min(first + count - 1);
                    let bytes = model.joined(first, last);
                    let (chunk, _) = crate::wire::entry::read_chunk(first, bytes.into()).unwrap();
                    store.say(|sequence| ToStore::Repair { sequence, origin: number(origin), chunk });
                    is_synced = false;
                }
            }
            Step::Read { origin, at, max_bytes } => {
                if !std::mem::replace(&mut is_synced, true) {
                    store.wait_synced();
                }
                let model = &models[usize::from(origin)];
                let from = model.at(at);
                let (chunk, damaged) = store.read(number(origin), from, max_bytes);
                assert_eq!(damaged, []);
                assert_eq!(chunk.is_some(), from <= model.height());
                if let Some(chunk) = chunk {
                    assert_eq!(chunk.first, from);
                    assert!(chunk.bytes == model.joined(from, chunk.last()));
                    assert!(chunk.bytes.len() <= max_bytes || chunk.ends.len() == 1);
                }
            }
            Step::Sync => {
                if !std::mem::replace(&mut is_synced, true) {
                    store.wait_synced();
                }
            }
            Step::Reopen => {
                store.close();
                assert!(!medium.has_unsynced_packs());
                assert!(verify::verify(folder.path()).unwrap().sound);
                store = open();
                is_synced = true;
                check(&store, &models);
            }
        }
    }
    store.close();
    assert!(!medium.has_unsynced_packs());
    check(&open(), &models);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_gives_back_what_it_was_given(
        steps in proptest::collection::vec(step(), 1..40),
        sync in prop_oneof![
            Just(Sync::Always),
            Just(Sync::Never),
            Just(Sync::Interval(Duration::from_millis(1))),
        ],
        row_bytes in prop_oneof![Just(1), Just(2_000), Just(64 << 10)],
    ) {
        run(steps, sync, row_bytes);
    }
}
