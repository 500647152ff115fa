//! Where nodes say to be: tables of services that go by distance say so, and others are left alone.

use acorn_core::sync::directory::Change;
use acorn_core::sync::message::Report;

use super::*;

fn coordinate(rig: &Rig, id: InstanceId) -> [i16; 3] {
    match rig.root.next_change(id.service, id.number, 0) {
        Some(Change::Present(record)) if record.number == id.number => record.coordinate,
        other => panic!("{other:?}"),
    }
}

fn report(rig: &mut Rig, node: NodeId, coordinate: [i16; 3]) -> bool {
    rig.root.report(rig.now, node, &Report { request: 1, coordinate, error: 100 })
}

/// A root with a node that runs an instance of a service under `Closest`, and one of a service under `RR`.
fn furnished() -> (Rig, NodeId, InstanceId, InstanceId) {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let closest = AddressRequest {
        ip_type: "Closest".try_into().unwrap(),
        block: PolicyBlock::new(1).unwrap(),
        ..round_robin(None, None)
    };
    let request = ServiceRequest { name: named("near"), addresses: vec![closest], fixed: Vec::new() };
    rig.root.create_service(rig.now, request).unwrap();
    rig.create("any").unwrap();
    let near = rig.attach(node, new("near"), 1).unwrap().instance;
    let any = rig.attach(node, new("any"), 2).unwrap().instance;
    (rig, node, near, any)
}

#[test]
fn a_place_changes_the_tables_that_go_by_distance_and_is_forgotten_with_the_process() {
    let (mut rig, node, near, any) = furnished();
    let versions = |rig: &Rig| [near, any].map(|id| rig.root.version(id.service).unwrap());
    let before = versions(&rig);
    assert!(report(&mut rig, node, [100, -20, 7]));
    assert_eq!(coordinate(&rig, near), [100, -20, 7]);
    let after = versions(&rig);
    assert!(after[0] > before[0]);
    assert_eq!(after[1], before[1], "nobody there asks how far it is");
    assert!(report(&mut rig, node, [100, -20, 7]));
    assert_eq!(versions(&rig), after, "a repeat is no news");
    rig.restart();
    assert_eq!(coordinate(&rig, near), [0; 3], "the node says it again");
}

#[test]
fn a_node_that_moves_all_the_time_is_believed_now_and_then() {
    let (mut rig, node, near, _) = furnished();
    assert!(report(&mut rig, node, [1, 1, 1]));
    let version = rig.root.version(near.service);
    for x in 2..200 {
        assert!(!report(&mut rig, node, [x, 1, 1]));
    }
    assert_eq!((coordinate(&rig, near), rig.root.version(near.service)), ([1, 1, 1], version));
    rig.now = rig.now.saturating_add(Duration::from_secs(5));
    assert!(report(&mut rig, node, [300, 1, 1]));
    assert_eq!(coordinate(&rig, near), [300, 1, 1]);
    assert!(report(&mut rig, NodeId(77), [1, 1, 1]), "a node that is not there is nowhere");
}
