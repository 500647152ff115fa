//! Versions, changes and liveness: what the sync server reads.

use acorn_core::sync::directory::Change;

use super::*;

/// All that changed in a service since a version, as the server walks it.
fn changes(root: &Root, service: ServiceId, since: u32) -> Vec<(u32, bool)> {
    let mut from = 0;
    std::iter::from_fn(|| {
        let change = root.next_change(service, from, since)?;
        from = change.number() + 1;
        Some((change.number(), matches!(change, Change::Present(_))))
    })
    .collect()
}

fn drain(root: &mut Root) -> Vec<ServiceId> {
    std::iter::from_fn(|| root.poll_changed()).collect()
}

#[test]
fn changes_since_a_version_are_reported_in_the_order_of_numbers() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    assert_eq!(rig.root.version(service), Some(1));
    assert_eq!(rig.root.header_version(service), 1);
    let instances: Vec<_> = (1..=4).map(|offset| rig.attach(node, new("s"), offset).unwrap().instance).collect();
    let since = rig.root.version(service).unwrap();
    assert_eq!(since, 5);
    assert_eq!(changes(&rig.root, service, since), []);
    rig.detach(node, instances[1]);
    rig.detach(node, instances[3]);
    rig.attach(node, new("s"), 2).unwrap();
    rig.attach(node, take("s", 9), 9).unwrap();
    assert_eq!(changes(&rig.root, service, since), [(1, true), (3, false), (9, true)]);
    assert_eq!(changes(&rig.root, service, since + 1), [(1, true), (3, false), (9, true)]);
    assert_eq!(changes(&rig.root, service, 0), [(0, true), (1, true), (2, true), (9, true)]);
    assert_eq!(rig.root.header_version(service), 1);
    assert_eq!(rig.root.next_change(ServiceId(99), 0, 0), None);
}

#[test]
fn a_nodes_liveness_endpoint_and_epoch_change_the_tables_that_name_it() {
    let mut rig = Rig::new();
    let (a, b) = (rig.node(1), rig.node(2));
    let (s, t) = (rig.create("s").unwrap().id, rig.create("t").unwrap().id);
    for offset in [1, 2] {
        rig.attach(a, new("s"), offset).unwrap();
    }
    rig.attach(b, new("s"), 1).unwrap();
    rig.attach(b, new("t"), 2).unwrap();
    drain(&mut rig.root);
    let mut at = rig.root.version(s).unwrap();
    let mut expect_changed = |rig: &mut Rig, expected: &[(u32, bool)]| {
        assert_eq!(changes(&rig.root, s, at), expected);
        assert_eq!(drain(&mut rig.root), if expected.is_empty() { vec![] } else { vec![s] });
        at = rig.root.version(s).unwrap();
    };
    rig.hello(1, &hello(1)).unwrap();
    expect_changed(&mut rig, &[]);
    let both = [(0, true), (1, true)];
    rig.root.set_alive(rig.now, a, false);
    let Some(Change::Present(record)) = rig.root.next_change(s, 0, 0) else { panic!() };
    assert!(!record.alive && record.weight == 1);
    expect_changed(&mut rig, &both);
    rig.root.set_alive(rig.now, a, false);
    expect_changed(&mut rig, &[]);
    rig.hello(1, &hello(1)).unwrap();
    assert!(rig.root.nodes()[0].alive, "a Hello is a sign of life");
    expect_changed(&mut rig, &both);
    rig.hello(1, &Hello { endpoint: endpoint(7), ..hello(1) }).unwrap();
    expect_changed(&mut rig, &both);
    rig.hello(1, &Hello { endpoint: endpoint(7), ..hello(2) }).unwrap();
    expect_changed(&mut rig, &both);
    assert_eq!(rig.root.version(t), Some(2));
}

#[test]
fn only_the_last_removals_are_remembered_and_who_is_behind_them_is_told() {
    let limits = Limits { removals: 3, ..Limits::default() };
    let mut rig = Rig::with(AddressPlan::DEFAULT, limits);
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    let instances: Vec<_> = (1..=5).map(|offset| rig.attach(node, new("s"), offset).unwrap().instance).collect();
    let since = rig.root.version(service).unwrap();
    for instance in &instances[..3] {
        rig.detach(node, *instance);
    }
    assert_eq!(rig.root.patchable_since(service), 1);
    assert_eq!(changes(&rig.root, service, since).len(), 3);
    rig.detach(node, instances[3]);
    let patchable = rig.root.patchable_since(service);
    assert_eq!(patchable, since + 1, "who knows the removal of number 0 can still be patched");
    assert_eq!(changes(&rig.root, service, patchable), [(1, false), (2, false), (3, false)]);
    // A number that is used again is no removal any more.
    rig.attach(node, take("s", 2), 1).unwrap();
    rig.detach(node, instances[4]);
    assert_eq!(rig.root.patchable_since(service), patchable);
}

#[test]
fn versions_never_go_back_and_tables_from_before_a_restart_are_sent_whole() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    rig.attach(node, new("s"), 1).unwrap();
    let mut last = 0;
    for round in 0..5 {
        // Some rounds change stored things, all change only liveness very often.
        if round % 2 == 0 {
            rig.attach(node, new("s"), 2 + round).unwrap();
        }
        for turn in 0..5_000 {
            rig.root.set_alive(rig.now, node, turn % 2 == 1);
        }
        let version = rig.root.version(service).unwrap();
        assert!(version > last);
        last = version;
        rig.restart();
        let version = rig.root.version(service).unwrap();
        assert!(version >= last);
        last = version;
        assert_eq!(rig.root.patchable_since(service), version);
        assert_eq!(changes(&rig.root, service, 0).len(), rig.root.services()[0].instances.len());
    }
}

#[test]
fn versions_never_go_back_whatever_raised_them() {
    let limits = Limits { version_step: 3, ..Limits::default() };
    let mut rig = Rig::with(AddressPlan::DEFAULT, limits);
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    let mut last = 0;
    for changes in 0..12 {
        for _ in 0..changes {
            let instance = rig.attach(node, new("s"), 1).unwrap().instance;
            rig.detach(node, instance);
        }
        let version = rig.root.version(service).unwrap();
        assert!(version >= last + 2 * changes);
        rig.restart();
        last = rig.root.version(service).unwrap();
        assert!(last >= version, "{changes} changes");
    }
}

#[test]
fn after_a_restart_nodes_count_as_alive_until_their_lease_has_passed() {
    let mut rig = Rig::new();
    let (a, b) = (rig.node(1), rig.node(2));
    let service = rig.create("s").unwrap().id;
    rig.attach(a, new("s"), 1).unwrap();
    rig.attach(b, new("s"), 1).unwrap();
    rig.root.set_alive(rig.now, a, false);
    rig.restart();
    let alive = |rig: &Rig| rig.root.nodes().iter().map(|info| info.alive).collect::<Vec<_>>();
    rig.pass(9);
    rig.hello(2, &hello(1)).unwrap();
    assert_eq!(alive(&rig), [true, true]);
    drain(&mut rig.root);
    rig.pass(1);
    assert_eq!(alive(&rig), [false, true]);
    assert_eq!(drain(&mut rig.root), [service]);
    rig.hello(1, &hello(1)).unwrap();
    assert_eq!(alive(&rig), [true, true]);
}
