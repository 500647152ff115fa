//! Probes between peers: whom a node measures and how often, whom it answers, and what it tells its manager of that.

use super::harness::*;
use crate::addr::Family;
use crate::coordinate::Coordinate;
use crate::measure::{ERROR_ONE, vivaldi};
use crate::stats::DropReason;
use crate::sync::message::{Message, Probe, Report, TablePage};
use crate::time::Duration;

/// A table of a service that is dialled under `Closest`.
fn closest(stream: u32, instances: &[(u32, u32)]) -> TablePage {
    let mut page = table(stream, SERVERS, &[DIALLED], instances);
    page.header.as_mut().unwrap().service_ips[0].ip_type = "Closest".try_into().unwrap();
    page
}

/// A node with a flow to such a service, whose first probes have been sent.
fn world(instances: &[(u32, u32)]) -> World {
    let mut world = World::ready();
    world.node.set_learning(vivaldi::learn);
    world.dial(&dial(Family::V4, 1, DIALLED));
    let stream = world.resolve().stream;
    world.said.clear();
    world.welcoming = Some(1);
    world.manager(Message::Table(closest(stream, instances)));
    world.run(1);
    world
}

/// Takes out what was asked of peers.
fn probes(world: &mut World) -> Vec<(u32, Probe)> {
    let said = std::mem::take(&mut world.said).into_iter();
    said.filter_map(|(to, message)| match message {
        Message::Probe(probe) => Some((to, probe)),
        _ => None,
    })
    .collect()
}

fn tell(world: &mut World, from: u32, message: Message) {
    world.manager_only(from, message);
    world.settle();
}

fn answer(world: &mut World, (from, probe): (u32, Probe)) {
    let coordinate = [from as i16 * 100, 50, 30];
    tell(world, from, Message::ProbeAnswer(Probe { token: probe.token, coordinate, error: 400, round_trip: 0 }));
}

fn round_trip(world: &World, peer: u32) -> Option<Duration> {
    let peer = world.node.find_peer(&key(peer)).unwrap();
    world.node.peer(peer).unwrap().round_trip()
}

#[test]
fn the_nodes_of_a_service_that_goes_by_distance_are_measured_while_it_has_flows() {
    let mut world = world(&[(0, B), (1, C), (2, C)]);
    let first = probes(&mut world);
    let mut to: Vec<_> = first.iter().map(|(to, _)| *to).collect();
    to.sort_unstable();
    assert_eq!(to, [B, C], "each node once, at once");
    world.run(6);
    for probe in first {
        answer(&mut world, probe);
    }
    assert_eq!(round_trip(&world, B).unwrap().as_millis(), 7, "they went out a millisecond before");
    world.run(20_000);
    let count = probes(&mut world).len();
    assert!((4..=30).contains(&count), "{count} probes of two nodes that do not answer any more");
    // The flow ends after 30 s.
    world.run(30_000);
    world.said.clear();
    world.run(60_000);
    assert_eq!(probes(&mut world), [], "nothing is measured for nobody");
}

#[test]
fn nobody_is_measured_for_a_service_that_does_not_go_by_distance() {
    let (mut world, _) = World::with_servers(&[(0, B), (1, C)]);
    world.run(20_000);
    assert_eq!(probes(&mut world), []);
}

#[test]
fn the_shortest_of_the_last_round_trips_counts_and_later_ones_are_10_seconds_apart() {
    let mut world = world(&[(0, B)]);
    let mut times = Vec::new();
    for took in [30, 12, 40, 25, 26, 27, 28] {
        let probe = loop {
            if let Some(probe) = probes(&mut world).pop() {
                break probe;
            }
            world.run(1);
        };
        times.push(world.now);
        world.run(took);
        answer(&mut world, probe);
        // The flow stays.
        world.dial(&dial(Family::V4, 1, DIALLED));
        if took == 25 {
            assert_eq!(round_trip(&world, B).unwrap().as_millis(), 12);
        }
    }
    assert_eq!(round_trip(&world, B).unwrap().as_millis(), 25, "what was before is forgotten");
    let apart = |n: usize| times[n + 1].0 - times[n].0;
    assert!((0..3).all(|n| apart(n) <= 2_100), "{times:?}");
    assert!((4..6).all(|n| (8_000..=13_100).contains(&apart(n))), "{times:?}");
}

#[test]
fn what_was_asked_before_there_was_a_tunnel_is_asked_again() {
    let mut world = world(&[(0, B)]);
    let before = probes(&mut world);
    world.run(200);
    world.node.peer_established(world.now, world.node.find_peer(&key(B)).unwrap());
    world.settle();
    let again = probes(&mut world);
    assert_eq!((before.len(), again.len()), (1, 1));
    world.run(9);
    answer(&mut world, before[0]);
    assert_eq!(round_trip(&world, B), None, "that one has waited");
    answer(&mut world, again[0]);
    assert_eq!(round_trip(&world, B).unwrap().as_millis(), 9);
}

#[test]
fn answers_that_were_not_asked_for_count_for_nothing() {
    let mut world = world(&[(0, B), (1, C)]);
    let asked = probes(&mut world);
    let of = |peer| asked.iter().find(|(to, _)| *to == peer).unwrap().1;
    tell(&mut world, B, Message::ProbeAnswer(of(C)));
    tell(&mut world, B, Message::ProbeAnswer(Probe { token: of(B).token ^ 1, ..of(B) }));
    assert_eq!((round_trip(&world, B), world.node.probe_counters().unasked), (None, 2));
    world.run(3);
    tell(&mut world, B, Message::ProbeAnswer(of(B)));
    world.run(3);
    tell(&mut world, B, Message::ProbeAnswer(of(B)));
    assert_eq!(round_trip(&world, B).unwrap().as_millis(), 4, "twice is once");
    world.run(5_000);
    tell(&mut world, C, Message::ProbeAnswer(of(C)));
    assert_eq!(round_trip(&world, C), None, "too late");
    world.receive(B, &[1, 18, 0xff]);
    assert_eq!(world.drops(DropReason::BadControl), 1);
}

#[test]
fn a_peer_is_answered_at_a_bounded_rate_and_another_one_all_the_same() {
    let (mut world, _) = World::with_servers(&[(0, B), (1, C)]);
    let ask = |world: &mut World, from, token| tell(world, from, Message::Probe(Probe { token, ..Probe::default() }));
    for token in 0..1_000 {
        ask(&mut world, B, token);
    }
    ask(&mut world, C, 7);
    let answers = |world: &mut World| {
        let said = std::mem::take(&mut world.said).into_iter();
        said.filter_map(|(to, message)| match message {
            Message::ProbeAnswer(probe) => Some((to, probe.token)),
            _ => None,
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(answers(&mut world), [(B, 0), (B, 1), (B, 2), (B, 3), (C, 7)]);
    let counters = *world.node.probe_counters();
    assert_eq!((counters.answered, counters.refused, counters.sent), (5, 996, 0));
    world.run(250);
    ask(&mut world, B, 8);
    ask(&mut world, B, 9);
    assert_eq!(answers(&mut world), [(B, 8)]);
}

#[test]
fn a_node_that_learns_where_it_is_tells_its_manager_until_it_knows_and_again_when_it_forgets() {
    let mut world = world(&[(0, B), (1, C)]);
    let mut reports = Vec::new();
    let mut placed = Vec::new();
    for _ in 0..120 {
        let said = std::mem::take(&mut world.said);
        for (to, message) in said {
            match message {
                Message::Probe(probe) => placed.push((to, probe)),
                Message::Report(report) => reports.push((to, report)),
                _ => {}
            }
        }
        world.run(20);
        for probe in std::mem::take(&mut placed) {
            answer(&mut world, probe);
        }
        world.dial(&dial(Family::V4, 1, DIALLED));
        world.run(980);
    }
    let place = *world.node.place();
    assert!(place.coordinate().is_known() && place.error() < ERROR_ONE / 2, "{place:?}");
    let (to, Report { request, coordinate, .. }) = *reports.first().expect("it is told");
    assert_eq!(to, MANAGER);
    assert!(Coordinate(coordinate).is_known());
    assert!(reports.len() > 10 && reports.iter().all(|(_, report)| report.request == request), "until it is answered");
    world.manager(Message::Reported { request: request ^ 1 });
    world.said.clear();
    world.run(5_000);
    let is_report = |m: &Message| matches!(m, Message::Report(_));
    assert!(world.messages().iter().any(is_report), "that answered something else");
    world.manager(Message::Reported { request });
    world.said.clear();
    world.run(30_000);
    assert!(!world.messages().iter().any(is_report));
    world.manager(Message::Restarted { epoch: 2 });
    world.welcome(2);
    assert!(world.messages().iter().any(is_report), "another manager does not know");
}
