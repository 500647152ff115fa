//! A node that cannot reach its root for a minute.

use acorn_core::time::Duration;

use crate::app::What;
use crate::world::{ROOT, World, seeds};

#[test]
fn a_minute_without_the_root_leaves_the_known_alone_fails_the_unknown_fast_and_heals() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        let (known, unknown) = (world.create_service("known"), world.create_service("unknown"));
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "known", None);
        world.attach(3, "unknown", None);
        let flow = world.connect(1, client, known.v4.into());
        world.run(Duration::from_secs(2));

        world.cut(ROOT, 1);
        for second in 0..60u32 {
            let since = world.arrivals.len();
            world.say(1, client, flow, second);
            let new = world.ask(1, client, known.v6.into(), second);
            let nowhere = world.ask(1, client, unknown.v4.into(), second);
            world.run(Duration::from_secs(1));
            let seen = world.arrivals_since(since);
            let on_flow = |what: &What| matches!(what, What::Answered { port, .. } if *port == flow);
            assert!(seen.iter().any(|arrival| on_flow(&arrival.what)), "the old flow, in second {second}");
            assert!(world.answer(1, client, new).is_some(), "a new flow to what is known, in second {second}");
            assert!(world.unreachable(1, client, nowhere), "what is not known, in second {second}");
        }

        // The manager's table changes meanwhile; the node has to catch up.
        let added = world.attach(3, "known", None);
        world.mend(ROOT, 1);
        let healed = |world: &World| {
            let table = &world.node(1).router().table;
            table.services().any(|slot| {
                table.instances_of(slot).any(|slot| {
                    table.instance(slot).is_some_and(|i| {
                        table.service(i.service).is_some_and(|s| s.id == added.service) && i.number == added.number
                    })
                })
            })
        };
        let took = world.run_until(Duration::from_secs(8), "the table is whole again", healed);
        let port = world.ask(1, client, unknown.v4.into(), 0);
        world.run_until(Duration::from_secs(1), "the unknown is answered", |world| {
            world.answer(1, client, port).is_some()
        });
        println!("healed {took:?} after the partition");
    }
}
