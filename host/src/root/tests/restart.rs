//! What a restart keeps: everything. A twin that is never restarted is the reference.

use std::fmt::Write;

use super::*;

/// A small generator of random numbers (xorshift64*), so that a failure can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as u32 % end
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Create(u32, Option<u32>),
    Remove(u32),
    Hello { key: u8, epoch: u32, endpoint: u8, subnet: Option<u32> },
    JoinKey(u8),
    Join(u8, u8),
    Register(u8),
    Attach(u8, AttachKind, u32),
    Adjust(u8, u32, u32, u32, u16),
    Detach(u8, u32, u32),
    Settle(u8, u32),
    Acknowledge(u32),
    Pass(u64),
}

impl Step {
    pub(super) fn random(random: &mut Random) -> Self {
        let key = 1 + random.below(6) as u8;
        let name = random.below(5);
        match random.below(17) {
            0 | 1 => Self::Create(name, (random.below(3) == 0).then(|| 1 + random.below(20))),
            2 => Self::Remove(name),
            3 => Self::Hello {
                key,
                epoch: random.below(3),
                endpoint: random.below(3) as u8,
                subnet: (random.below(4) == 0).then(|| random.below(8)),
            },
            4 => Self::JoinKey(100 + key),
            5 => Self::Join(100 + key, key),
            6 => Self::Register(key),
            7 | 8 => Self::Attach(key, new(&format!("s{name}")), 1 + random.below(5)),
            9 => Self::Attach(key, take(&format!("s{name}"), random.below(4)), 1 + random.below(5)),
            10 => Self::Attach(key, AttachKind::Host, 62),
            11 | 12 => Self::Detach(key, name, random.below(4)),
            15 | 16 => Self::Adjust(key, name, random.below(4), random.below(12), random.below(100) as u16),
            13 if random.below(2) == 0 => Self::Settle(key, random.below(3)),
            13 => Self::Pass(1 + u64::from(random.below(40))),
            _ => Self::Acknowledge(random.below(12)),
        }
    }

    /// Does it, and says what came of it.
    pub(super) fn run(&self, rig: &mut Rig) -> String {
        let id = |rig: &Rig, key: u8| rig.root.node_of(&node_key(key)).unwrap_or_default();
        match self.clone() {
            Self::Create(name, v4) => {
                let v4 = v4.map(|last| format!("10.30.0.{last}"));
                format!("{:?}", rig.create_at(&format!("s{name}"), v4.as_deref(), None))
            }
            Self::Remove(name) => format!("{:?}", rig.root.remove_service(rig.now, &named(&format!("s{name}")))),
            Self::Hello { key, epoch, endpoint: host, subnet } => {
                let subnet = subnet.map(|index| Ipv4Addr::from_bits(0x0a12_0000 + index * 64));
                // The node and the root agree on what runs there.
                let instances = rig.root.state.digest(id(rig, key));
                let hello = Hello { endpoint: endpoint(host), subnet, instances, ..hello(epoch) };
                format!("{:?}", rig.hello(key, &hello))
            }
            Self::JoinKey(key) => {
                let expires = rig.unix() + 30;
                format!("{:?}", rig.root.create_join_keys(rig.now, &[node_key(key)], expires))
            }
            Self::Join(join, key) => {
                format!("{:?}", rig.hello(join, &Hello { joining: Some(node_key(key)), ..hello(0) }))
            }
            Self::Register(key) => {
                format!("{:?}", rig.root.register_node_key(rig.now, node_key(key)))
            }
            Self::Attach(key, kind, offset) => {
                format!("{:?}", rig.attach(id(rig, key), kind, offset))
            }
            Self::Adjust(key, name, number, request, value) => {
                let service = rig.root.service(&named(&format!("s{name}"))).map(|info| info.id).unwrap_or_default();
                let (node, draining) = (id(rig, key), Some(value % 2 == 0));
                let change = Adjustment { weight: Some(value), draining, ..Adjustment::default() };
                format!("{:?}", rig.adjust(node, request, InstanceId { service, number }, change))
            }
            Self::Detach(key, name, number) => {
                let service = rig.root.service(&named(&format!("s{name}"))).map(|info| info.id).unwrap_or_default();
                let node = id(rig, key);
                format!("{:?}", rig.root.detach(rig.now, node, &gone(InstanceId { service, number })))
            }
            Self::Settle(key, epoch) => {
                format!("{:?}", rig.root.settle(rig.now, id(rig, key), epoch))
            }
            Self::Acknowledge(service) => format!("{:?}", rig.acknowledge(ServiceId(service))),
            Self::Pass(seconds) => format!("{:?}", rig.pass(seconds)),
        }
    }
}

/// All that there is to know of a root, except versions and times of last signs of life.
pub(super) fn portrait(rig: &Rig) -> String {
    let state = &rig.root.state;
    let mut text = String::new();
    for service in rig.root.services() {
        let turns = state.services[&service.id].instances.values().map(|instance| instance.turn);
        writeln!(text, "{service:?} {:?}", turns.collect::<Vec<_>>()).unwrap();
    }
    for node in rig.root.nodes() {
        let host = state.hosts.get(&node.id).and_then(|service| state.services.get(service));
        let host = host.map(|service| service.instances.values().map(|i| i.row).collect::<Vec<_>>());
        writeln!(text, "{:?} {host:?} {:?}", super::super::NodeInfo { last_seen: 0, ..node }, state.digest(node.id))
            .unwrap();
    }
    let mut keys: Vec<_> = rig.root.known_keys().collect();
    keys.sort_by_key(|known| known.key);
    writeln!(text, "{keys:?} {:?} {:?}", state.join_keys, state.registered_keys).unwrap();
    for (resource, release) in &state.releases {
        use super::super::state::Release;
        match release {
            Release::Withdrawn { service, until, .. } => {
                writeln!(text, "{resource:?} {service:?} {:?}", until.max(&rig.now)).unwrap();
            }
            Release::Quarantine { until } => writeln!(text, "{resource:?} {:?}", until.max(&rig.now)).unwrap(),
        }
    }
    let (addresses, none) = (&state.addresses, &Default::default());
    let next = (addresses.next_v4(rig.now, none, false), addresses.next_v4(rig.now, none, true));
    let next_v6 = (addresses.next_instance_v6(rig.now, none, false), addresses.next_instance_v6(rig.now, none, true));
    writeln!(text, "{next:?} {next_v6:?} {:?}", addresses.next_subnet(rig.now, none)).unwrap();
    writeln!(text, "{} {} {}", state.counters.services, state.counters.nodes, state.instance_count).unwrap();
    text
}

/// What must hold whatever has happened.
pub(super) fn check_invariants(rig: &Rig) {
    let mut owned = std::collections::BTreeSet::new();
    let mut places = std::collections::BTreeSet::new();
    for service in rig.root.state.services.values() {
        let instance_ips = service.instances.values().map(|instance| instance.row.instance_ip);
        for pair in service.row.ips.iter().map(|ip| ip.address).chain(instance_ips) {
            assert!(owned.insert(std::net::IpAddr::V4(pair.v4)), "{pair} has two owners");
            assert!(owned.insert(std::net::IpAddr::V6(pair.v6)), "{pair} has two owners");
        }
        for instance in service.instances.values() {
            assert!(places.insert((instance.row.node, instance.row.namespace_ip)), "two instances in one place");
            assert!(rig.root.state.nodes[&instance.row.node].row.subnet.contains(instance.row.namespace_ip.v4.into()));
        }
    }
    let subnets: std::collections::BTreeSet<_> = rig.root.nodes().iter().map(|node| node.subnet).collect();
    assert_eq!(subnets.len(), rig.root.nodes().len(), "a subnet has two owners");
    for resource in rig.root.state.releases.keys() {
        if let super::super::row::Resource::Address(address) = resource {
            assert!(!owned.contains(address), "{address} is both owned and free");
        }
    }
    assert_eq!(places.len(), rig.root.state.places.len());
    assert_eq!(places.len(), rig.root.state.instance_count);
}

#[test]
fn a_root_restarted_at_any_moment_goes_on_like_its_twin() {
    for seed in 1..=8 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut twin = Rig::with(plan_of("10.30.0.0/27"), Limits::default());
        let mut rig = Rig::with(plan_of("10.30.0.0/27"), Limits::default());
        for number in 0..400 {
            let step = Step::random(&mut random);
            let (expected, got) = (step.run(&mut twin), step.run(&mut rig));
            assert_eq!(got, expected, "seed {seed}, step {number}: {step:?}");
            check_invariants(&rig);
            if random.below(10) == 0 {
                rig.restart();
                // All nodes are there at once, so that the root knows of no old tables.
                for node in twin.root.nodes() {
                    let row = twin.root.state.nodes[&node.id].row.clone();
                    let instances = twin.root.state.digest(node.id);
                    let again = Hello { endpoint: row.endpoint, instances, ..hello(row.epoch) };
                    if row.confirmed {
                        assert_eq!(rig.hello(row.key.0[0], &again), twin.hello(row.key.0[0], &again));
                    }
                }
            }
            assert!(
                portrait(&rig) == portrait(&twin),
                "{}\n{}\nseed {seed}, step {number}: {step:?}",
                portrait(&rig),
                portrait(&twin)
            );
        }
    }
}

#[test]
fn after_a_restart_nothing_returns_before_every_node_has_been_heard() {
    let mut rig = Rig::new();
    let (a, b) = (rig.node(1), rig.node(2));
    let service = rig.create("s").unwrap().id;
    let freed = rig.attach(a, new("s"), 1).unwrap();
    rig.detach(a, freed.instance);
    rig.restart();
    assert_eq!(rig.root.poll_changed(), Some(service), "it is asked about once more");
    rig.hello(1, &hello(1)).unwrap();
    rig.acknowledge(service);
    rig.pass(120);
    assert_eq!(rig.attach(a, new("s"), 1).unwrap().instance_ip, pair("10.30.0.3", "fdff::2"), "node 2 may not know");
    rig.hello(2, &hello(1)).unwrap();
    rig.pass(1);
    rig.pass(60);
    assert_eq!(rig.attach(b, new("s"), 1).unwrap().instance_ip, freed.instance_ip);
}

#[test]
fn a_wrong_wall_clock_at_the_start_does_not_cost_the_nodes_their_subnets() {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    rig.attach(node, new("s"), 1).unwrap();
    rig.disk.die();
    let disk = rig.disk.copy();
    // Ten years later, says the clock.
    let unix = UNIX + 315_360_000;
    let mut root = disk.open(rig.plan, rig.limits, Instant::ZERO, unix).unwrap();
    root.expire(Instant::from_secs(599), unix + 599);
    assert_eq!(root.nodes().len(), 1);
    root.hello(Instant::from_secs(599), sender(1), &hello(1)).unwrap();
    root.expire(Instant::from_secs(700), unix + 700);
    assert_eq!(root.services()[0].instances.len(), 1);
}
