//! The pure hot spots, one by one: `cargo bench --bench hot_path`. Each figure is per batch; `items` are messages.

mod operations;

use divan::{Bencher, counter::ItemsCount};
use operations::{BATCH, OPERATIONS, Operation};

fn main() {
    divan::main();
}

#[divan::bench(args = OPERATIONS)]
fn batch(bencher: Bencher, operation: Operation) {
    bencher.counter(ItemsCount::new(BATCH)).bench_local(operation.prepare());
}
