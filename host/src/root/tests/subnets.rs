//! Worker subnets.

use super::*;

fn subnet_of(rig: &Rig, node: NodeId) -> String {
    let nodes = rig.root.nodes();
    nodes.iter().find(|info| info.id == node).unwrap().subnet.unwrap().v4().to_string()
}

#[test]
fn every_subnet_is_given_once_then_they_are_exhausted() {
    let mut rig = Rig::new();
    let mut given = std::collections::BTreeSet::new();
    let join = |number: u32| {
        let mut key = [0xee; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        NodeKey(key)
    };
    let join_keys: Vec<_> = (0..1_025).map(join).collect();
    rig.root.create_join_keys(rig.now, &join_keys, UNIX + 60).unwrap();
    for number in 0..1_025 {
        let from = Sender { key: join(number), observed: endpoint(1) };
        let joining = Some(join(10_000 + number));
        let admission = rig.root.hello(rig.now, from, &Hello { joining, ..hello(1) });
        if number == 1_024 {
            assert_eq!(admission, Err(Refusal::SubnetsExhausted.into()));
            break;
        }
        let subnet = admission.unwrap().subnet;
        assert_eq!(rig.plan.worker_subnet(number), Some(subnet), "both families by the same index, from the bottom");
        assert!(given.insert(subnet));
    }
    assert_eq!(given.len(), 1_024);
}

#[test]
fn a_requested_subnet_is_given_if_it_is_free_and_in_the_plan() {
    let mut rig = Rig::new();
    let node = rig.node_in(1, Some("10.18.30.64"));
    let wants = |base: &str| Hello { subnet: Some(base.parse().unwrap()), ..hello(1) };
    assert_eq!(rig.hello(1, &wants("10.18.30.64")).unwrap().subnet.v4().to_string(), "10.18.30.64/26");
    assert_eq!(rig.hello(1, &hello(1)).unwrap().subnet.v4().to_string(), "10.18.30.64/26", "its old one");
    rig.root.register_node_key(rig.now, node_key(2)).unwrap();
    for refused in ["10.18.30.64", "10.18.30.65", "10.19.0.0", "10.30.0.0"] {
        assert_eq!(rig.hello(2, &wants(refused)), Err(Refusal::Subnet.into()), "{refused}");
    }
    assert_eq!(rig.root.nodes().len(), 1, "a refused node is not there");
    rig.hello(2, &wants("10.18.0.0")).unwrap();
    assert_eq!(rig.node(3), NodeId(3));
    assert_eq!(subnet_of(&rig, NodeId(3)), "10.18.0.64/26", "the next that is free");
    assert_eq!(subnet_of(&rig, node), "10.18.30.64/26");
}

#[test]
fn a_node_moves_to_another_subnet_only_when_nothing_runs_in_the_old_one() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let host = rig.attach(node, AttachKind::Host, 62).unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap().instance;
    let wants = Hello { subnet: Some("10.18.1.0".parse().unwrap()), ..hello(2) };
    assert_eq!(rig.hello(1, &wants), Err(Refusal::Subnet.into()));
    assert!(rig.root.service(&named("s")).unwrap().instances[0].attached, "nothing has changed, its epoch neither");
    rig.detach(node, instance);
    assert_eq!(rig.hello(1, &wants).unwrap().subnet.v4().to_string(), "10.18.1.0/26");
    assert_ne!(rig.attach(node, AttachKind::Host, 62).unwrap().instance_ip, host.instance_ip);
    rig.restart();
    assert_eq!(subnet_of(&rig, node), "10.18.1.0/26");
    // The old one rests first.
    rig.root.register_node_key(rig.now, node_key(2)).unwrap();
    let old = Hello { subnet: Some("10.18.0.0".parse().unwrap()), ..hello(1) };
    assert_eq!(rig.hello(2, &old), Err(Refusal::Subnet.into()));
    rig.pass(60);
    rig.hello(2, &old).unwrap();
}

#[test]
fn a_silent_node_is_forgotten_after_its_retention_and_all_it_had_returns() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let other = rig.node(2);
    let service = rig.create("s").unwrap();
    rig.attach(node, AttachKind::Host, 62).unwrap();
    rig.attach(node, new("s"), 1).unwrap();
    rig.attach(other, new("s"), 1).unwrap();
    while rig.root.poll_key_event().is_some() {}
    rig.pass(86_399);
    rig.hello(2, &hello(1)).unwrap();
    assert_eq!(rig.root.nodes().len(), 2);
    rig.pass(1);
    assert_eq!(rig.root.nodes().iter().map(|info| info.id).collect::<Vec<_>>(), [other]);
    let left = rig.root.service(&named("s")).unwrap().instances;
    assert_eq!(left.iter().map(|instance| instance.number).collect::<Vec<_>>(), [1]);
    assert_eq!(rig.root.poll_key_event(), None, "its key is still registered");
    assert_eq!(rig.root.resolve(&address("10.30.255.254")), acorn_core::sync::directory::Lookup::NotFound);
    rig.acknowledge(service.id);
    rig.pass(60);
    assert_eq!(rig.attach(other, new("s"), 2).unwrap().instance_ip, pair("10.30.0.2", "fdff::1"));
    // It comes back as a new node, in the subnet that has been free longest.
    let back = rig.hello(1, &hello(1)).unwrap();
    assert_eq!((back.node, back.subnet.v4().to_string()), (NodeId(3), "10.18.0.0/26".to_owned()));
}
