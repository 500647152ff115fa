//! Nodes that fall silent are not picked for new flows, and nothing else happens to them.

use acorn_core::InstanceId;
use acorn_core::time::Duration;

use crate::world::{ROOT, World, seeds};

/// A lease, its last renewal just before, and the news' way.
const LEASE: Duration = Duration::from_secs(10);
const NEWS: Duration = Duration::from_secs(1);

fn dial(world: &mut World, client: InstanceId, times: u32) -> Vec<Option<InstanceId>> {
    let dst = world.services["server"].v4.into();
    let ports: Vec<u16> = (0..times).map(|sequence| world.ask(1, client, dst, sequence)).collect();
    world.run(Duration::from_millis(500));
    ports.into_iter().map(|port| world.answer(1, client, port)).collect()
}

#[test]
fn a_node_that_its_manager_does_not_hear_is_not_picked_while_its_live_flows_go_on_until_it_returns() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        let (first, second) = (world.attach(2, "server", None), world.attach(3, "server", None));
        world.run(Duration::from_secs(1));
        let dst = world.services["server"].v4.into();
        // One connection to each, whichever comes first.
        let ports = [world.connect(1, client, dst), world.connect(1, client, dst)];
        world.run(Duration::from_secs(1));

        world.cut(ROOT, 2);
        world.run(LEASE + NEWS);
        let answers = dial(&mut world, client, 6);
        assert_eq!(answers, vec![Some(second); 6], "only the one that is heard is picked");
        for sequence in 1..=5 {
            let since = world.arrivals.len();
            for port in ports {
                world.say(1, client, port, sequence);
            }
            world.run(Duration::from_secs(10));
            let answered: Vec<InstanceId> = world
                .arrivals_since(since)
                .iter()
                .filter_map(|arrival| match arrival.what {
                    crate::app::What::Answered { by, .. } => Some(by),
                    _ => None,
                })
                .collect();
            assert_eq!(answered.len(), 2, "both connections live");
            assert!(answered.contains(&first) && answered.contains(&second));
        }

        world.mend(ROOT, 2);
        // Hellos are repeated every two seconds at most, handshakes every five.
        world.run(Duration::from_secs(8));
        let answers = dial(&mut world, client, 6);
        for server in [first, second] {
            assert_eq!(answers.iter().filter(|by| **by == Some(server)).count(), 3, "it is picked again: {answers:?}");
        }
    }
}

#[test]
fn a_node_that_died_is_avoided_after_its_lease_at_the_latest() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        let second = world.attach(3, "server", None);
        world.run(Duration::from_secs(1));
        dial(&mut world, client, 2);
        world.crash(2);
        world.run(LEASE + NEWS);
        assert_eq!(dial(&mut world, client, 4), vec![Some(second); 4]);
    }
}

#[test]
fn a_node_that_the_client_cannot_reach_is_avoided_although_the_manager_hears_it() {
    for seed in seeds(4) {
        let mut world = World::with_nodes(seed, 3);
        world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        let second = world.attach(3, "server", None);
        world.run(Duration::from_secs(1));
        world.cut(1, 2);
        dial(&mut world, client, 2);
        // A handshake counts as unanswered after eight seconds.
        world.run(Duration::from_secs(9));
        assert_eq!(dial(&mut world, client, 4), vec![Some(second); 4]);
    }
}
