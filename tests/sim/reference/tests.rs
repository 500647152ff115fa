//! The router against its model, on what fuzzing has found and on seeded chance.

mod bad_input;

use std::path::Path;

use super::drive;
use crate::random::Random;

/// Runs of seeded chance, and how many bytes each is made of: about 100 steps.
const RUNS: u64 = 2_000;
const BYTES: usize = 600;

#[test]
fn the_router_does_what_the_model_does_on_seeded_chance() {
    for seed in 0..RUNS {
        let mut random = Random::new(seed, 0);
        let bytes: Vec<u8> = (0..BYTES).map(|_| random.next() as u8).collect();
        drive::play(&bytes);
    }
}

#[test]
fn the_router_does_what_the_model_does_on_all_that_fuzzing_has_found() {
    let mut count = 0;
    for directory in ["fuzz/corpus/router", "fuzz/regressions/router"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("a directory entry").path();
            println!("{}", path.display());
            drive::play(&std::fs::read(&path).expect("a readable file"));
            count += 1;
        }
    }
    assert!(count > 0, "there is no corpus");
}
