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
    // Milliseconds there from the first host, and back.
    let mut distances = [(3, 20, 20), (4, 4, 4), (5, 4, 5), (6, 50, 50)];
    let set = |world: &mut World, distances: [(usize, u64, u64); 4]| {
        let [here, addresses @ ..] = [1, 3, 4, 5, 6].map(|host: usize| world.hosts[host].address);
        let way = move |from, to| {
            let of = |other| addresses.iter().position(|address| *address == other).map(|place| distances[place]);
            let millis = match (from == here, to == here) {
                (true, _) => of(to).map(|(_, there, _)| there),
                (_, true) => of(from).map(|(_, _, back)| back),
                _ => None,
            };
            Duration::from_millis(millis.unwrap_or(2))
        };
        world.network.ways = Some(Box::new(way));
    };
    set(&mut world, distances);
    assert_eq!(ask(&mut world, 1, client, dialled), servers[0], "nothing has been measured: round robin");
    for _ in 0..3 {
        assert_eq!(ask(&mut world, 1, client, dialled), servers[1]);
    }
    distances[2] = (5, 3, 4);
    set(&mut world, distances);
    world.run(Duration::from_secs(60));
    assert_eq!(ask(&mut world, 1, client, dialled), servers[1], "7 ms are not clearly less than 8 ms");
    distances[2] = (5, 2, 2);
    set(&mut world, distances);
    world.run(Duration::from_secs(60));
    assert_eq!(ask(&mut world, 1, client, dialled), servers[2]);
}
