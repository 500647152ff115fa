//! Root and node in one process, as `acorn up` runs them.

use acorn_core::time::Duration;

use crate::world::{ROOT, World, seeds};

fn with_one_more(seed: u64) -> World {
    let mut world = World::new(seed);
    world.add_root(true);
    world.add_node();
    let joined = |world: &World| world.hosts.iter().all(crate::host::Host::is_member);
    world.run_until(Duration::from_secs(5), "both have joined", joined);
    world
}

#[test]
fn instances_beside_the_root_are_dialled_from_there_and_from_elsewhere() {
    for seed in seeds(3) {
        let mut world = with_one_more(seed);
        let dialled = world.create_service("server");
        let servers = [world.attach(ROOT, "server", None), world.attach(1, "server", None)];
        world.run(Duration::from_secs(1));
        for host in [ROOT, 1] {
            let app = world.hosts[host].own_app();
            let ports: Vec<u16> = (0..8).map(|sequence| world.ask(host, app, dialled.v4.into(), sequence)).collect();
            world.run(Duration::from_secs(1));
            let answers: Vec<_> = ports.iter().map(|port| world.answer(host, app, *port)).collect();
            let expected: Vec<_> = servers.iter().cycle().take(8).map(|server| Some(*server)).collect();
            assert_eq!(answers, expected, "dialled from host {host}");
        }
    }
}

#[test]
fn an_instance_dials_itself_through_its_service() {
    for seed in seeds(3) {
        let mut world = with_one_more(seed);
        let dialled = world.create_service("server");
        for host in [ROOT, 1] {
            let server = world.attach(host, "server", None);
            world.run(Duration::from_secs(1));
            let own = world.app(host, server).instance_ip;
            let port = world.ask(host, server, own.v4.into(), 0);
            world.run(Duration::from_millis(500));
            assert_eq!(world.answer(host, server, port), Some(server), "on host {host}");
            let turns: Vec<u16> = (0..2).map(|sequence| world.ask(host, server, dialled.v6.into(), sequence)).collect();
            world.run(Duration::from_millis(500));
            let answered = turns.iter().any(|port| world.answer(host, server, *port) == Some(server));
            assert!(answered, "it is among those that its service picks, on host {host}");
        }
    }
}

#[test]
fn a_restart_of_the_whole_process_heals_within_two_seconds_in_both_directions() {
    for seed in seeds(4) {
        for server_host in [ROOT, 1] {
            let client_host = 1 - server_host;
            let mut world = with_one_more(seed);
            let dialled = world.create_service("server");
            world.create_service("client");
            let client = world.attach(client_host, "client", None);
            let server = world.attach(server_host, "server", None);
            let wait = 5_000 + world.random.below(30_000);
            world.run(Duration::from_millis(wait));
            world.ask(client_host, client, dialled.v4.into(), 0);
            world.run(Duration::from_secs(1));
            world.crash(ROOT);
            world.run(Duration::from_millis(300));
            world.start(ROOT);
            let begin = world.now;
            let mut ports = Vec::new();
            while !ports.iter().any(|port| world.answer(client_host, client, *port) == Some(server)) {
                let took = world.now.saturating_duration_since(begin);
                assert!(took <= Duration::from_secs(2), "the server is on host {server_host}");
                ports.push(world.ask(client_host, client, dialled.v4.into(), 1));
                world.run(Duration::from_millis(50));
            }
        }
    }
}
