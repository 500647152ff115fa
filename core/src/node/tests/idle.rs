//! How often a node that sleeps until it has something to do wakes up, and that everything still ends when it should.

use super::harness::*;
use crate::addr::Family;
use crate::ids::ServiceId;
use crate::node::PeerNews;
use crate::packet::samples::{Kind, Sample};
use crate::sync::message::{Message, Subject, Welcome};
use crate::table::samples::service_ip;
use crate::time::Instant;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// How late a flow may end, in milliseconds: a round comes so long after the one before at the earliest.
const FLOW_SLACK: u64 = 250;
/// The same of interests and nodes.
const SLACK: u64 = 1_000;

/// Lets the time pass with a manager that answers within a lease of a minute. Returns when the node woke up for anything but that.
fn sleep(world: &mut World, millis: u64) -> Vec<Instant> {
    let end = Instant(world.now.0 + millis);
    let mut woken = Vec::new();
    while let Some(due) = world.node.poll_timeout().filter(|due| *due <= end) {
        world.said.clear();
        world.run(due.0.saturating_sub(world.now.0));
        let is_hello = |message: &Message| matches!(message, Message::Hello(_));
        if world.said.iter().any(|(_, message)| is_hello(message)) {
            let answer = Welcome { lease_ms: 60_000, ..welcome(world.hello().request, 1) };
            world.manager(Message::Welcome(answer));
        } else if woken.last() != Some(&world.now) {
            woken.push(world.now);
        }
    }
    world.now = end;
    woken
}

fn tcp(port: u16, flags: u8) -> Sample {
    Sample { tcp_flags: flags, ..from_client(Family::V4, Kind::Tcp, port, service_ip(DIALLED)) }
}

/// A TCP connection from this local port to instance 0 on node B.
fn connect(world: &mut World, port: u16) {
    world.dial(&tcp(port, SYN));
    let answer = Sample { kind: Kind::Tcp, tcp_flags: SYN | ACK, ..from_server(Family::V4, 0, port) };
    world.receive(B, &answer.build());
    world.dial(&tcp(port, ACK));
}

fn flows(world: &World) -> usize {
    world.node.router().flows.len()
}

fn follows_servers(world: &World) -> bool {
    world.node.router().table.find_service(ServiceId(SERVERS)).is_some()
}

#[test]
fn an_idle_member_wakes_up_for_its_lease_only() {
    let mut world = World::ready();
    sleep(&mut world, 10_000);
    assert_eq!(sleep(&mut world, 600_000), []);
    assert!(world.node.client().is_connected(world.now));
}

#[test]
fn idle_connections_wake_a_node_up_once_in_10_seconds() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    for port in 5..10 {
        connect(&mut world, port);
    }
    let woken = sleep(&mut world, 600_000).len();
    assert!((60..=66).contains(&woken), "{woken} times in 10 minutes");
    assert_eq!((flows(&world), follows_servers(&world)), (5, true));
}

#[test]
fn idle_datagram_flows_and_interests_in_use_wake_a_node_up_once_in_10_seconds() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    for port in 1..5 {
        world.dial(&dial(Family::V6, port, DIALLED));
        world.receive(B, &from_server(Family::V6, 0, port).build());
    }
    // The flow of `with_servers` is one-way, and ends after 30 s; the others after 5 min.
    let woken = sleep(&mut world, 290_000).len();
    assert!(woken <= 32, "{woken} times");
    assert_eq!((flows(&world), follows_servers(&world)), (4, true));
    sleep(&mut world, 10_000 + FLOW_SLACK);
    assert_eq!((flows(&world), follows_servers(&world)), (0, true));
    sleep(&mut world, 10_000 - FLOW_SLACK - 1);
    assert!(follows_servers(&world));
    sleep(&mut world, SLACK + 1);
    assert!(!follows_servers(&world));
}

#[test]
fn a_flow_its_interest_and_its_node_end_when_they_should_though_the_node_sleeps() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    sleep(&mut world, 29_999);
    assert_eq!(flows(&world), 1);
    sleep(&mut world, 1 + FLOW_SLACK);
    assert_eq!((flows(&world), follows_servers(&world)), (0, true));
    sleep(&mut world, 10_000 - FLOW_SLACK - 1);
    assert!(follows_servers(&world));
    sleep(&mut world, 1 + SLACK);
    assert!(!follows_servers(&world));
    let subject = Subject::whole(ServiceId(SERVERS));
    world.manager(Message::Forgotten { subject, stream });
    world.peers.clear();
    sleep(&mut world, LINGER - SLACK - 1);
    assert_eq!(world.peers, []);
    let woken = sleep(&mut world, 2 * SLACK + 1).len();
    assert!(matches!(world.peers[..], [PeerNews::Gone { .. }]));
    assert!(woken <= 2, "{woken} times");
}

#[test]
fn a_connection_that_is_reset_between_two_rounds_ends_in_time() {
    for before in [0, 4_000, 9_999, 10_001] {
        let (mut world, _) = World::with_servers(&[(0, B)]);
        sleep(&mut world, 31_000);
        connect(&mut world, 5);
        sleep(&mut world, before);
        world.dial(&tcp(5, RST));
        sleep(&mut world, 9_999);
        assert_eq!(flows(&world), 1, "after {before} ms");
        sleep(&mut world, 1 + FLOW_SLACK);
        assert_eq!(flows(&world), 0, "after {before} ms");
    }
}

#[test]
fn an_interest_whose_last_flow_ends_while_it_is_opened_again_ends_soon_after() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    world.run(20_000);
    world.welcome(2);
    world.welcoming = Some(2);
    let stream = world.resolve_of(Subject::whole(ServiceId(SERVERS))).stream;
    world.run(25_000);
    assert_eq!((flows(&world), follows_servers(&world)), (0, true));
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[(0, B)])));
    world.run(SLACK);
    assert!(!follows_servers(&world));
}

#[test]
fn an_instance_that_is_detached_is_followed_for_as_long_as_any() {
    let mut world = World::ready();
    sleep(&mut world, 60_000);
    world.node.detach(world.now, attachment(0).id).unwrap();
    world.settle();
    assert_eq!(world.node.client().interests(), 1);
    world.said.clear();
    world.run(SLACK);
    assert!(world.messages().iter().any(|message| matches!(message, Message::Forget { .. })));
}
