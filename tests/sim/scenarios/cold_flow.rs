//! First packets: they wait for table and handshake, none is lost, none is overtaken; and what leads nowhere fails fast.

use std::net::IpAddr;

use acorn_core::addr::{Dual, Family};
use acorn_core::time::Duration;

use crate::app::What;
use crate::network::Conditions;
use crate::world::{ROOT, World, seeds};

const BURST: u32 = 20;
/// What an application may have to wait for the news that there is nothing.
const FAILS_WITHIN: Duration = Duration::from_secs(1);

/// A client on node 1 and a server on node 2.
fn client_and_server(seed: u64) -> (World, acorn_core::InstanceId, Dual) {
    let mut world = World::with_nodes(seed, 2);
    let dialled = world.create_service("server");
    world.create_service("client");
    let client = world.attach(1, "client", None);
    world.attach(2, "server", None);
    // Longer than the pages of the attachments take.
    world.run(Duration::from_secs(1));
    (world, client, dialled)
}

fn sequences(world: &World, since: usize, of: impl Fn(&What) -> Option<u32>) -> Vec<u32> {
    world.arrivals_since(since).iter().filter_map(|arrival| of(&arrival.what)).collect()
}

fn asked(what: &What) -> Option<u32> {
    if let What::Asked { sequence, .. } = what { Some(*sequence) } else { None }
}

fn answered(what: &What) -> Option<u32> {
    if let What::Answered { sequence, .. } = what { Some(*sequence) } else { None }
}

#[test]
fn a_burst_of_a_new_flow_goes_through_table_and_handshake_whole_and_in_order() {
    for seed in seeds(5) {
        for family in [Family::V4, Family::V6] {
            let (mut world, client, dialled) = client_and_server(seed);
            // Not the same delay in every run, but one delay per run: such an underlay overtakes nothing.
            world.set_conditions(Conditions { delay: Duration::from_millis(1 + seed * 7), ..Conditions::CLEAN });
            assert!(
                !world
                    .node(1)
                    .router()
                    .table
                    .services()
                    .any(|slot| { world.node(1).router().table.service(slot).is_some_and(|service| service.complete) })
            );
            let port = world.app(1, client).new_port();
            for sequence in 0..BURST {
                world.ask_from(1, client, port, dialled.of(family), sequence);
            }
            world.run(Duration::from_secs(2));
            let expected: Vec<u32> = (0..BURST).collect();
            assert_eq!(sequences(&world, 0, asked), expected, "as the server got them");
            assert_eq!(sequences(&world, 0, answered), expected, "as the client got the answers");
        }
    }
}

#[test]
fn packets_that_come_while_others_wait_do_not_overtake_them() {
    for seed in seeds(5) {
        let (mut world, client, dialled) = client_and_server(seed);
        let port = world.app(1, client).new_port();
        // One every millisecond: before the table, between table and session, after both.
        for sequence in 0..60 {
            world.ask_from(1, client, port, dialled.v4.into(), sequence);
            world.run(Duration::from_millis(1));
        }
        world.run(Duration::from_secs(2));
        assert_eq!(sequences(&world, 0, asked), (0..60).collect::<Vec<_>>());
        assert_eq!(sequences(&world, 0, answered), (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn a_known_table_and_a_cold_tunnel_lose_nothing() {
    for seed in seeds(5) {
        let (mut world, client, dialled) = client_and_server(seed);
        world.ask(1, client, dialled.v4.into(), 0);
        world.run(Duration::from_secs(1));
        // A flow of five minutes' life keeps the table, while the session ends after three.
        world.run(Duration::from_secs(240));
        let since = world.arrivals.len();
        assert!(world.node(1).router().table.services().count() > 0, "the table is known");
        let port = world.app(1, client).new_port();
        for sequence in 0..BURST {
            world.ask_from(1, client, port, dialled.v4.into(), sequence);
        }
        world.run(Duration::from_secs(2));
        assert_eq!(sequences(&world, since, asked), (0..BURST).collect::<Vec<_>>());
        assert_eq!(sequences(&world, since, answered), (0..BURST).collect::<Vec<_>>());
    }
}

#[test]
fn a_first_answer_takes_five_crossings_of_the_underlay_and_no_timer() {
    for seed in seeds(3) {
        let (mut world, client, dialled) = client_and_server(seed);
        let delay = Duration::from_millis(40);
        world.set_conditions(Conditions { delay, ..Conditions::CLEAN });
        let port = world.ask(1, client, dialled.v4.into(), 0);
        let took = world
            .run_until(Duration::from_secs(2), "the answer comes", |world| world.answer(1, client, port).is_some());
        // Question to the root; introduction to the server and its acknowledgement; table; handshake there and back; the packet;
        // the answer. Without a wait for anything else.
        assert!(took <= delay * 8 + Duration::from_millis(10), "{took:?}");
    }
}

#[test]
fn what_nobody_has_fails_at_once_and_the_manager_is_asked_once() {
    for seed in seeds(3) {
        let (mut world, client, _) = client_and_server(seed);
        let before = world.manager().asked.addresses;
        for dst in ["10.30.77.7", "fdff:2000::77"] {
            let dst: IpAddr = dst.parse().unwrap();
            let port = world.app(1, client).new_port();
            for sequence in 0..BURST {
                world.ask_from(1, client, port, dst, sequence);
            }
            let told = |world: &World| world.unreachable(1, client, port);
            let took = world.run_until(FAILS_WITHIN, "the application is told", told);
            assert!(took < Duration::from_millis(50), "{took:?}: the manager knew at once");
        }
        assert_eq!(world.manager().asked.addresses - before, 2, "one question for each address");
    }
}

#[test]
fn without_a_manager_the_unknown_fails_within_a_second() {
    for seed in seeds(3) {
        let (mut world, client, dialled) = client_and_server(seed);
        world.crash(ROOT);
        let udp = world.ask(1, client, dialled.v4.into(), 0);
        let tcp = world.connect(1, client, dialled.v6.into());
        for port in [udp, tcp] {
            world.run_until(FAILS_WITHIN, "the application is told", |world| world.unreachable(1, client, port));
        }
    }
}
