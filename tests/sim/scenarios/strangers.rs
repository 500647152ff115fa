//! Those who have no business here: unknown keys in numbers, and a node that lies about its addresses.

use std::net::SocketAddr;

use acorn_core::NodeKey;
use acorn_core::stats::DropReason;
use acorn_core::sync::client::NODE_QUESTIONS;
use acorn_core::time::Duration;

use crate::network::Datagram;
use crate::packet::{Body, Packet};
use crate::tunnel::Frame;
use crate::world::{World, seeds};

/// Sends initiations of new keys from many addresses to a host, one every millisecond.
fn storm(world: &mut World, target: usize, time: Duration) {
    for _ in 0..time.as_millis() {
        let mut key = [0; 32];
        key.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&world.random.next().to_be_bytes()));
        let from = SocketAddr::from(([203, 0, world.random.below(256) as u8, world.random.below(256) as u8], 1));
        let (to, address) = (world.hosts[target].key, world.hosts[target].address);
        let frame = Frame::Initiation { from: NodeKey(key), to, index: 1, stamp: 1 };
        world.forge(Datagram { from, to: address, frame });
        world.run(Duration::from_millis(1));
    }
}

#[test]
fn a_storm_of_unknown_keys_asks_the_manager_little_and_gets_no_answer() {
    for seed in seeds(2) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        world.run(Duration::from_secs(1));
        let flow = world.connect(1, client, dialled.v4.into());
        world.run(Duration::from_secs(1));
        let before = (world.manager().asked, world.network.sent_by(world.hosts[2].address));
        let time = Duration::from_secs(4);
        storm(&mut world, 2, time);
        let after = (world.manager().asked, world.network.sent_by(world.hosts[2].address));
        let (questions, most) = (after.0.nodes - before.0.nodes, time.as_millis() / NODE_QUESTIONS.as_millis() + 1);
        assert!(u128::from(questions) <= most, "{questions} questions, at most {most}");
        assert!(questions > 10, "the storm reached the node");
        // Each question is one datagram; then there are a few renewals.
        assert!(after.1.datagrams - before.1.datagrams <= questions + 10, "nobody was answered");

        // Those who have business here do not notice.
        let since = world.arrivals.len();
        world.say(1, client, flow, 1);
        storm(&mut world, 2, Duration::from_millis(100));
        assert!(world.arrivals_since(since).iter().any(|arrival| arrival.host == 1), "the old flow goes on");
    }
}

#[test]
fn a_new_client_gets_through_a_storm() {
    for seed in seeds(2) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        world.run(Duration::from_secs(1));
        storm(&mut world, 2, Duration::from_secs(1));
        let port = world.ask(1, client, dialled.v4.into(), 0);
        storm(&mut world, 2, Duration::from_secs(1));
        assert!(world.answer(1, client, port).is_some());
    }
}

#[test]
fn a_storm_at_the_root_changes_nothing() {
    for seed in seeds(2) {
        let mut world = World::with_nodes(seed, 2);
        let before = (world.manager().asked, world.manager().server.clients());
        storm(&mut world, 0, Duration::from_secs(2));
        let after = (world.manager().asked, world.manager().server.clients());
        assert_eq!(before.1, after.1);
        assert!(after.0.hellos - before.0.hellos <= 2, "only the nodes' renewals");
    }
}

#[test]
fn a_node_that_was_broken_into_speaks_for_nobody_else() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("client");
        let (client, server) = (world.attach(1, "client", None), world.attach(2, "server", None));
        let honest = world.attach(3, "client", None);
        world.run(Duration::from_secs(1));
        for (host, app) in [(1, client), (3, honest)] {
            world.ask(host, app, dialled.v4.into(), 0);
        }
        world.run(Duration::from_secs(1));
        // Node 1 sends as the instance on node 3, as the service, as the server itself, and as nobody at all.
        let victim = world.hosts[2].key;
        let namespace_ip = world.app(2, server).namespace_ip;
        let sources = [
            world.app(3, honest).instance_ip,
            dialled,
            world.app(2, server).instance_ip,
            world.app(3, honest).namespace_ip,
        ];
        let (since, before) = (world.arrivals.len(), world.node(2).router().counters.drops(DropReason::SpoofedSource));
        for src in sources {
            let body = Body::Udp { src_port: 7, dst_port: 80, payload: vec![0; 64] };
            world.inject(
                1,
                victim,
                &Packet { src: src.v4.into(), dst: namespace_ip.v4.into(), body: body.clone() }.build(),
            );
            world.inject(1, victim, &Packet { src: src.v6.into(), dst: namespace_ip.v6.into(), body }.build());
        }
        world.run(Duration::from_secs(2));
        assert_eq!(world.arrivals_since(since), [], "nothing was delivered");
        let drops = world.node(2).router().counters.drops(DropReason::SpoofedSource) - before;
        assert_eq!(drops, 8, "each was counted");
    }
}

#[test]
fn a_node_that_was_broken_into_is_no_manager() {
    for seed in seeds(2) {
        let mut world = World::with_nodes(seed, 2);
        let dialled = world.create_service("server");
        world.create_service("client");
        let client = world.attach(1, "client", None);
        world.attach(2, "server", None);
        world.ask(1, client, dialled.v4.into(), 0);
        world.run(Duration::from_secs(1));
        let victim = world.hosts[2].key;
        let mut bytes = [0; 64];
        let message = acorn_core::sync::message::Message::Restarted { epoch: 9 };
        let len = message.encode(&mut bytes).unwrap();
        let hellos = world.manager().asked.hellos;
        world.inject(1, victim, &bytes[..len]);
        world.run(Duration::from_millis(100));
        assert_eq!(world.node(2).router().counters.drops(DropReason::NotAManager), 1);
        assert_eq!(world.manager().asked.hellos, hellos, "or it would have said Hello");
    }
}
