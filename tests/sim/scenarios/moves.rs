//! Instances that move to another node, end, and come back.

use acorn_core::time::Duration;

use crate::app::What;
use crate::host::Event;
use crate::world::{World, seeds};

/// How long the news of a move may take where nothing is lost.
const NEWS: Duration = Duration::from_millis(500);

#[test]
fn a_move_resets_connections_at_once_and_new_dials_find_the_new_place_under_the_same_address() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        let server = world.attach(2, "server", None);
        let address = world.app(2, server).instance_ip;
        world.run(Duration::from_secs(1));
        let by_service = world.connect(1, client, dialled.v4.into());
        let by_instance = world.connect(1, client, address.v6.into());
        world.run(Duration::from_secs(1));
        for port in [by_service, by_instance] {
            world.say(1, client, port, 1);
        }
        world.run(Duration::from_secs(1));
        let expected = [by_service, by_instance]
            .map(|port| What::Reset { port, seq: world.app(1, client).expects(port).expect("it is connected") });

        let since = world.arrivals.len();
        let moved = world.attach(3, "server", Some(server.number));
        assert_eq!(moved, server, "it is the same instance");
        world.run(NEWS);
        let seen: Vec<What> = world.arrivals_since(since).iter().map(|arrival| arrival.what).collect();
        assert!(expected.iter().all(|reset| seen.contains(reset)), "{expected:?} is not in {seen:?}");
        assert!(world.hosts[2].events.iter().any(|(_, event)| *event == Event::Lost(server)), "the old node knows");
        assert!(world.hosts[2].attached().is_empty());
        assert_eq!(world.app(3, server).instance_ip, address, "the address has moved with it");
        for dst in [dialled.v4.into(), dialled.v6.into(), address.v4.into(), address.v6.into()] {
            let port = world.ask(1, client, dst, 2);
            world.run_until(NEWS, "the new place answers", |world| world.answer(1, client, port) == Some(server));
        }
    }
}

#[test]
fn an_instance_that_moves_to_and_fro_is_always_where_it_was_attached_last() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        let server = world.attach(1, "server", None);
        let client = world.hosts[3].own_app();
        for turn in 0..12 {
            let host = 1 + world.random.below(2) as usize;
            if !world.hosts[host].attached().contains(&server) {
                world.attach(host, "server", Some(server.number));
            }
            let pause = world.random.below(1_500);
            world.run(Duration::from_millis(pause));
            let since = world.arrivals.len();
            world.ask(3, client, dialled.v4.into(), turn);
            world.run(NEWS);
            let asked = world.arrivals_since(since).iter().find(|arrival| matches!(arrival.what, What::Asked { .. }));
            assert_eq!(asked.map(|arrival| arrival.host), Some(host), "turn {turn}");
        }
    }
}

#[test]
fn a_node_that_comes_back_after_its_instance_was_taken_over_gives_it_up() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        let server = world.attach(1, "server", None);
        world.run(Duration::from_secs(1));
        world.crash(1);
        world.run(Duration::from_secs(5));
        world.attach(2, "server", Some(server.number));
        world.start(1);
        world.run(Duration::from_secs(1));
        assert!(world.hosts[1].attached().is_empty(), "it has learned of its loss");
        assert_eq!(world.hosts[2].attached(), [server]);
        let client = world.hosts[3].own_app();
        let port = world.ask(3, client, dialled.v4.into(), 0);
        world.run_until(NEWS, "the new place answers", |world| world.answer(3, client, port) == Some(server));
    }
}

#[test]
fn the_last_instance_of_a_service_ends_and_dials_fail_at_once_until_there_is_one_again() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        let server = world.attach(2, "server", None);
        world.run(Duration::from_secs(1));
        world.ask(1, client, dialled.v4.into(), 0);
        world.run(NEWS);
        world.detach(2, server);
        world.run(NEWS);
        let port = world.ask(1, client, dialled.v4.into(), 1);
        assert!(world.unreachable(1, client, port), "at once");
        let again = world.attach(2, "server", None);
        world.run(NEWS);
        let port = world.ask(1, client, dialled.v4.into(), 2);
        world.run_until(NEWS, "it is answered", |world| world.answer(1, client, port) == Some(again));
    }
}
