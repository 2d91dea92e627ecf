//! Does one hot spot a given number of times, for a tool that counts instructions: `deploy/bench/instructions`.
//!
//! `instructions` alone lists the operations; `instructions NAME BATCHES` does one. What putting everything in place
//! costs is found by doing it with few and with many batches.

mod operations;

use std::env;

use operations::{BATCH, OPERATIONS};

fn main() {
    // cargo passes --bench.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let Some(name) = arguments.first() else {
        for operation in OPERATIONS {
            println!("{operation} {BATCH}");
        }
        return;
    };
    let Some(operation) = OPERATIONS.into_iter().find(|operation| operation.to_string() == *name) else {
        panic!("{name} is no operation; without arguments they are listed");
    };
    let batches: u64 = arguments.get(1).and_then(|count| count.parse().ok()).expect("a number of batches");
    let mut once = operation.prepare();
    for _ in 0..batches {
        once();
    }
}
