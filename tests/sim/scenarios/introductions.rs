//! Who is about to be talked to knows who is coming: no initiation has to wait for its key, no packet for its sender's address.

use acorn_core::stats::DropReason;
use acorn_core::time::Duration;

use crate::world::{World, seeds};

#[test]
fn a_node_knows_who_comes_before_the_first_handshake_arrives() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 8);
        let dialled = world.create_service("server");
        for host in 1..=8 {
            world.attach(host, "server", None);
        }
        world.run(Duration::from_secs(1));
        let before = world.manager().asked;
        let mut asked = Vec::new();
        for host in 1..=8 {
            let app = world.hosts[host].own_app();
            for sequence in 0..8 {
                asked.push((host, app, world.ask(host, app, dialled.v4.into(), sequence)));
            }
        }
        world.run(Duration::from_secs(2));
        for (host, app, port) in asked {
            assert!(world.answer(host, app, port).is_some(), "host {host} got an answer");
        }
        for host in &world.hosts {
            let process = host.process.as_ref().unwrap();
            assert_eq!(process.tunnels.counters.kept, 0, "no initiation of an unknown key");
        }
        let asked = world.manager().asked;
        assert_eq!(asked.nodes, before.nodes, "nobody had to ask whose a key is");
        assert_eq!(asked.addresses - before.addresses, 8, "nobody had to ask whose a sender's address is");
    }
}

#[test]
fn a_second_instance_of_a_known_node_talks_without_a_question_of_its_peers() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let clients = [world.attach(1, "client", None), world.attach(1, "client", None)];
        world.attach(2, "server", None);
        world.run(Duration::from_secs(1));
        for client in clients {
            let port = world.ask(1, client, dialled.v4.into(), 0);
            world.run_until(Duration::from_secs(1), "it is answered", |world| world.answer(1, client, port).is_some());
            world.run(Duration::from_secs(2));
        }
        let drops = &world.node(2).router().counters;
        assert!(DropReason::ALL.iter().all(|reason| drops.drops(*reason) == 0), "nothing was dropped");
    }
}
