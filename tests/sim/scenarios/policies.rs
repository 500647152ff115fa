//! The built-in policies from end to end: what the root gives an address under, nodes go by.

use std::net::IpAddr;

use acorn_core::InstanceId;
use acorn_core::policy::{Closest, Policy, Registry, Sticky};
use acorn_core::time::Duration;

use crate::world::{World, seeds};

/// Where the clients are.
const CLIENTS: [usize; 2] = [1, 2];

/// A service under a policy with four instances, on nodes without clients.
fn world_with(seed: u64, policy: &dyn Policy) -> (World, [InstanceId; 4]) {
    let mut world = World::with_nodes(seed, 6);
    world.create_service_under("server", policy);
    let servers = [3, 4, 5, 6].map(|host| world.attach(host, "server", None));
    (world, servers)
}

/// Asks from a new port and returns who answers.
fn ask(world: &mut World, host: usize, client: InstanceId, dst: IpAddr) -> InstanceId {
    let port = world.ask(host, client, dst, 1);
    world.run(Duration::from_secs(1));
    world.answer(host, client, port).expect("somebody answers")
}

#[test]
fn an_address_under_each_policy_is_in_its_block_and_is_served() {
    for policy in Registry::built_in().iter() {
        let (mut world, servers) = world_with(1, policy);
        let dialled = world.services["server"];
        let block = format!("fdff:{:x}000:", policy.block());
        assert!(dialled.v6.to_string().starts_with(&block), "{} has {dialled}", policy.ip_type());
        let client = world.hosts[1].own_app();
        for dst in [dialled.v4.into(), dialled.v6.into()] {
            assert!(servers.contains(&ask(&mut world, 1, client, dst)));
        }
        assert_eq!(world.node(1).router().table.unknown_policies(), 0, "{}", policy.ip_type());
    }
}

#[test]
fn a_sticky_client_keeps_its_instance_in_both_families_after_a_restart_and_on_another_node() {
    for seed in seeds(3) {
        let (mut world, _) = world_with(seed, &Sticky);
        let dialled = world.services["server"];
        world.create_service("client");
        let mut served = Vec::new();
        for _ in 0..6 {
            let client = world.attach(CLIENTS[0], "client", None);
            let first = ask(&mut world, CLIENTS[0], client, dialled.v4.into());
            assert_eq!(ask(&mut world, CLIENTS[0], client, dialled.v6.into()), first, "over IPv6");
            served.push((client, first));
        }
        assert!(served.iter().any(|(_, by)| *by != served[0].1), "all went to the same instance");
        world.crash(CLIENTS[0]);
        world.start(CLIENTS[0]);
        world.run(Duration::from_secs(15));
        for (client, first) in served {
            assert_eq!(ask(&mut world, CLIENTS[0], client, dialled.v4.into()), first, "after a restart");
            assert_eq!(world.attach(CLIENTS[1], "client", Some(client.number)), client);
            assert_eq!(ask(&mut world, CLIENTS[1], client, dialled.v4.into()), first, "on another node");
        }
    }
}

#[test]
fn flows_go_to_the_node_whose_measured_round_trip_is_the_shortest() {
    let (mut world, servers) = world_with(1, &Closest);
    let dialled = world.services["server"].v4.into();
    let client = world.hosts[1].own_app();
    let measure = |world: &mut World, host: usize, millis: u64| {
        let key = world.hosts[host].key;
        let node = world.hosts[1].process.as_mut().and_then(|process| process.node.as_mut()).expect("it runs");
        let peer = node.find_peer(&key).expect("it is known");
        node.set_round_trip(peer, Duration::from_millis(millis));
    };
    let mut seen: Vec<_> = (0..4).map(|_| ask(&mut world, 1, client, dialled)).collect();
    seen.sort();
    assert_eq!(seen, servers, "nothing has been measured: round robin");
    for (host, millis) in [(3, 40), (4, 8), (5, 9), (6, 100)] {
        measure(&mut world, host, millis);
    }
    for _ in 0..3 {
        assert_eq!(ask(&mut world, 1, client, dialled), servers[1]);
    }
    measure(&mut world, 5, 7);
    assert_eq!(ask(&mut world, 1, client, dialled), servers[1], "7 ms are not clearly less than 8 ms");
    measure(&mut world, 5, 5);
    assert_eq!(ask(&mut world, 1, client, dialled), servers[2]);
}
