//! Services and their addresses.

use acorn_core::addr::CustomAddressError;
use acorn_core::policy::Registry;
use acorn_core::sync::directory::Lookup;
use acorn_core::sync::message::Subject;

use super::super::FixedAddress;
use super::*;

#[test]
fn the_reference_example_comes_out_address_for_address() {
    let mut rig = Rig::new();
    let worker = rig.node_in(1, Some("10.18.30.64"));
    assert_eq!(rig.root.nodes()[0].subnet.unwrap().to_string(), "10.18.30.64/26 fc00::7900/120");
    let service = rig.create("s").unwrap();
    assert_eq!(service.service_ips, [(IpType::try_from("RR").unwrap(), pair("10.30.0.1", "fdff:2000::1"))]);
    let s1 = rig.attach(worker, new("s"), 1).unwrap();
    let s2 = rig.attach(worker, new("s"), 2).unwrap();
    assert_eq!(s1.instance_ip, pair("10.30.0.2", "fdff::1"));
    assert_eq!(s2.instance_ip, pair("10.30.0.3", "fdff::2"));
    let instances = rig.root.service(&named("s")).unwrap().instances;
    let namespace_ips: Vec<_> = instances.iter().map(|instance| instance.namespace_ip).collect();
    assert_eq!(namespace_ips, [pair("10.18.30.65", "fc00::7901"), pair("10.18.30.66", "fc00::7902")]);
    assert_eq!(instances.iter().map(|instance| instance.number).collect::<Vec<_>>(), [0, 1]);
    assert!(instances.iter().all(|instance| instance.alive && instance.attached));
    for text in ["10.30.0.1", "fdff:2000::1"] {
        assert_eq!(rig.root.resolve(&address(text)), Lookup::Found(Subject::whole(service.id)));
    }
    for text in ["10.30.0.3", "fdff::2"] {
        assert_eq!(rig.root.resolve(&address(text)), Lookup::Found(s2.instance.into()));
    }
    assert_eq!(rig.root.resolve(&ResolveKey::Name(named("s"))), Lookup::Found(Subject::whole(service.id)));
    assert_eq!(rig.root.resolve(&ResolveKey::Subject(s1.instance.into())), Lookup::Found(s1.instance.into()));
    assert_eq!(rig.root.resolve(&address("10.18.30.65")), Lookup::NotFound, "namespace IPs are not dialled");
    assert_eq!(rig.root.resolve(&ResolveKey::Name(ServiceName::EMPTY)), Lookup::NotFound);
}

#[test]
fn a_host_takes_its_addresses_from_the_top_and_is_no_service() {
    let mut rig = Rig::new();
    let (a, b) = (rig.node(1), rig.node(2));
    let first = rig.attach(a, AttachKind::Host, 62).unwrap();
    let second = rig.attach(b, AttachKind::Host, 62).unwrap();
    assert_eq!(first.instance_ip, pair("10.30.255.254", "fdff::fffe"));
    assert_eq!(second.instance_ip, pair("10.30.255.253", "fdff::fffd"));
    assert_ne!(first.instance.service, second.instance.service);
    assert_eq!(rig.root.services(), []);
    assert_eq!(rig.root.nodes()[0].instances, 0);
    assert_eq!(rig.root.resolve(&address("fdff::fffe")), Lookup::Found(first.instance.into()));
    assert_eq!(rig.root.header(first.instance.service).unwrap().name, ServiceName::EMPTY);
    assert_eq!(rig.attach(a, AttachKind::Host, 62).unwrap(), first);
}

#[test]
fn a_key_is_resolved_to_an_instance_on_its_node_the_hosts_own_first() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let by_key = |rig: &mut Rig, key| rig.root.resolve(&ResolveKey::Node(node_key(key)));
    assert_eq!(by_key(&mut rig, 1), Lookup::NotFound, "nothing runs there");
    rig.create("s").unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap().instance;
    assert_eq!(by_key(&mut rig, 1), Lookup::Found(instance.into()));
    let host = rig.attach(node, AttachKind::Host, 62).unwrap().instance;
    assert_eq!(by_key(&mut rig, 1), Lookup::Found(host.into()));
    assert_eq!(by_key(&mut rig, 2), Lookup::NotFound);
}

#[test]
fn a_name_is_taken_once() {
    let mut rig = Rig::new();
    rig.create("s").unwrap();
    assert!(matches!(rig.create("s"), Err(ServiceError::AlreadyExists(name)) if *name == named("s")));
    assert_eq!(rig.root.services().len(), 1);
}

#[test]
fn a_custom_address_is_never_given_to_anybody_else() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create_at("custom", Some("10.30.0.2"), Some("fdff:2000::0002")).unwrap();
    assert_eq!(rig.create("a").unwrap().service_ips[0].1, pair("10.30.0.1", "fdff:2000::1"));
    assert_eq!(rig.create("b").unwrap().service_ips[0].1, pair("10.30.0.3", "fdff:2000::3"));
    assert_eq!(rig.attach(node, new("a"), 1).unwrap().instance_ip, pair("10.30.0.4", "fdff::1"));
    // By a service, by an instance, by a host, and by the same request.
    let host = rig.attach(node, AttachKind::Host, 62).unwrap();
    for (v4, owner) in [
        ("10.30.0.2", "service custom.test.custom.test"),
        ("10.30.0.4", "instance 0 of service a.test.a.test"),
        ("10.30.255.254", "the host of node node"),
    ] {
        let refused = rig.create_at("c", Some(v4), None);
        assert!(matches!(refused, Err(ServiceError::AddressTaken { by, .. }) if by == owner), "{v4}");
    }
    assert!(matches!(
        rig.create_at("c", None, Some("fdff:2000:0::2")),
        Err(ServiceError::AddressTaken { address, .. }) if address.to_string() == "fdff:2000::2"
    ));
    // What was freed is not free at once.
    rig.detach(node, host.instance);
    assert!(matches!(rig.create_at("c", Some("10.30.255.254"), None), Err(ServiceError::AddressResting { .. })));
    rig.acknowledge(host.instance.service);
    assert!(matches!(rig.create_at("c", Some("10.30.255.254"), None), Err(ServiceError::AddressResting { .. })));
    rig.pass(60);
    rig.create_at("c", Some("10.30.255.254"), None).unwrap();
}

#[test]
fn a_custom_address_beyond_the_pool_is_held_by_one_service() {
    let mut rig = Rig::new();
    let far = "fdff:27ff::dead:beef";
    let service = rig.create_at("far", None, Some(far)).unwrap();
    assert!(matches!(rig.create_at("other", None, Some(far)), Err(ServiceError::AddressTaken { .. })));
    rig.root.remove_service(rig.now, &named("far")).unwrap();
    rig.acknowledge(service.id);
    rig.restart();
    assert!(matches!(rig.create_at("other", None, Some(far)), Err(ServiceError::AddressResting { .. })));
    rig.pass(60);
    assert_eq!(rig.root.state.releases.len(), 1, "only the IPv4 address has a place in the order of reuse");
    assert_eq!(rig.create_at("other", None, Some(far)).unwrap().service_ips[0].1, pair("10.30.0.1", far));
}

#[test]
fn when_half_of_a_pair_is_refused_nothing_is_taken() {
    let mut rig = Rig::new();
    let outside = rig.create_at("s", Some("10.30.0.7"), Some("fdff:2800::1"));
    assert!(matches!(
        outside,
        Err(ServiceError::OutsidePlan { reason: CustomAddressError::OutsidePool { prefix: 21, .. }, .. })
    ));
    let broadcast = rig.create_at("s", Some("10.30.255.255"), Some("fdff:2000::7"));
    assert!(matches!(broadcast, Err(ServiceError::OutsidePlan { reason: CustomAddressError::Broadcast, .. })));
    let network = rig.create_at("s", Some("10.30.0.0"), None);
    assert!(matches!(network, Err(ServiceError::OutsidePlan { reason: CustomAddressError::Network, .. })));
    // An instance's IPv6 address is none of a service.
    assert!(matches!(rig.create_at("s", None, Some("fdff::1")), Err(ServiceError::OutsidePlan { .. })));
    rig.create_at("s", Some("10.30.0.7"), Some("fdff:2000::7")).unwrap();
}

#[test]
fn policies_of_one_request_get_different_addresses() {
    let mut rig = Rig::new();
    let closest = AddressRequest {
        ip_type: IpType::try_from("Closest").unwrap(),
        block: PolicyBlock::new(1).unwrap(),
        v4: Some("10.30.0.1".parse().unwrap()),
        v6: None,
    };
    let request = |addresses| ServiceRequest { name: named("s"), addresses, fixed: Vec::new() };
    let both = request(vec![round_robin(None, None), closest.clone()]);
    let service = rig.root.create_service(rig.now, both).unwrap();
    assert_eq!(service.service_ips[0].1, pair("10.30.0.2", "fdff:2000::1"));
    assert_eq!(service.service_ips[1].1, pair("10.30.0.1", "fdff:1000::1"));
    let same = AddressRequest { v4: Some("10.30.0.9".parse().unwrap()), ..closest };
    let twice = ServiceRequest {
        name: named("t"),
        addresses: vec![round_robin(Some("10.30.0.9"), None), same.clone()],
        fixed: Vec::new(),
    };
    assert!(matches!(rig.root.create_service(rig.now, twice), Err(ServiceError::AddressTaken { .. })));
    for addresses in [vec![], vec![same.clone(), same]] {
        let request = ServiceRequest { name: named("t"), addresses, fixed: Vec::new() };
        assert!(matches!(rig.root.create_service(rig.now, request), Err(ServiceError::Malformed)));
    }
}

#[test]
fn an_ipv6_address_is_in_the_block_of_its_policy_whichever_that_is() {
    let mut rig = Rig::new();
    let mut create = |name: &str, number: u8, v6: &str| {
        let ip_type = IpType::try_from(format!("Policy{number}").as_str()).unwrap();
        let (block, v6) = (PolicyBlock::new(number).unwrap(), Some(v6.parse().unwrap()));
        let addresses = vec![AddressRequest { ip_type, block, v4: None, v6 }];
        rig.root.create_service(rig.now, ServiceRequest { name: named(name), addresses, fixed: Vec::new() })
    };
    for number in 1..=15 {
        for other in (0..=15).filter(|other| *other != number) {
            let refused = create("s", number, &format!("fdff:{other:x}000::1")).unwrap_err().to_string();
            let says = format!(
                "the address fdff:{other:x}000::1 can't be a service's under Policy{number}: the address must be in \
                 fdff:{number:x}000::/21"
            );
            assert_eq!(refused, says.replace("fdff:0000::1", "fdff::1"));
        }
        let beyond = create("s", number, &format!("fdff:{number:x}800::")).unwrap_err();
        assert!(matches!(beyond, ServiceError::OutsidePlan { .. }), "{beyond}");
        let last = format!("fdff:{number:x}7ff:ffff:ffff:ffff:ffff:ffff:ffff");
        let service = create(&format!("s{number}"), number, &last).unwrap();
        assert_eq!(service.service_ips[0].1, pair(&format!("10.30.0.{number}"), &last));
    }
}

#[test]
fn a_service_can_have_an_address_under_every_registered_policy() {
    let mut rig = Rig::new();
    let registry = Registry::built_in();
    let policies = registry.iter().map(|policy| AddressRequest {
        ip_type: policy.ip_type().try_into().unwrap(),
        block: PolicyBlock::new(policy.block()).unwrap(),
        v4: None,
        v6: None,
    });
    let addresses: Vec<_> = policies.collect();
    let request = ServiceRequest { name: named("s"), addresses: addresses.clone(), fixed: Vec::new() };
    let service = rig.root.create_service(rig.now, request).unwrap();
    assert_eq!(service.service_ips.len(), addresses.len());
    for (last, ((ip_type, given), asked)) in (1..).zip(service.service_ips.iter().zip(addresses)) {
        let expected = Dual::new([10, 30, 0, last].into(), rig.plan.policy_v6(asked.block, 1).unwrap());
        assert_eq!((ip_type, *given), (&asked.ip_type, expected));
        for dialled in [given.v4.to_string(), given.v6.to_string()] {
            assert_eq!(rig.root.resolve(&address(&dialled)), Lookup::Found(Subject::whole(service.id)));
        }
    }
}

#[test]
fn every_service_address_is_given_once_then_they_are_exhausted_until_one_returns() {
    let mut rig = Rig::with(plan_of("10.30.0.0/24"), Limits::default());
    let node = rig.node(1);
    let host = rig.attach(node, AttachKind::Host, 62).unwrap();
    let mut given = vec![host.instance_ip.v4];
    for number in 0..253 {
        given.push(rig.create(&format!("s{number}")).unwrap().service_ips[0].1.v4);
    }
    given.sort_unstable();
    assert_eq!(given, (1..255).map(|last| Ipv4Addr::new(10, 30, 0, last)).collect::<Vec<_>>());
    assert!(matches!(rig.create("more"), Err(ServiceError::Exhausted { limit: 254, .. })));
    assert_eq!(rig.attach(node, new("s0"), 1), Err(Refusal::AddressesExhausted.into()));
    for name in ["s9", "s4"] {
        let id = rig.root.service(&named(name)).unwrap().id;
        rig.root.remove_service(rig.now, &named(name)).unwrap();
        rig.acknowledge(id);
        rig.pass(1);
    }
    assert!(matches!(rig.create("more"), Err(ServiceError::Exhausted { .. })));
    rig.pass(60);
    assert_eq!(rig.create("more").unwrap().service_ips[0].1, pair("10.30.0.10", "fdff:2000::a"), "the oldest first");
    assert_eq!(rig.attach(node, new("s0"), 1).unwrap().instance_ip, pair("10.30.0.5", "fdff::1"));
    assert_eq!(rig.attach(node, new("s0"), 2), Err(Refusal::AddressesExhausted.into()));
}

#[test]
fn a_service_with_instances_is_not_removed_and_its_name_returns_when_it_is() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let first = rig.create("s").unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap().instance;
    let refused = rig.root.remove_service(rig.now, &named("s"));
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "service s.test.s.test still has 1 instance(s), number 0 on node node: detach them first");
    rig.detach(node, instance);
    rig.root.remove_service(rig.now, &named("s")).unwrap();
    assert!(matches!(rig.root.remove_service(rig.now, &named("s")), Err(ServiceError::NotFound(_))));
    assert_eq!(rig.root.version(first.id), None);
    let second = rig.create("s").unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(second.service_ips[0].1, pair("10.30.0.3", "fdff:2000::2"), "the old addresses are not free yet");
}

#[test]
fn services_instances_and_keys_have_limits() {
    let limits = Limits { services: 2, instances: 3, nodes: 2, join_keys: 2, registered_keys: 3, ..Limits::default() };
    let mut rig = Rig::with(AddressPlan::DEFAULT, limits);
    rig.create("a").unwrap();
    rig.create("b").unwrap();
    assert!(matches!(rig.create("c"), Err(ServiceError::Full { limit: 2 })));
    let (one, _two) = (rig.node(1), rig.node(2));
    rig.root.register_node_key(rig.now, node_key(3)).unwrap();
    assert_eq!(rig.hello(3, &hello(1)), Err(Refusal::Full.into()));
    let full = rig.root.register_node_key(rig.now, node_key(4));
    assert!(matches!(full, Err(super::super::KeyError::Full { limit: 3 })));
    rig.attach(one, AttachKind::Host, 62).unwrap();
    rig.attach(one, new("a"), 1).unwrap();
    rig.attach(one, new("a"), 2).unwrap();
    assert_eq!(rig.attach(one, new("a"), 3), Err(Refusal::Full.into()));
    assert!(rig.attach(one, new("b"), 2).is_ok(), "it replaces the one that was there");
    assert_eq!(rig.attach(one, take("a", 65_536), 3), Err(Refusal::Full.into()));
    let keys = [node_key(11), node_key(12), node_key(13)];
    let full = rig.root.create_join_keys(rig.now, &keys, UNIX + 60);
    assert!(matches!(full, Err(super::super::KeyError::Full { limit: 2 })));
    rig.root.create_join_keys(rig.now, &keys[..2], UNIX + 60).unwrap();
}

fn request(name: &str, v4: Option<&str>, fixed: &[(u32, &str)]) -> ServiceRequest {
    let fixed =
        fixed.iter().map(|(number, address)| FixedAddress { number: *number, address: address.parse().unwrap() });
    ServiceRequest { name: named(name), addresses: vec![round_robin(v4, None)], fixed: fixed.collect() }
}

#[test]
fn several_services_are_created_together_or_not_at_all() {
    let mut rig = Rig::new();
    let before = restart::portrait(&rig);
    for last in [request("a", None, &[]), request("c", Some("10.30.0.2"), &[]), request("c", Some("10.30.0.0"), &[])] {
        let wanted = vec![request("a", None, &[]), request("b", Some("10.30.0.2"), &[]), last];
        rig.root.create_services(rig.now, wanted).unwrap_err();
        assert_eq!(restart::portrait(&rig), before);
    }
    let wanted = vec![request("a", None, &[]), request("b", Some("10.30.0.1"), &[]), request("c", None, &[])];
    let created = rig.root.create_services(rig.now, wanted).unwrap();
    let addresses: Vec<_> = created.iter().map(|info| info.service_ips[0].1.v4.to_string()).collect();
    assert_eq!(addresses, ["10.30.0.2", "10.30.0.1", "10.30.0.3"], "what has to be certain comes first");
    assert_eq!(rig.root.services(), created);
    rig.restart();
    assert_eq!(rig.root.services(), created);
}

#[test]
fn fixed_addresses_stay_with_their_instances_and_go_with_the_service() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    let fixed = [(0, "10.30.0.1"), (1, "10.30.0.9"), (1, "fdff::9")];
    let id = rig.root.create_services(rig.now, vec![request("s", None, &fixed)]).unwrap()[0].id;
    assert_eq!(rig.root.service(&named("s")).unwrap().service_ips[0].1.v4.to_string(), "10.30.0.2");
    let ips = [pair("10.30.0.1", "fdff::1"), pair("10.30.0.9", "fdff::9"), pair("10.30.0.3", "fdff::2")];
    for (number, ip) in (0..).zip(ips) {
        assert_eq!(rig.attach(node, new("s"), number + 1).unwrap().instance_ip, ip);
    }
    let again = |rig: &mut Rig| {
        rig.detach(node, InstanceId { service: id, number: 1 });
        assert_eq!(rig.root.resolve(&address("10.30.0.9")), Lookup::NotFound);
        let taken = rig.create_at("t", Some("10.30.0.9"), None);
        assert!(matches!(taken, Err(ServiceError::AddressTaken { .. })), "{taken:?}");
        rig.restart();
        assert_eq!(rig.attach(node, new("s"), 2).unwrap().instance_ip, ips[1]);
    };
    again(&mut rig);
    again(&mut rig);
    for number in 0..3 {
        rig.detach(node, InstanceId { service: id, number });
    }
    rig.root.remove_service(rig.now, &named("s")).unwrap();
    let resting = rig.create_at("t", Some("10.30.0.9"), None);
    assert!(matches!(resting, Err(ServiceError::AddressResting { .. })), "{resting:?}");
    rig.hello(1, &hello(1)).unwrap();
    rig.acknowledge(id);
    rig.pass(61);
    rig.create_at("t", Some("10.30.0.9"), None).unwrap();
}

#[test]
fn a_fixed_address_that_no_instance_can_have_is_refused() {
    let mut rig = Rig::new();
    let create =
        |rig: &mut Rig, fixed: &[(u32, &str)]| rig.root.create_services(rig.now, vec![request("s", None, fixed)]);
    for outside in ["10.30.0.0", "10.31.0.1", "fdff:2000::1", "fd00::1"] {
        let error = create(&mut rig, &[(0, outside)]).unwrap_err();
        assert!(matches!(error, ServiceError::InstanceOutsidePlan { .. }), "{outside}: {error}");
    }
    for malformed in [&[(0, "10.30.0.8"), (0, "10.30.0.9")][..], &[(65_536, "10.30.0.9")]] {
        assert!(matches!(create(&mut rig, malformed), Err(ServiceError::Malformed)));
    }
    let twice = create(&mut rig, &[(0, "10.30.0.9"), (1, "10.30.0.9")]).unwrap_err().to_string();
    assert!(twice.contains("belongs to something else in the same request"), "{twice}");
}
