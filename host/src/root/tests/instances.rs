//! Attaching, moving and detaching instances.

use acorn_core::sync::directory::Change;

use super::*;

#[test]
fn the_same_word_of_the_same_place_gets_the_same_answer() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let first = rig.attach(node, new("s"), 5).unwrap();
    let version = rig.root.version(first.instance.service);
    assert_eq!(rig.attach(node, new("s"), 5).unwrap(), first);
    assert_eq!(rig.attach(node, take("s", 0), 5).unwrap(), first);
    assert_eq!(rig.attach(node, AttachKind::Resume(first.instance), 5).unwrap(), first);
    assert_eq!(rig.root.version(first.instance.service), version, "nothing has changed");
}

#[test]
fn a_place_that_gets_another_instance_loses_the_old_one() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("a").unwrap();
    rig.create("b").unwrap();
    let old = rig.attach(node, new("a"), 5).unwrap();
    let new = rig.attach(node, new("b"), 5).unwrap();
    assert_eq!(rig.root.service(&named("a")).unwrap().instances, []);
    assert_ne!(new.instance_ip, old.instance_ip, "the old address rests");
    assert_eq!(rig.attach(node, AttachKind::Resume(old.instance), 6), Err(Refusal::NoSuchInstance.into()));
    // Also within a service.
    let other = rig.attach(node, take("b", 4), 5).unwrap();
    let numbers: Vec<_> = rig.root.service(&named("b")).unwrap().instances.iter().map(|i| i.number).collect();
    assert_eq!(numbers, [4]);
    assert_eq!(rig.root.state.places.len(), 1);
    // And when an instance is said to have moved within its node.
    rig.attach(node, AttachKind::Resume(other.instance), 7).unwrap();
    assert_eq!(rig.root.state.places.len(), 1);
    assert_eq!(rig.attach(node, take("b", 4), 7).unwrap(), other);
}

#[test]
fn numbers_are_the_lowest_that_are_not_in_use() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let attach = |rig: &mut Rig, kind, offset| rig.attach(node, kind, offset).unwrap().instance;
    assert_eq!(attach(&mut rig, take("s", 1), 1).number, 1);
    let zero = attach(&mut rig, new("s"), 2);
    assert_eq!(zero.number, 0);
    assert_eq!(attach(&mut rig, new("s"), 3).number, 2);
    rig.detach(node, zero);
    assert_eq!(attach(&mut rig, new("s"), 4).number, 0);
}

#[test]
fn an_instance_that_moves_keeps_its_address_and_its_old_node_hears_of_it() {
    let mut rig = Rig::new();
    let (a, b) = (rig.node(1), rig.node(2));
    rig.create("s").unwrap();
    let at_a = rig.attach(a, new("s"), 1).unwrap();
    let since = rig.root.version(at_a.instance.service).unwrap();
    let at_b = rig.attach(b, take("s", 0), 9).unwrap();
    assert_eq!(at_b, at_a);
    let Some(Change::Present(record)) = rig.root.next_change(at_a.instance.service, 0, since) else { panic!() };
    assert_eq!((record.node, record.namespace_ip), (b, pair("10.18.0.73", "fc00::109")));
    assert_eq!(rig.attach(a, AttachKind::Resume(at_a.instance), 1), Err(Refusal::Moved.into()));
    assert_eq!(rig.root.detach(rig.now, a, &gone(at_a.instance)), Err(Refusal::Moved.into()));
    // The old place is free for another.
    assert_eq!(rig.attach(a, new("s"), 1).unwrap().instance.number, 1);
    rig.detach(b, at_b.instance);
    rig.detach(b, at_b.instance);
}

#[test]
fn what_does_not_exist_is_refused() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    assert_eq!(rig.attach(node, new("t"), 1), Err(Refusal::NoSuchService.into()));
    assert_eq!(rig.attach(node, take("t", 0), 1), Err(Refusal::NoSuchService.into()));
    assert_eq!(rig.attach(node, AttachKind::New(ServiceName::EMPTY), 1), Err(Refusal::NoSuchService.into()));
    let unknown = AttachKind::Resume(InstanceId { service, number: 0 });
    assert_eq!(rig.attach(node, unknown, 1), Err(Refusal::NoSuchInstance.into()));
    assert_eq!(rig.root.services()[0].instances, []);
}

#[test]
fn a_namespace_ip_lies_in_the_nodes_own_subnets_as_a_pair() {
    let mut rig = Rig::new();
    let node = rig.node_in(1, Some("10.18.30.64"));
    rig.node_in(2, Some("10.18.30.128"));
    rig.create("s").unwrap();
    for (v4, v6) in [
        ("10.18.30.129", "fc00::7a01"),
        ("10.18.30.65", "fc00::7a01"),
        ("10.18.30.129", "fc00::7901"),
        ("10.18.30.65", "fc00::7902"),
        ("10.18.30.64", "fc00::7900"),
        ("10.18.30.127", "fc00::793f"),
    ] {
        let attach = Attach { request: 1, kind: new("s"), namespace_ip: pair(v4, v6) };
        assert_eq!(
            rig.root.attach(rig.now, node, &attach, Adjustment::default()),
            Err(Refusal::NamespaceIp.into()),
            "{v4} {v6}"
        );
    }
}

#[test]
fn a_restarted_node_settles_what_it_does_not_say_again() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    let kept = rig.attach(node, new("s"), 1).unwrap();
    rig.attach(node, new("s"), 2).unwrap();
    rig.root.settle(rig.now, node, 1);
    let mut digest = Digest::default();
    digest.add_instance(kept.instance);
    let again = Hello { instances: digest, ..hello(2) };
    assert!(rig.hello(1, &again).unwrap().reattach);
    let attached =
        |rig: &Rig| rig.root.service(&named("s")).unwrap().instances.iter().map(|i| i.attached).collect::<Vec<_>>();
    assert_eq!(attached(&rig), [false, false]);
    assert_eq!(rig.attach(node, AttachKind::Resume(kept.instance), 1).unwrap(), kept);
    // The root's own restart in the middle does not confuse it, nor does the end of an earlier epoch.
    rig.restart();
    assert_eq!(attached(&rig), [true, false]);
    rig.root.settle(rig.now, node, 1);
    assert_eq!(attached(&rig), [true, false]);
    rig.root.settle(rig.now, node, 2);
    assert_eq!(attached(&rig), [true]);
    assert!(!rig.hello(1, &again).unwrap().reattach);
    assert_eq!(rig.root.state.withdrawn[&service].len(), 2);
}

#[test]
fn a_node_that_disagrees_with_a_restarted_root_settles_what_it_does_not_say_again() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let kept = rig.attach(node, new("s"), 1).unwrap().instance;
    let lost = rig.attach(node, new("s"), 2).unwrap().instance;
    let numbers =
        |rig: &Rig| rig.root.service(&named("s")).unwrap().instances.iter().map(|i| i.number).collect::<Vec<_>>();
    let runs = |instances: &[InstanceId]| {
        let mut digest = Digest::default();
        instances.iter().for_each(|instance| digest.add_instance(*instance));
        Hello { instances: digest, ..hello(1) }
    };
    rig.restart();
    assert!(!rig.hello(1, &runs(&[kept, lost])).unwrap().reattach);
    rig.root.settle(rig.now, node, 1);
    assert_eq!(numbers(&rig), [0, 1], "they agree: nothing has to be said again");
    rig.restart();
    assert!(rig.hello(1, &runs(&[kept])).unwrap().reattach);
    rig.pass(5);
    rig.attach(node, AttachKind::Resume(kept), 1).unwrap();
    rig.root.settle(rig.now, node, 1);
    assert_eq!(numbers(&rig), [0]);
}

#[test]
fn freed_addresses_rest_after_everybody_knows_and_return_oldest_first() {
    let mut rig = Rig::with(plan_of("10.30.0.0/29"), Limits::default());
    let node = rig.node(1);
    let service = rig.create("s").unwrap().id;
    let mut instances: Vec<_> = (1..=5).map(|offset| rig.attach(node, new("s"), offset).unwrap()).collect();
    assert_eq!(rig.attach(node, new("s"), 6), Err(Refusal::AddressesExhausted.into()));
    let second = instances.remove(1);
    rig.detach(node, second.instance);
    let early = rig.root.version(service).unwrap();
    rig.pass(1);
    let first = instances.remove(0);
    rig.detach(node, first.instance);
    rig.pass(600);
    assert_eq!(rig.attach(node, new("s"), 6), Err(Refusal::AddressesExhausted.into()), "nobody has said that all know");
    rig.root.acknowledged(rig.now, service, early - 1);
    rig.pass(60);
    assert_eq!(rig.attach(node, new("s"), 6), Err(Refusal::AddressesExhausted.into()), "they know an older version");
    rig.root.acknowledged(rig.now, service, early);
    rig.pass(59);
    assert_eq!(rig.attach(node, new("s"), 6), Err(Refusal::AddressesExhausted.into()), "it rests");
    rig.acknowledge(service);
    rig.pass(1);
    assert_eq!(rig.attach(node, new("s"), 6).unwrap().instance_ip, second.instance_ip);
    assert_eq!(rig.attach(node, new("s"), 7), Err(Refusal::AddressesExhausted.into()));
    rig.pass(59);
    assert_eq!(rig.attach(node, new("s"), 7).unwrap().instance_ip, first.instance_ip);
    assert_eq!(rig.root.state.releases.len(), 0);
}

#[test]
fn a_withdrawal_that_nobody_acknowledges_ends_with_the_retention() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap();
    rig.detach(node, instance.instance);
    rig.pass(86_399);
    rig.hello(1, &hello(1)).unwrap();
    rig.pass(1);
    rig.pass(59);
    assert_eq!(rig.attach(node, new("s"), 1).unwrap().instance_ip, pair("10.30.0.3", "fdff::2"));
    rig.pass(1);
    assert_eq!(rig.attach(node, new("s"), 2).unwrap().instance_ip, instance.instance_ip);
}

#[test]
fn a_late_repeat_of_an_attach_does_not_bring_back_what_was_detached_since() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let subnet = rig.root.nodes()[0].subnet;
    let attach = |request, offset| Attach {
        request,
        kind: new("s"),
        namespace_ip: subnet.unwrap().namespace_ip(offset).unwrap().dual(),
    };
    let settings = Adjustment::default();
    // Numbers grow modulo 2^32.
    let first = attach(u32::MAX, 1);
    let instance = rig.root.attach(rig.now, node, &first, settings).unwrap().instance;
    rig.root.detach(rig.now, node, &Detach { request: 1, instance }).unwrap();
    assert_eq!(rig.root.attach(rig.now, node, &first, settings), Err(Refusal::NoSuchInstance.into()));
    assert!(rig.root.services()[0].instances.is_empty());
    rig.root.attach(rig.now, node, &attach(0, 2), settings).expect("another place");
    rig.root.attach(rig.now, node, &attach(2, 1), settings).expect("a later request");
    // Of another start of the node, the numbers say nothing.
    let instance = rig.root.services()[0].instances[1].number;
    let instance = InstanceId { service: rig.root.services()[0].id, number: instance };
    rig.root.detach(rig.now, node, &Detach { request: 9, instance }).unwrap();
    rig.hello(1, &hello(2)).unwrap();
    rig.root.attach(rig.now, node, &attach(3, 1), settings).expect("after a restart");
    rig.pass(30);
    assert!(rig.root.detached.is_empty());
}
