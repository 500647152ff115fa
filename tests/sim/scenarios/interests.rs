//! Interests end, and then nothing is left of them; an idle network says little.

use acorn_core::time::Duration;

use crate::network::Sent;
use crate::world::{World, seeds};

/// How long a UDP flow lives that was answered, and how long the interest outlives it.
const FLOW: Duration = Duration::from_secs(300);
const INTEREST: Duration = Duration::from_secs(10);

#[test]
fn an_interest_ends_ten_seconds_after_the_last_flow_and_the_manager_has_forgotten_it() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        world.attach(3, "server", None);
        world.run(Duration::from_secs(15));
        let pinned = world.manager().server.subscriptions();
        assert_eq!(pinned, 3 + 3, "each instance's own, the hosts' included");

        world.ask(1, client, dialled.v4.into(), 0);
        world.ask(1, client, dialled.v4.into(), 0);
        world.run(Duration::from_secs(1));
        assert_eq!(world.manager().server.subscriptions(), pinned + 3, "the service, and the client introduced twice");

        world.run(FLOW + INTEREST - Duration::from_secs(3));
        assert_eq!(world.manager().server.subscriptions(), pinned + 3, "a flow is still there or has just ended");
        world.run(Duration::from_secs(6));
        assert_eq!(world.manager().server.subscriptions(), pinned);
        assert_eq!(world.node(1).router().table.len().0, 2, "its own instances");
    }
}

#[test]
fn an_idle_network_sends_renewals_only() {
    for seed in seeds(2) {
        let mut world = World::with_nodes(seed, 10);
        let dialled = world.create_service("server");
        for host in 1..=10 {
            world.attach(host, "server", None);
        }
        for host in 1..=10 {
            let app = world.hosts[host].own_app();
            world.ask(host, app, dialled.v4.into(), 0);
        }
        world.run(FLOW + INTEREST + Duration::from_secs(240));

        let sent =
            |world: &World| world.hosts.iter().map(|host| world.network.sent_by(host.address)).collect::<Vec<Sent>>();
        let (before, asked) = (sent(&world), world.manager().asked);
        let minutes = 10;
        world.run(Duration::from_secs(60 * minutes));
        let (after, asked_after) = (sent(&world), world.manager().asked);
        assert_eq!(
            (asked.addresses, asked.nodes, asked.subjects, asked.others),
            (asked_after.addresses, asked_after.nodes, asked_after.subjects, asked_after.others)
        );
        let hellos = asked_after.hellos - asked.hellos;
        // A lease of 10 s is renewed three times in its course.
        assert!(
            (10 * minutes * 17..=10 * minutes * 19).contains(&hellos),
            "{hellos} renewals of 10 nodes in {minutes} minutes"
        );
        let bytes = |place: usize| (after[place].bytes - before[place].bytes) / (60 * minutes);
        let most = (1..=10).map(bytes).max().unwrap();
        println!("an idle node sends {most} bytes a second on the underlay, the root {} to each", bytes(0) / 10);
        assert!(most <= 80, "an idle node sends {most} bytes a second");
    }
}

#[test]
fn what_is_known_when_the_root_goes_away_can_be_dialled_until_it_is_back_however_idle() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        let server = world.attach(2, "server", None);
        let client = world.hosts[1].own_app();
        world.ask(1, client, dialled.v4.into(), 0);
        world.run(Duration::from_secs(1));
        world.crash(0);
        // The flow ends, and its interest has been idle for minutes.
        world.run(FLOW + INTEREST + Duration::from_secs(240));
        let port = world.ask(1, client, dialled.v4.into(), 1);
        world.run(Duration::from_secs(2));
        assert_eq!(world.answer(1, client, port), Some(server), "it is known, and both nodes are up");

        world.run(FLOW + INTEREST);
        world.start(0);
        world.run(Duration::from_secs(30));
        assert!(world.node(1).router().table.len().0 < 2, "what was idle is forgotten when the root is back");
    }
}
