//! The same seed is the same run, to the last byte; another seed is another.

use acorn_core::time::Duration;

use super::churn::churned;
use crate::world::{ROOT, seeds};

#[test]
fn the_same_seed_brings_the_same_trace_and_another_seed_another() {
    for seed in seeds(1) {
        let run = |seed| {
            let mut world = churned(seed, Duration::from_secs(6));
            for host in [3, ROOT] {
                world.crash(host);
                world.run(Duration::from_secs(1));
                world.start(host);
            }
            world.run(Duration::from_secs(5));
            world.trace
        };
        let first = run(seed);
        assert_eq!(first, run(seed));
        assert_ne!(first, run(seed + 1));
    }
}
