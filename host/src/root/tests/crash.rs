//! The process dies, or the disk fails, in the middle of an operation.

use super::restart::{Random, Step, check_invariants, portrait};
use super::*;

/// Brings a disk back as another root.
fn revive(dead: &Rig, bytes: Vec<u8>) -> Rig {
    let disk = Disk::of(bytes);
    let root = disk.open(dead.plan, dead.limits, dead.now, dead.unix()).unwrap();
    Rig { root, disk, plan: dead.plan, limits: dead.limits, now: dead.now }
}

/// The portrait without liveness, which is not stored.
fn stored(rig: &Rig) -> String {
    portrait(rig).replace("alive: true", "").replace("alive: false", "")
}

#[test]
fn an_operation_happens_whole_or_not_at_all_wherever_the_process_dies() {
    let mut random = Random(0x51ab_37c5_2290_1d6b);
    let mut outcomes = [0, 0];
    let mut rig = Rig::with(plan_of("10.30.0.0/27"), Limits::default());
    for _ in 0..25 {
        Step::random(&mut random).run(&mut rig);
    }
    for number in 0..25 {
        let step = Step::random(&mut random);
        let before = stored(&revive(&rig, rig.disk.bytes()));
        let mut whole = revive(&rig, rig.disk.bytes());
        let answer = step.run(&mut whole);
        let after = stored(&revive(&whole, whole.disk.bytes()));
        for writes in 0.. {
            let mut dying = revive(&rig, rig.disk.bytes());
            dying.disk.die_after(writes);
            let got = step.run(&mut dying);
            let died = dying.disk.is_dead();
            for bytes in [dying.disk.bytes(), dying.disk.synced()] {
                let revived = revive(&dying, bytes);
                check_invariants(&revived);
                let found = stored(&revived);
                assert!(found == before || found == after, "step {number} {step:?}, {writes} writes: half done");
                // What was answered as done is done.
                assert!(got != answer || found == after, "step {number} {step:?}, {writes} writes: {got}");
                outcomes[usize::from(found == after)] += 1;
            }
            if !died {
                break;
            }
        }
        step.run(&mut rig);
    }
    assert!(outcomes.iter().all(|&times| times > 50), "both sides of the commit were seen: {outcomes:?}");
}

#[test]
fn a_disk_that_fails_changes_nothing_in_memory_and_is_said() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap().instance;
    let before = portrait(&rig);
    rig.disk.die();
    assert!(matches!(rig.create("t"), Err(ServiceError::Storage(_))));
    assert_eq!(rig.attach(node, new("s"), 2), Err(Refusal::Storage));
    assert_eq!(rig.hello(1, &hello(2)), Err(Refusal::Storage));
    assert_eq!(rig.root.detach(rig.now, node, instance), Err(Refusal::Storage));
    let change = Adjustment { weight: Some(5), load: Some(5), ..Adjustment::default() };
    assert_eq!(rig.adjust(node, 8, instance, change), Err(Refusal::Storage));
    rig.root.settle(rig.now, node, 1);
    assert!(rig.root.create_join_keys(rig.now, &[node_key(9)], UNIX + 9).is_err());
    assert_eq!(portrait(&rig), before);
    // What needs no change is still answered.
    assert!(rig.hello(1, &hello(1)).is_ok());
    assert!(rig.attach(node, new("s"), 1).is_ok());
    rig.root.set_alive(rig.now, node, false);
    assert!(!rig.root.nodes()[0].alive);
}
