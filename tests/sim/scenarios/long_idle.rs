//! Connections that say nothing for long are still there.

use acorn_core::time::Duration;

use crate::app::What;
use crate::world::{World, seeds};

fn idle_connection_survives(seed: u64, idle: Duration) {
    let mut world = World::with_nodes(seed, 2);
    let dialled = world.create_service("server");
    world.create_service("client");
    let client = world.attach(1, "client", None);
    let server = world.attach(2, "server", None);
    let ports = [world.connect(1, client, dialled.v4.into()), world.connect(1, client, dialled.v6.into())];
    world.run(Duration::from_secs(1));
    for port in ports {
        world.say(1, client, port, 1);
    }
    world.run(Duration::from_secs(1));
    world.run(idle);
    let since = world.arrivals.len();
    for port in ports {
        world.say(1, client, port, 2);
    }
    world.run(Duration::from_secs(1));
    let seen = world.arrivals_since(since);
    for port in ports {
        let answered = What::Answered { port, by: server, sequence: 2 };
        assert!(seen.iter().any(|arrival| arrival.what == answered), "after {idle:?}: {seen:?}");
    }
}

#[test]
fn an_idle_tcp_connection_is_alive_after_three_minutes() {
    seeds(5).for_each(|seed| idle_connection_survives(seed, Duration::from_secs(180)));
}

#[test]
fn an_idle_tcp_connection_is_alive_after_two_hours() {
    seeds(2).for_each(|seed| idle_connection_survives(seed, Duration::from_secs(7_200)));
}
