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
    assert_eq!(rig.attach(node, new("s"), 2), Err(Refusal::Storage.into()));
    assert_eq!(rig.hello(1, &hello(2)), Err(Refusal::Storage.into()));
    assert_eq!(rig.root.detach(rig.now, node, &gone(instance)), Err(Refusal::Storage.into()));
    let change = Adjustment { weight: Some(5), load: Some(5), ..Adjustment::default() };
    assert_eq!(rig.adjust(node, 8, instance, change), Err(Refusal::Storage.into()));
    rig.root.settle(rig.now, node, 1);
    assert!(rig.root.create_join_keys(rig.now, &[node_key(9)], UNIX + 9).is_err());
    assert_eq!(portrait(&rig), before);
    // What needs no change is still answered.
    assert!(rig.hello(1, &hello(1)).is_ok());
    assert!(rig.attach(node, new("s"), 1).is_ok());
    rig.root.set_alive(rig.now, node, false);
    assert!(!rig.root.nodes()[0].alive);
}

/// The same without the last line: numbers that were given to nobody are not given again.
fn without_counters(rig: &Rig) -> String {
    without_counters_of(&stored(rig))
}

fn without_counters_of(portrait: &str) -> String {
    portrait.trim_end().rsplit_once('\n').map(|(rest, _)| rest.to_owned()).unwrap_or_default()
}

#[test]
fn operations_of_one_transaction_happen_all_or_none_wherever_the_process_dies() {
    let mut random = Random(0x2f1d_99c3_7b02_e5a7);
    let mut outcomes = [0, 0];
    let mut rig = Rig::with(plan_of("10.30.0.0/26"), Limits::default());
    for _ in 0..25 {
        Step::random(&mut random).run(&mut rig);
    }
    for number in 0..12 {
        let steps: Vec<_> = (0..8).map(|_| Step::random(&mut random)).collect();
        let run = |rig: &mut Rig| {
            rig.root.begin(rig.now);
            let answers: Vec<_> = steps.iter().map(|step| step.run(rig)).collect();
            (answers, rig.root.finish().is_ok())
        };
        let before = stored(&revive(&rig, rig.disk.bytes()));
        let mut whole = revive(&rig, rig.disk.bytes());
        // Each sees what those before it did, as if each had its own transaction.
        let mut single = revive(&rig, rig.disk.bytes());
        let expected: Vec<_> = steps.iter().map(|step| step.run(&mut single)).collect();
        assert_eq!(run(&mut whole), (expected, true), "batch {number}: {steps:?}");
        assert_eq!(stored(&whole), stored(&single));
        let after = stored(&revive(&whole, whole.disk.bytes()));
        for writes in 0.. {
            let mut dying = revive(&rig, rig.disk.bytes());
            dying.disk.die_after(writes);
            let (_, told) = run(&mut dying);
            let died = dying.disk.is_dead();
            for bytes in [dying.disk.bytes(), dying.disk.synced()] {
                let found = stored(&revive(&dying, bytes));
                assert!(found == before || found == after, "batch {number} {steps:?}, {writes} writes: half done");
                assert!(!told || found == after, "batch {number} {steps:?}, {writes} writes: told and not done");
                outcomes[usize::from(found == after)] += 1;
            }
            if !told {
                // The process that lives on knows what the disk knows.
                let on_disk = stored(&revive(&dying, dying.disk.bytes()));
                dying.root.reload(dying.now).unwrap();
                check_invariants(&dying);
                let (found, expected) = (without_counters(&dying), without_counters_of(&on_disk));
                assert_eq!(found, expected, "batch {number} {steps:?}, {writes} writes");
                dying.disk.repair();
                dying.root.register_node_key(dying.now, node_key(77)).unwrap();
                assert_eq!(without_counters(&revive(&dying, dying.disk.bytes())), without_counters(&dying));
            }
            if !died {
                break;
            }
        }
        run(&mut rig);
    }
    assert!(outcomes.iter().all(|&times| times > 30), "both sides of the commit were seen: {outcomes:?}");
}

#[test]
fn what_a_failed_transaction_gave_is_not_given_to_another() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    rig.attach_as(node, new("s"), 1, Adjustment { load: Some(9), ..Adjustment::default() }).unwrap();
    let version = rig.root.version(ServiceId(1)).unwrap();
    while rig.root.poll_key_event().is_some() {}
    rig.disk.die();
    rig.root.begin(rig.now);
    let lost = rig.create("t").unwrap().id;
    rig.root.register_node_key(rig.now, node_key(2)).unwrap();
    let joined = rig.hello(2, &hello(1)).unwrap().node;
    assert!(rig.root.finish().is_err());
    rig.root.reload(rig.now).unwrap();
    assert_eq!(rig.root.service(&named("s")).unwrap().instances[0].load, 9, "what was said stays said");
    assert!(rig.root.version(ServiceId(1)).unwrap() > version, "clients get the table whole");
    let events: Vec<_> = std::iter::from_fn(|| rig.root.poll_key_event()).collect();
    assert!(events.contains(&super::super::KeyEvent::Remove { key: node_key(2) }), "{events:?}");
    // While the disk is broken, everybody hears of his own failure.
    rig.root.begin(rig.now);
    assert!(matches!(rig.create("t"), Err(ServiceError::Storage(_))));
    assert!(rig.root.finish().is_ok());
    rig.disk.repair();
    assert!(rig.create("t").unwrap().id > lost);
    assert!(rig.node(2) > joined);
}
