//! Two nodes do not lose interest in each other at the same moment. Neither must send into a tunnel that the other has forgotten.

use acorn_core::time::Duration;

use crate::world::{World, seeds};

const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn an_instance_that_was_not_dialled_for_a_while_still_answers_at_once() {
    for seed in seeds(3) {
        for idle in [15, 25, 45, 70, 170, 185, 400] {
            let mut world = World::with_nodes(seed, 3);
            let dialled = world.create_service("server");
            world.create_service("client");
            let client = world.attach(1, "client", None);
            let servers = [world.attach(2, "server", None), world.attach(3, "server", None)];
            world.run(Duration::from_secs(1));
            // The last packet of one flow ends it soon, the other flow keeps the client's interest in the whole service.
            let long = world.connect(1, client, dialled.v4.into());
            world.run(Duration::from_secs(1));
            let short = world.connect(1, client, dialled.v4.into());
            world.run(Duration::from_secs(1));
            let fin = world.app(1, client).finish(short);
            world.send_packet(1, fin);
            for second in 0..idle {
                if second % 9 == 0 {
                    world.say(1, client, long, second as u32);
                }
                world.run(Duration::from_secs(1));
            }
            for _ in servers {
                let port = world.ask(1, client, dialled.v4.into(), 1);
                let took = world.run_until(Duration::from_secs(20), "the dial is answered", |world| {
                    world.answer(1, client, port).is_some()
                });
                assert!(took <= ANSWERED_WITHIN, "after {idle} s without a flow to it an instance took {took:?}");
            }
        }
    }
}

#[test]
fn a_dial_at_the_moment_when_the_last_interest_ends_is_answered_at_once() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        world.run(Duration::from_secs(1));
        // The closed connection lives for ten seconds more, the interest for another ten: dials at all moments around that.
        for wait in (18_000..24_000).step_by(130) {
            let port = world.connect(1, client, dialled.v4.into());
            world.run(Duration::from_millis(100));
            let fin = world.app(1, client).finish(port);
            world.send_packet(1, fin);
            world.run(Duration::from_millis(wait));
            let since = world.arrivals.len();
            let again = world.connect(1, client, dialled.v4.into());
            let is_connected = |world: &World| {
                let what = crate::app::What::Connected { port: again };
                world.arrivals_since(since).iter().any(|arrival| arrival.what == what)
            };
            let took = world.run_until(Duration::from_secs(20), "the dial is answered", is_connected);
            assert!(took <= ANSWERED_WITHIN, "{wait} ms after the last connection ended a new one took {took:?}");
            let fin = world.app(1, client).finish(again);
            world.send_packet(1, fin);
            world.run(Duration::from_secs(30));
        }
    }
}
