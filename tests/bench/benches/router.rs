//! How long a packet takes, by case and number of live flows. `cargo xtask bench router` runs it and prints the medians.

use acorn_bench::case::{Case, Path};
use acorn_bench::packet::Packet;
use acorn_bench::stage::{FEW, MANY, SOME, Stage, cases_of, set_up};
use criterion::Criterion;
use std::time::{Duration, Instant};

/// Packets that are handled in one go. Few, so that they lie in a near cache, as packets do that have just come.
const BURST: usize = 256;
/// The most flows that are begun before they are forgotten again.
const BATCH: usize = 1 << 15;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    for flows in [FEW, SOME, MANY] {
        let mut stage = set_up(flows);
        for case in cases_of(flows) {
            measure(&mut criterion, &mut *stage, flows, case);
        }
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, stage: &mut dyn Stage, flows: usize, case: Case) {
    let begins = !matches!(case, Case::Packet(_, Path::Hit, _));
    // New flows must not change by much how many there are; packets of flows should touch as many as there are.
    let limit = if begins { (flows / 4).min(BATCH) } else { flows / 2 };
    let mut packets = stage.packets(case, limit);
    // Some flows may have found no room.
    packets.truncate(packets.len() / BURST * BURST);
    let mut at = 0;
    let batch = if begins { packets.len() } else { BURST };
    criterion.bench_function(&format!("{flows}-{case}"), |bencher| {
        bencher.iter_custom(|count| {
            let (mut handled, mut total) = (0, Duration::ZERO);
            // Whole batches, whatever is asked for: to forget the flows of a few packets takes as long as of many.
            while handled < count {
                at = if at == packets.len() { 0 } else { at };
                for burst in packets[at..at + batch].chunks_mut(BURST) {
                    total += handle(stage, case, burst);
                }
                at += batch;
                handled += batch as u64;
                if begins {
                    stage.forget_newcomer();
                }
            }
            total.mul_f64(count as f64 / handled as f64)
        });
    });
}

fn handle(stage: &mut dyn Stage, case: Case, packets: &mut [Packet]) -> Duration {
    packets.iter_mut().for_each(Packet::restore);
    let started = Instant::now();
    let sent = stage.handle(case, packets);
    let took = started.elapsed();
    assert_eq!(sent, packets.len(), "{case}: packets were not sent on");
    took
}
