//! The server against scripted clients over a bad network on a virtual clock, and message by message.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

mod model;
mod network;

use std::collections::BTreeSet;

use super::*;
use crate::ids::{Endpoint, InstanceId, NodeId};
use crate::sync::message::*;
use model::{Model, key, pair};
use network::{Client, Random, State, TestServer, Weather, World};

fn id(service: ServiceId, number: u32) -> InstanceId {
    InstanceId { service, number }
}

/// A service with instances 0.. on nodes 1, 2, ... in turn, and those nodes' clients know that they run there.
fn deploy(world: &mut World, instances: u32, nodes: u32) -> ServiceId {
    let service = world.model.add_service();
    for number in 0..instances {
        let node = number % nodes;
        world.model.place(service, number, NodeId(node + 1));
        world.clients[node as usize].instances.insert(id(service, number), false);
    }
    service
}

fn settled(world: &World) -> bool {
    world.difference().is_none()
}

fn settle(world: &mut World) {
    for _ in 0..120_000 {
        if settled(world) {
            return;
        }
        world.step();
    }
    panic!("no convergence: {}", world.difference().unwrap());
}

/// Sets some things, and leaves the others.
fn adjustment(random: &mut Random) -> Adjustment {
    let mut value = || Some(random.below(1_000) as u16).filter(|value| !value.is_multiple_of(3));
    Adjustment { weight: value(), priority: value(), load: value(), draining: value().map(|n| n % 2 == 0) }
}

/// Something happens in the network: on a node, at the manager, or to either.
fn disturb(world: &mut World, restarts: bool) {
    let now = world.now;
    let service = ServiceId(1 + u32::try_from(world.random.below(4)).unwrap());
    let number = u32::try_from(world.random.below(12)).unwrap();
    let who = usize::try_from(world.random.below(world.clients.len() as u64)).unwrap();
    let subject = if world.random.percent(50) { Subject::whole(service) } else { Subject::from(id(service, number)) };
    let holder = world.clients.iter().position(|client| client.instances.contains_key(&id(service, number)));
    match world.random.below(if restarts { 15 } else { 12 }) {
        0 | 1 => {
            let asker = world.clients[who].instances.keys().next().copied();
            world.clients[who].follow(now, subject, asker);
        }
        2 => world.clients[who].unfollow(now, subject),
        3 | 4 if world.model.services.contains_key(&service) => {
            // New, or moved behind the back of the node that has it.
            world.model.place(service, number, NodeId(who as u32 + 1));
            if let Some(holder) = holder {
                world.clients[holder].instances.remove(&id(service, number));
                world.clients[holder].let_be(id(service, number));
            }
            world.clients[who].instances.insert(id(service, number), false);
            world.clients[who].detaching.remove(&id(service, number));
        }
        5 => {
            if let Some(holder) = holder {
                world.clients[holder].instances.remove(&id(service, number));
                world.clients[holder].let_be(id(service, number));
                world.clients[holder].detaching.insert(id(service, number));
            }
        }
        6 => world.model.rename(service, number as usize % SERVICE_IPS_MAX),
        7 if world.random.percent(10) => {
            world.model.remove_service(service);
            for client in &mut world.clients {
                client.instances.retain(|instance, _| instance.service != service);
                client.adjusting.retain(|instance, _| instance.service != service);
                client.adjusted.retain(|instance, _| instance.service != service);
            }
        }
        8 => world.model.compact(service),
        9 => world.clients[who].mute = !world.clients[who].mute,
        10 | 11 => {
            let here: Vec<_> = world.clients[who].instances.keys().copied().collect();
            for instance in here {
                for _ in 0..3 {
                    let change = adjustment(&mut world.random);
                    world.clients[who].adjust(instance, change);
                }
            }
        }
        12 => world.clients[who].restart(now),
        13 => {
            let announce = world.random.percent(50);
            world.restart_server(announce);
        }
        _ => {}
    }
}

fn disturbed_world(seed: u64, weather: Weather, restarts: bool) {
    let mut world = World::new(5, seed, weather);
    world.check_releases = !restarts;
    for _ in 0..4 {
        deploy(&mut world, 3, 5);
    }
    for _ in 0..60 {
        let pause = world.random.below(if world.random.0.is_multiple_of(3) { 3_000 } else { 60 });
        world.run(pause);
        disturb(&mut world, restarts);
    }
    world.clients.iter_mut().for_each(|client| client.mute = false);
    settle(&mut world);
    // And stays so: nothing that is still under way undoes it.
    world.weather = Weather::FAIR;
    world.run(30_000);
    settle(&mut world);
}

#[test]
fn every_client_comes_to_hold_the_truth_over_a_foul_network() {
    for seed in 0..20 {
        disturbed_world(seed, Weather::FOUL, false);
    }
}

#[test]
fn every_client_comes_to_hold_the_truth_though_nodes_and_the_manager_restart() {
    for seed in 100..120 {
        disturbed_world(seed, Weather::FOUL, true);
    }
}

#[test]
fn a_hundred_instances_arrive_in_pages_that_cover_all_numbers_without_a_gap() {
    let mut world = World::new(5, 1, Weather::FAIR);
    let service = deploy(&mut world, 100, 4);
    world.model.rename(service, SERVICE_IPS_MAX);
    world.clients[4].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    let pages = &world.clients[4].pages;
    assert!(pages.len() >= 100 / PAGE_RECORDS, "at most {PAGE_RECORDS} records in a page");
    let mut at = Some(0);
    for (n, page) in pages.iter().enumerate() {
        let PageKind::Replace { from, to } = page.kind else { panic!("{page:?}") };
        assert_eq!(Some(from), at, "a page begins where the one before ended");
        assert_eq!((page.sequence, page.header.is_some()), (n as u32 + 1, n == 0));
        assert_eq!(page.more, to.is_some());
        at = to;
    }
    assert_eq!(at, None, "the last page covers all that follow");
}

#[test]
fn changes_of_a_table_come_as_patches_of_what_changed() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let service = deploy(&mut world, 20, 2);
    world.clients[2].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.clients[2].pages.clear();
    world.model.withdraw(service, 3);
    world.clients.iter_mut().for_each(|client| _ = client.instances.remove(&id(service, 3)));
    world.model.place(service, 30, NodeId(1));
    world.clients[0].instances.insert(id(service, 30), false);
    settle(&mut world);
    world.model.rename(service, 2);
    settle(&mut world);
    let pages = &world.clients[2].pages;
    assert_eq!(pages.len(), 2, "{pages:?}");
    assert_eq!(pages[0].kind, PageKind::Patch);
    assert_eq!(pages[0].removed, [3]);
    assert_eq!(pages[0].records.iter().map(|record| record.number).collect::<Vec<_>>(), [30]);
    assert!(pages[0].header.is_none());
    assert!(pages[1].header.is_some() && pages[1].records.is_empty());
}

#[test]
fn a_client_behind_the_oldest_known_removal_gets_the_whole_table() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 20, 1);
    world.clients[1].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.clients[1].pages.clear();
    world.model.withdraw(service, 3);
    world.clients[0].instances.remove(&id(service, 3));
    world.model.compact(service);
    settle(&mut world);
    assert!(world.clients[1].pages.iter().all(|page| matches!(page.kind, PageKind::Replace { .. })));
}

#[test]
fn one_instance_is_followed_alone_and_its_end_ends_the_stream() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 5, 1);
    let subject = Subject::from(id(service, 3));
    world.clients[1].follow(Instant::ZERO, subject, None);
    settle(&mut world);
    assert_eq!(world.clients[1].pages[0].kind, PageKind::Replace { from: 3, to: Some(4) });
    world.model.withdraw(service, 2);
    world.run(1_000);
    assert_eq!(world.clients[1].pages.len(), 1, "another instance is of no interest");
    world.model.withdraw(service, 3);
    world.until(100, "the stream ends", |world| world.clients[1].streams.is_empty());
    world.run(50);
    assert_eq!(world.clients[1].pages[1].kind, PageKind::Gone);
    assert_eq!(world.server.subscriptions(), 0);
}

#[test]
fn an_idle_server_sends_nothing_but_answers() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let service = deploy(&mut world, 10, 2);
    world.clients[2].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(2_000);
    let before = world.to_clients;
    world.run(60_000);
    assert_eq!(world.to_clients, before);
    assert_eq!(world.server.counters().reopened, 0);
    let due = world.server.poll_timeout().unwrap();
    assert!(due > world.now.saturating_add(Duration::from_secs(1)), "it wakes for leases only");
}

#[test]
fn a_page_is_repeated_with_growing_pauses_until_the_lease_ends_and_again_after_it() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    world.clients[1].lease_ms = 30_000;
    world.clients[1].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(1_000);
    world.clients[1].mute = true;
    world.model.rename(service, 3);
    let mut at = Vec::new();
    for _ in 0..60_000 {
        let before = world.to_clients;
        world.step();
        if world.to_clients > before {
            at.push(world.now.as_millis());
        }
    }
    let pauses: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses[..6], [200, 400, 800, 1_600, 2_000, 2_000]);
    assert!(at.len() < 20, "a silent client is not sent to: {at:?}");
    world.clients[1].mute = false;
    settle(&mut world);
}

#[test]
fn a_node_is_dead_after_its_lease_and_alive_with_its_next_word() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    world.clients[1].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.clients[0].mute = true;
    let silent = world.now;
    let alive = |world: &World| world.clients[1].streams[&Subject::whole(service)].records[&0].alive;
    world.until(4_100, "the lease ends", |world| !alive(world));
    assert!(world.now.saturating_duration_since(silent) >= Duration::from_millis(1_900));
    assert_eq!(world.server.counters().leases_ended, 1);
    world.clients[0].mute = false;
    world.until(1_000, "it is heard from", alive);
    let log: Vec<_> = world.model.alive_log.iter().filter(|(_, node, _)| *node == NodeId(1)).map(|e| e.2).collect();
    assert_eq!(log, [true, false, true], "told once of each change");
}

#[test]
fn what_a_restarted_node_does_not_claim_again_is_withdrawn_after_it_had_its_time() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 2, 1);
    settle(&mut world);
    world.clients[0].restart(world.now);
    world.clients[0].instances.remove(&id(service, 1));
    world.run(SETTLE.as_millis() as u64 - 500);
    assert_eq!(world.model.services[&service].instances.len(), 2);
    world.run(1_000);
    assert_eq!(world.model.services[&service].instances.keys().collect::<Vec<_>>(), [&0]);
    assert_eq!(world.model.settled.iter().filter(|(node, epoch)| (node.0, *epoch) == (1, 2)).count(), 1);
}

#[test]
fn what_a_restarted_node_does_not_claim_is_withdrawn_though_the_manager_restarts_meanwhile() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 2, 1);
    settle(&mut world);
    world.clients[0].restart(world.now);
    world.clients[0].instances.remove(&id(service, 1));
    world.run(5_000);
    world.restart_server(true);
    world.until(SETTLE.as_millis() as u64 + 1_000, "it is withdrawn", |world| {
        world.model.services[&service].instances.len() == 1
    });
    settle(&mut world);
}

#[test]
fn a_restart_of_the_manager_withdraws_nothing_that_runs() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 4, 2);
    world.clients[0].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(20_000);
    world.restart_server(true);
    world.run(20_000);
    settle(&mut world);
    assert_eq!(world.model.services[&service].instances.len(), 4);
}

#[test]
fn an_announced_restart_is_noticed_at_once_and_a_node_that_is_gone_is_reported() {
    let mut world = World::new(2, 1, Weather::FAIR);
    world.clients.iter_mut().for_each(|client| client.lease_ms = 60_000);
    let service = deploy(&mut world, 1, 1);
    world.clients[0].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(1_000);
    world.clients[1].mute = true;
    world.restart_server(true);
    let before = world.clients[0].welcomes.len();
    world.until(10, "it says Hello", |world| world.clients[0].welcomes.len() > before);
    assert_eq!(world.clients[0].welcomes.last().unwrap().epoch, 2);
    world.until(ANNOUNCE_LEASE.as_millis() as u64 + 10, "the other is dead", |w| !w.model.members[&NodeId(2)].alive);
    assert_eq!(world.server.clients(), 1);
    world.clients[1].mute = false;
    world.until(1_000, "it is back", |world| world.model.members[&NodeId(2)].alive);
}

#[test]
fn subscriptions_of_a_silent_client_hold_addresses_until_the_retention_ends() {
    let mut world = World::new(2, 1, Weather::FAIR);
    world.check_releases = false;
    world.server.set_retention(Duration::from_secs(30));
    let service = deploy(&mut world, 2, 1);
    world.clients[1].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(100);
    world.clients[1].mute = true;
    world.model.withdraw(service, 1);
    let version = world.model.services[&service].version;
    world.run(25_000);
    assert!(world.model.acknowledged[&service] < version, "the silent client may still use the address");
    world.until(10_000, "the retention ends", |world| world.server.counters().retentions_ended == 1);
    assert!(world.model.acknowledged[&service] >= version);
    assert_eq!((world.server.subscriptions(), world.server.clients()), (0, 1));
    world.clients[1].mute = false;
    settle(&mut world);
}

#[test]
fn without_interest_addresses_are_free_at_once_and_with_it_when_all_have_acknowledged() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let service = deploy(&mut world, 6, 1);
    settle(&mut world);
    world.model.withdraw(service, 0);
    world.step();
    assert_eq!(world.model.acknowledged[&service], world.model.services[&service].version);
    world.clients[1].follow(world.now, Subject::whole(service), None);
    world.clients[2].follow(world.now, Subject::from(id(service, 4)), None);
    world.clients[0].instances.remove(&id(service, 0));
    settle(&mut world);
    world.run(100);
    world.clients[1].mute = true;
    world.model.withdraw(service, 1);
    let version = world.model.services[&service].version;
    world.run(500);
    assert_eq!(world.model.acknowledged[&service], version - 1, "one has not acknowledged it");
    world.clients[1].mute = false;
    world.until(3_000, "both have", |world| world.model.acknowledged[&service] == version);
    world.model.remove_service(service);
    world.until(100, "all of the service is free", |world| world.model.acknowledged[&service] == u32::MAX);
}

/// Node 1 runs instance 0 of one service, which asks for another that runs on nodes 2 and 3.
fn introduction(world: &mut World) -> (Subject, Subject, InstanceId) {
    let own = deploy(world, 1, 1);
    let table = world.model.add_service();
    for number in 0..2 {
        world.model.place(table, number, NodeId(number + 2));
        world.clients[number as usize + 1].instances.insert(id(table, number), false);
    }
    settle(world);
    world.run(100);
    (Subject::whole(table), Subject::from(id(own, 0)), id(own, 0))
}

#[test]
fn nodes_know_who_asks_before_the_table_is_given() {
    let mut world = World::new(3, 1, Weather { delay: 10, ..Weather::FAIR });
    let (table, own, asker) = introduction(&mut world);
    world.clients[0].follow(world.now, table, Some(asker));
    world.until(100, "the table is there", |world| world.clients[0].first_pages.contains_key(&table));
    for node in [1, 2] {
        let client = &world.clients[node];
        assert!(client.first_pages[&own] < world.clients[0].first_pages[&table]);
        assert_eq!(client.nodes[&NodeId(1)].key, key(1));
        assert!(client.streams[&own].number >= SERVER_STREAMS);
    }
    settle(&mut world);
    assert_eq!(world.server.counters().introductions, 2);
    // Who knows the asker already is not told again.
    world.clients[0].unfollow(world.now, table);
    world.run(100);
    world.clients[0].follow(world.now, table, Some(asker));
    settle(&mut world);
    assert_eq!(world.server.counters().introductions, 2);
}

#[test]
fn a_table_goes_as_soon_as_its_nodes_have_acknowledged() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let (table, _, asker) = introduction(&mut world);
    world.clients[0].follow(world.now, table, Some(asker));
    world.until(6, "question, introduction, acknowledgement, table", |world| {
        world.clients[0].first_pages.contains_key(&table)
    });
}

#[test]
fn a_table_waits_no_longer_for_a_node_that_does_not_answer() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let (table, own, asker) = introduction(&mut world);
    world.clients[2].mute = true;
    let asked = world.now;
    world.clients[0].follow(asked, table, Some(asker));
    world.until(200, "the table is there", |world| world.clients[0].first_pages.contains_key(&table));
    let waited = world.clients[0].first_pages[&table].saturating_duration_since(asked);
    assert!(waited >= INTRODUCE_WAIT && waited <= INTRODUCE_WAIT + Duration::from_millis(10), "{waited:?}");
    assert!(world.clients[1].streams.contains_key(&own));
    world.clients[2].mute = false;
    world.until(3_000, "the other learns of it too", |world| world.clients[2].streams.contains_key(&own));
}

#[test]
fn a_node_that_joins_the_table_later_is_introduced_before_it_is_named() {
    let mut world = World::new(4, 1, Weather { delay: 10, ..Weather::FAIR });
    let (table, own, asker) = introduction(&mut world);
    world.clients[0].follow(world.now, table, Some(asker));
    settle(&mut world);
    world.run(100);
    world.model.place(table.service, 7, NodeId(4));
    world.clients[3].instances.insert(id(table.service, 7), false);
    world.until(200, "it is in the table", |world| world.clients[0].streams[&table].records.contains_key(&7));
    assert!(world.clients[3].first_pages[&own] < world.now);
}

#[test]
fn a_new_asker_of_an_open_stream_is_introduced_to_all_nodes_of_the_table() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let (table, _, asker) = introduction(&mut world);
    let number = world.clients[0].follow(world.now, table, Some(asker));
    settle(&mut world);
    let second = id(asker.service, 1);
    world.model.place(asker.service, 1, NodeId(1));
    world.clients[0].instances.insert(second, false);
    let resolve = Resolve { stream: number, key: ResolveKey::Subject(table), asker: Some(second) };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    world.until(10, "both are told", |world| {
        world.clients[1..].iter().all(|client| client.streams.contains_key(&Subject::from(second)))
    });
}

#[test]
fn an_asker_that_runs_elsewhere_is_not_introduced() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let (table, own, _) = introduction(&mut world);
    world.clients[0].follow(world.now, table, Some(id(table.service, 0)));
    settle(&mut world);
    world.run(200);
    assert_eq!(world.server.counters().introductions, 0);
    assert_eq!(world.server.counters().asker_elsewhere, 1);
    assert!(!world.clients[1].streams.contains_key(&own));
}

/// Gives the server a message as if it came from a node. Returns its answer.
fn send(world: &mut World, node: u8, message: &Message) -> Result<Option<Message>, ServerError> {
    send_as(world, key(node), message)
}

fn send_as(world: &mut World, key: NodeKey, message: &Message) -> Result<Option<Message>, ServerError> {
    let (mut payload, mut out) = ([0; MESSAGE_MAX], [0; MESSAGE_MAX]);
    let length = message.encode(&mut payload).unwrap();
    let from = Sender { key, observed: observed() };
    let answer = world.server.handle(world.now, from, &payload[..length], &mut world.model, &mut out)?;
    Ok(answer.map(|length| Message::decode(&out[..length]).unwrap()))
}

/// The page that the server sends now.
fn next_page(world: &mut World) -> Option<TablePage> {
    let mut out = [0; MESSAGE_MAX];
    let (_, length) = world.server.poll_transmit(world.now, &mut world.model, &mut out)?;
    match Message::decode(&out[..length]) {
        Ok(Message::Table(page)) => Some(page),
        other => panic!("{other:?}"),
    }
}

fn observed() -> Endpoint {
    Endpoint::from(core::net::SocketAddr::from(([192, 0, 2, 1], 50103)))
}

fn hello(world: &mut World, node: u8, request: u32) -> Welcome {
    let hello = world.clients[usize::from(node) - 1].hello(request);
    match send(world, node, &Message::Hello(hello)) {
        Ok(Some(Message::Welcome(welcome))) => welcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hello_is_answered_with_the_epoch_and_where_it_was_seen() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let welcome = hello(&mut world, 1, 7);
    assert_eq!((welcome.request, welcome.epoch, welcome.node), (7, 1, NodeId(1)));
    assert_eq!((welcome.observed, welcome.lease_ms), (observed(), 3_000));
    assert!(!welcome.reopen && !welcome.reattach);
}

#[test]
fn streams_are_to_be_opened_again_only_when_the_views_differ_for_two_hellos() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = world.model.add_service();
    assert!(!hello(&mut world, 1, 1).reopen);
    // A stream that the server has not heard of yet.
    world.clients[0].follow(world.now, Subject::whole(service), None);
    assert!(!hello(&mut world, 1, 2).reopen, "its Resolve may be under way");
    world.now = world.now.saturating_add(Duration::from_millis(250));
    assert!(!hello(&mut world, 1, 3).reopen, "a repeat does not make it older");
    world.now = world.now.saturating_add(Duration::from_secs(3));
    assert!(hello(&mut world, 1, 4).reopen, "it has been lost");
    let number = world.clients[0].streams[&Subject::whole(service)].number;
    let resolve = Resolve { stream: number, key: ResolveKey::Subject(Subject::whole(service)), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    world.now = world.now.saturating_add(Duration::from_secs(3));
    assert!(!hello(&mut world, 1, 5).reopen);
    world.now = world.now.saturating_add(Duration::from_secs(3));
    assert!(!hello(&mut world, 1, 6).reopen);
}

#[test]
fn a_stream_that_only_the_server_knows_is_found_and_ended() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    world.clients[1].follow(Instant::ZERO, Subject::whole(service), None);
    settle(&mut world);
    world.run(100);
    world.clients[1].streams.clear();
    world.until(10_000, "it is ended", |world| world.server.subscriptions() == 0);
    world.run(20_000);
    assert_eq!(world.server.counters().reopened, 1);
}

#[test]
fn a_stream_that_only_the_client_knows_is_opened_again() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    let subject = Subject::whole(service);
    world.clients[1].follow(Instant::ZERO, subject, None);
    settle(&mut world);
    let stream = world.clients[1].streams[&subject].number;
    assert_eq!(
        send(&mut world, 2, &Message::Forget { subject, stream }),
        Ok(Some(Message::Forgotten { subject, stream }))
    );
    world.model.rename(service, 4);
    world.until(10_000, "it is open", settled);
}

#[test]
fn a_late_repeat_of_an_older_question_does_not_replace_a_newer_one() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = world.model.add_service();
    hello(&mut world, 1, 1);
    let resolve =
        |stream| Message::Resolve(Resolve { stream, key: ResolveKey::Subject(Subject::whole(service)), asker: None });
    let page = |world: &mut World| next_page(world).map(|page| (page.stream, page.sequence));
    assert_eq!(send(&mut world, 1, &resolve(SERVER_STREAMS - 1)), Ok(None));
    assert_eq!(page(&mut world), Some((SERVER_STREAMS - 1, 1)));
    assert_eq!(page(&mut world), None, "once");
    assert_eq!(send(&mut world, 1, &resolve(SERVER_STREAMS - 1)), Ok(None));
    assert_eq!(page(&mut world), Some((SERVER_STREAMS - 1, 1)), "asked again, sent again");
    assert_eq!(send(&mut world, 1, &resolve(3)), Ok(None));
    assert_eq!(page(&mut world), Some((3, 1)), "numbers wrap");
    assert_eq!(send(&mut world, 1, &resolve(SERVER_STREAMS - 1)), Ok(None));
    assert_eq!(page(&mut world), None);
    assert_eq!(world.server.subscriptions(), 1);
}

#[test]
fn a_repeat_never_covers_more_than_the_page_that_the_client_may_have_applied() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = world.model.add_service();
    for number in 0..20 {
        world.model.place(service, number * 10, NodeId(1));
    }
    hello(&mut world, 1, 1);
    let subject = Subject::whole(service);
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(subject), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    let page = |world: &mut World| {
        world.now = world.now.saturating_add(Duration::from_secs(2));
        next_page(world).unwrap()
    };
    let bounds = |page: &TablePage| match page.kind {
        PageKind::Replace { from, to } => (page.sequence, from, to.unwrap()),
        _ => panic!("{page:?}"),
    };
    let first = page(&mut world);
    let (_, _, to) = bounds(&first);
    for number in 0..4 {
        world.model.withdraw(service, number * 10);
    }
    let again = page(&mut world);
    assert_eq!(bounds(&again), (1, 0, to), "there was room for more");
    assert!(again.records.len() < first.records.len());
    (1..40).for_each(|number| world.model.place(service, number, NodeId(1)));
    let (_, _, less) = bounds(&page(&mut world));
    assert!(less < to, "there was no room for all");
    let ack = Message::Ack { subject, stream: 1, sequence: 1 };
    assert_eq!(send(&mut world, 1, &ack), Ok(None));
    assert_eq!(bounds(&page(&mut world)).1, less, "the next one begins where every copy reached");
}

#[test]
fn a_repeat_after_the_end_of_the_service_frees_no_address() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = world.model.add_service();
    (0..2).for_each(|number| world.model.place(service, number, NodeId(1)));
    hello(&mut world, 1, 1);
    let subject = Subject::whole(service);
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(subject), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    let page = |world: &mut World| {
        world.now = world.now.saturating_add(Duration::from_secs(2));
        next_page(world).unwrap()
    };
    let ack = |world: &mut World, sequence| {
        assert_eq!(send(world, 1, &Message::Ack { subject, stream: 1, sequence }), Ok(None));
    };
    page(&mut world);
    ack(&mut world, 1);
    world.model.withdraw(service, 1);
    let version = world.model.services[&service].version;
    assert_eq!(page(&mut world).removed, [1]);
    world.model.remove_service(service);
    let repeat = page(&mut world);
    assert!(repeat.sequence == 2 && repeat.removed.is_empty());
    ack(&mut world, 2);
    assert!(world.model.acknowledged[&service] < version, "the client may have got only the repeat");
    assert_eq!(page(&mut world).kind, PageKind::Gone);
    ack(&mut world, 3);
    assert_eq!(world.model.acknowledged[&service], u32::MAX);
}

/// A client with stream 1 open on a service with two instances, whose pages it has acknowledged.
fn open_stream(world: &mut World) -> Subject {
    let subject = Subject::whole(world.model.add_service());
    (0..2).for_each(|number| world.model.place(subject.service, number, NodeId(1)));
    hello(world, 1, 1);
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(subject), asker: None };
    assert_eq!(send(world, 1, &Message::Resolve(resolve)), Ok(None));
    assert!(!next_page(world).unwrap().more);
    assert_eq!(send(world, 1, &Message::Ack { subject, stream: 1, sequence: 1 }), Ok(None));
    assert_eq!(next_page(world), None);
    subject
}

#[test]
fn a_stream_that_begins_anew_does_not_forget_what_its_client_may_still_use() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let subject = open_stream(&mut world);
    world.model.withdraw(subject.service, 1);
    let version = world.model.services[&subject.service].version;
    let resolve = Resolve { stream: 2, key: ResolveKey::Subject(subject), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    assert_eq!(next_page(&mut world).unwrap().stream, 2);
    let late = Message::Ack { subject, stream: 1, sequence: 2 };
    assert_eq!(send(&mut world, 1, &late), Ok(None));
    assert!(world.model.acknowledged[&subject.service] < version);
    let ack = Message::Ack { subject, stream: 2, sequence: 1 };
    assert_eq!(send(&mut world, 1, &ack), Ok(None));
    assert_eq!(world.model.acknowledged[&subject.service], version);
}

#[test]
fn a_header_that_changes_while_a_page_is_repeated_is_sent_again() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let subject = open_stream(&mut world);
    world.model.place(subject.service, 5, NodeId(1));
    assert!(next_page(&mut world).unwrap().header.is_none());
    world.model.rename(subject.service, 3);
    world.now = world.now.saturating_add(Duration::from_secs(1));
    assert_eq!(next_page(&mut world).unwrap().sequence, 2);
    let ack = Message::Ack { subject, stream: 1, sequence: 2 };
    assert_eq!(send(&mut world, 1, &ack), Ok(None));
    let page = next_page(&mut world).unwrap();
    assert_eq!((page.sequence, page.header), (3, world.model.header(subject.service)));
}

#[test]
fn a_restarted_client_has_no_streams() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let subject = open_stream(&mut world);
    let ours = world.server.subscriptions();
    world.clients[0].restart(world.now);
    assert!(!hello(&mut world, 1, 2).reopen, "it has nothing to open again");
    assert_eq!((ours, world.server.subscriptions()), (1, 0));
    world.model.withdraw(subject.service, 1);
    assert_eq!(next_page(&mut world), None);
    assert_eq!(world.model.acknowledged[&subject.service], world.model.services[&subject.service].version);
}

#[test]
fn a_new_node_speaks_through_its_join_key_until_it_is_known() {
    let mut world = World::new(1, 1, Weather::FAIR);
    world.model.join_keys.insert(key(200));
    let mut newcomer = Client::new(9);
    let joining = Hello { joining: Some(key(9)), ..newcomer.hello(1) };
    assert_eq!(
        send_as(&mut world, key(201), &Message::Hello(joining.clone())),
        Ok(Some(Message::Refused { request: 1, refusal: Refusal::JoinKey }))
    );
    let Ok(Some(Message::Welcome(welcome))) = send_as(&mut world, key(200), &Message::Hello(joining.clone())) else {
        panic!("not welcome")
    };
    assert_eq!(welcome.node, NodeId(9));
    assert_eq!(world.server.clients(), 0, "a join key has no session");
    let other = Message::Resolve(Resolve { stream: 1, key: ResolveKey::Subject(Subject::default()), asker: None });
    assert_eq!(send_as(&mut world, key(200), &other), Err(ServerError::Stranger), "it may only say Hello");
    assert_eq!(send_as(&mut world, key(9), &other), Ok(Some(Message::Restarted { epoch: 1 })));
    let own = Message::Hello(newcomer.hello(2));
    assert!(matches!(send_as(&mut world, key(9), &own), Ok(Some(Message::Welcome(_)))));
    assert_eq!(world.server.clients(), 1);
    assert_eq!(
        send_as(&mut world, key(9), &Message::Hello(joining)),
        Ok(Some(Message::Refused { request: 1, refusal: Refusal::JoinKey })),
        "a node's key is no join key"
    );
}

#[test]
fn a_node_that_the_directory_lets_go_of_loses_its_session() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = world.model.add_service();
    hello(&mut world, 1, 1);
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(Subject::whole(service)), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    world.model.members.clear();
    let again = Message::Hello(world.clients[0].hello(2));
    assert_eq!(send(&mut world, 1, &again), Ok(Some(Message::Refused { request: 2, refusal: Refusal::NotANode })));
    assert_eq!((world.server.clients(), world.server.subscriptions()), (0, 0));
}

#[test]
fn more_clients_or_streams_than_there_is_room_for_are_refused() {
    let mut world = World::new(9, 1, Weather::FAIR);
    let service = world.model.add_service();
    (0..100).for_each(|number| world.model.place(service, number, NodeId(1)));
    for node in 1..=8 {
        hello(&mut world, node, 1);
    }
    let ninth = Message::Hello(world.clients[8].hello(5));
    assert_eq!(send(&mut world, 9, &ninth), Ok(Some(Message::Refused { request: 5, refusal: Refusal::Full })));
    assert_eq!(world.server.counters().clients_full, 1);
    world.server.announce(key(9));
    assert_eq!(world.server.counters().clients_full, 2);
    let resolve = |stream| {
        let subject = Subject { service, instance: Some(stream) };
        Message::Resolve(Resolve { stream, key: ResolveKey::Subject(subject), asker: None })
    };
    for stream in 0..64 {
        assert_eq!(send(&mut world, 1, &resolve(stream)), Ok(None));
    }
    assert_eq!(send(&mut world, 1, &resolve(64)), Ok(Some(Message::Refused { request: 64, refusal: Refusal::Full })));
    assert_eq!(world.server.counters().streams_full, 1);
}

#[test]
fn a_small_client_gets_as_much_as_it_can_hold_and_others_get_others() {
    let mut world = World::new(4, 1, Weather::FAIR);
    let service = deploy(&mut world, 50, 1);
    let subject = Subject::whole(service);
    for client in &mut world.clients[1..] {
        client.capacities.instances = 10;
        client.follow(Instant::ZERO, subject, None);
    }
    let numbers = |world: &World, node: usize| {
        let held = &world.clients[node].streams[&subject];
        assert!(held.whole && held.state == State::Open);
        held.records.keys().copied().collect::<BTreeSet<_>>()
    };
    world.run(2_000);
    let parts: BTreeSet<_> = (1..4).map(|node| numbers(&world, node)).collect();
    assert!(parts.iter().all(|part| part.len() == 10));
    assert_eq!(parts.len(), 3, "the load is spread");
    // An instance that it holds goes: another takes its place.
    let gone = *numbers(&world, 1).first().unwrap();
    world.model.withdraw(service, gone);
    world.run(1_000);
    assert!(numbers(&world, 1).len() == 10 && !numbers(&world, 1).contains(&gone));
    for number in 0..41 {
        world.model.withdraw(service, number);
        world.clients[0].instances.remove(&id(service, number));
    }
    settle(&mut world);
    assert_eq!(numbers(&world, 1).len(), 9, "now it can hold all");
}

#[test]
fn what_is_not_there_or_not_known_yet_is_told_apart() {
    let mut world = World::new(1, 1, Weather::FAIR);
    hello(&mut world, 1, 1);
    let resolve = |stream, key| Message::Resolve(Resolve { stream, key, asker: None });
    let absent = ResolveKey::Address("10.30.7.7".parse().unwrap());
    assert_eq!(send(&mut world, 1, &resolve(4, absent)), Ok(Some(Message::NotFound { stream: 4 })));
    let pending = ResolveKey::Address("0.0.0.0".parse().unwrap());
    assert_eq!(send(&mut world, 1, &resolve(5, pending)), Ok(None));
    assert_eq!((world.server.counters().not_found, world.server.counters().pending), (1, 1));
    let servers = ResolveKey::Subject(Subject::default());
    assert_eq!(send(&mut world, 1, &resolve(SERVER_STREAMS, servers)), Err(ServerError::StreamNumber));
}

#[test]
fn a_node_attaches_and_detaches_for_itself_only_and_refusals_are_typed() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    hello(&mut world, 1, 1);
    hello(&mut world, 2, 1);
    let detach = Message::Detach(Detach { request: 3, instance: id(service, 0) });
    assert_eq!(send(&mut world, 2, &detach), Ok(Some(Message::Refused { request: 3, refusal: Refusal::Moved })));
    let name = world.model.services[&service].header.name.clone();
    let take = Message::Attach(Attach { request: 4, kind: AttachKind::Take(name, 0), namespace_ip: pair(5) });
    let Ok(Some(Message::Attached(first))) = send(&mut world, 2, &take) else { panic!("not attached") };
    assert_eq!(send(&mut world, 2, &take), Ok(Some(Message::Attached(first.clone()))), "a repeat is the same");
    assert_eq!(world.model.services[&service].instances[&0].0.node, NodeId(2));
    assert_eq!(send(&mut world, 2, &detach), Ok(Some(Message::Detached { request: 3 })));
    assert_eq!(send(&mut world, 2, &detach), Ok(Some(Message::Detached { request: 3 })));
}

fn adjust(epoch: u32, request: u32, instance: InstanceId, change: Adjustment) -> Message {
    Message::Adjust(Adjust { turn: Turn { epoch, request }, instance, change })
}

#[test]
fn an_adjustment_is_the_running_nodes_alone_and_goes_to_all_who_are_interested() {
    let mut world = World::new(3, 1, Weather::FAIR);
    let service = deploy(&mut world, 2, 1);
    let subject = Subject::whole(service);
    world.clients[2].follow(world.now, subject, None);
    settle(&mut world);
    let (instance, change) = (id(service, 1), Adjustment { draining: Some(true), ..Adjustment::default() });
    let refused = |request, refusal| Ok(Some(Message::Refused { request, refusal }));
    assert_eq!(send(&mut world, 2, &adjust(1, 3, instance, change)), refused(3, Refusal::Moved));
    assert_eq!(send(&mut world, 1, &adjust(1, 3, id(service, 9), change)), refused(3, Refusal::NoSuchInstance));
    assert_eq!(world.server.counters().adjust_refused, 2);
    let pages = world.clients[2].pages.len();
    assert_eq!(send(&mut world, 1, &adjust(1, 4, instance, change)), Ok(Some(Message::Adjusted { request: 4 })));
    world.until(100, "the others know", |world| world.clients[2].streams[&subject].records[&1].draining);
    let [page] = &world.clients[2].pages[pages..] else { panic!("more than one page") };
    assert_eq!((page.kind, page.records.len()), (PageKind::Patch, 1), "an ordinary update");
}

#[test]
fn of_two_adjustments_the_later_counts_whichever_comes_first() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = deploy(&mut world, 1, 1);
    hello(&mut world, 1, 1);
    let instance = id(service, 0);
    let weight = |weight| Adjustment { weight: Some(weight), ..Adjustment::default() };
    let done = |request| Ok(Some(Message::Adjusted { request }));
    let is = |world: &World| world.model.services[&service].instances[&0].0.weight;
    let wrap = SERVER_STREAMS - 1;
    for (request, sets, then, news) in [
        (wrap, 5, 5, true),
        (0, 6, 6, true),
        (wrap, 5, 6, false),
        (2, 7, 7, true),
        (1, 9, 7, false),
        (0, 6, 7, false),
        (2, 7, 7, false),
    ] {
        let version = world.model.services[&service].version;
        assert_eq!(send(&mut world, 1, &adjust(1, request, instance, weight(sets))), done(request));
        let changed = world.model.services[&service].version != version;
        assert_eq!((is(&world), changed), (then, news), "after {request}");
    }
    // After a restart of the node its numbers begin anew, and what it said before is not heard any more.
    world.clients[0].epoch = 2;
    hello(&mut world, 1, 2);
    assert_eq!(send(&mut world, 1, &adjust(1, 3, instance, weight(1))), Ok(None));
    assert_eq!((is(&world), world.server.counters().adjust_of_another_start), (7, 1));
    assert_eq!(send(&mut world, 1, &adjust(2, 1, instance, weight(2))), done(1));
    assert_eq!(is(&world), 2);
    assert_eq!(send(&mut world, 1, &adjust(1, 3, instance, weight(1))), Ok(None));
    assert_eq!(is(&world), 2);
}

#[test]
fn an_instance_is_attached_as_it_is_to_be_picked_and_older_adjustments_do_not_touch_it() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 0, 1);
    hello(&mut world, 1, 1);
    let name = world.model.services[&service].header.name.clone();
    let attach = Attach { request: 4, kind: AttachKind::Take(name, 0), namespace_ip: pair(5) };
    let settings = Adjustment { weight: Some(5), priority: Some(6), ..Adjustment::default() };
    let attach = Message::AttachAs(attach, settings);
    let is = |world: &World| {
        let record = world.model.services[&service].instances[&0].0;
        (record.weight, record.priority, record.draining)
    };
    assert!(matches!(send(&mut world, 1, &attach), Ok(Some(Message::Attached(_)))));
    assert_eq!(is(&world), (5, 6, false));
    let late = Adjustment { draining: Some(true), ..Adjustment::default() };
    assert!(send(&mut world, 1, &adjust(1, 3, id(service, 0), late)).is_ok());
    assert_eq!(is(&world), (5, 6, false), "that was of an instance before this one");
    let news = Adjustment { weight: Some(7), ..Adjustment::default() };
    assert!(send(&mut world, 1, &adjust(1, 5, id(service, 0), news)).is_ok());
    assert!(matches!(send(&mut world, 1, &attach), Ok(Some(Message::Attached(_)))));
    assert_eq!(is(&world), (7, 6, false), "a repeat of the attachment undoes nothing");
}

#[test]
fn messages_of_managers_and_acknowledgements_of_nothing_are_counted_and_ignored() {
    let mut world = World::new(1, 1, Weather::FAIR);
    hello(&mut world, 1, 1);
    let subject = Subject::default();
    assert_eq!(send(&mut world, 1, &Message::NotFound { stream: 1 }), Err(ServerError::NotARequest));
    assert_eq!(send(&mut world, 1, &Message::Ack { subject, stream: 1, sequence: 1 }), Ok(None));
    let forget = Message::Forget { subject, stream: 1 };
    assert_eq!(send(&mut world, 1, &forget), Ok(Some(Message::Forgotten { subject, stream: 1 })));
    let counters = world.server.counters();
    assert_eq!((counters.not_a_request, counters.ack_unknown, counters.forget_unknown), (1, 1, 1));
}

#[test]
fn broken_payloads_are_survived_and_the_service_goes_on() {
    let mut world = World::new(2, 1, Weather::FAIR);
    let service = deploy(&mut world, 30, 1);
    hello(&mut world, 1, 1);
    let asker = Some(id(service, 0));
    let subject = Subject::whole(service);
    let name = world.model.services[&service].header.name.clone();
    let kind = AttachKind::Take(name.clone(), 3);
    let mut messages = vec![
        Message::Hello(world.clients[0].hello(9)),
        Message::Resolve(Resolve { stream: 1, key: ResolveKey::Subject(subject), asker }),
        Message::Resolve(Resolve { stream: 2, key: ResolveKey::Name(name), asker }),
        Message::Resolve(Resolve { stream: 3, key: ResolveKey::Address(pair(7).v6.into()), asker }),
        Message::Attach(Attach { request: 5, kind, namespace_ip: pair(9) }),
        Message::Detach(Detach { request: 6, instance: id(service, 29) }),
        adjust(1, 7, id(service, 28), Adjustment { weight: Some(3), ..Adjustment::default() }),
        Message::Forget { subject, stream: 2 },
        Message::Ack { subject, stream: 1, sequence: 1 },
        Message::Welcome(hello(&mut world, 1, 2)),
        Message::Restarted { epoch: 3 },
    ];
    let mut random = Random(5);
    let (mut payload, mut out) = ([0; MESSAGE_MAX], [0; MESSAGE_MAX]);
    let from = Sender { key: key(1), observed: observed() };
    let mut hand = |world: &mut World, payload: &[u8]| {
        world.now = world.now.saturating_add(Duration::from_millis(7));
        let _ = world.server.handle(world.now, from, payload, &mut world.model, &mut out);
        world.server.handle_timeout(world.now, &mut world.model);
        while world.server.poll_transmit(world.now, &mut world.model, &mut out).is_some() {}
    };
    hand(&mut world, &[]);
    for message in &mut messages {
        let length = message.encode(&mut payload).unwrap();
        for cut in 0..=length {
            hand(&mut world, &payload[..cut]);
        }
        for place in 0..length {
            for _ in 0..8 {
                let mut broken = payload;
                broken[place] ^= 1 << random.below(8);
                broken[usize::try_from(random.below(length as u64)).unwrap()] =
                    u8::try_from(random.below(256)).unwrap();
                hand(&mut world, &broken[..length]);
            }
        }
    }
    for length in 0..200 {
        let noise: Vec<u8> = (0..length).map(|n| if n == 0 { 1 } else { random.next().to_le_bytes()[0] }).collect();
        hand(&mut world, &noise);
    }
    assert!(world.server.counters().malformed > 500);
    world.clients[1].follow(world.now, subject, None);
    world.until(5_000, "another node is served", |world| {
        let held = world.clients[1].streams.get(&subject);
        held.is_some_and(|held| held.whole && held.records == world.model.truth(subject))
    });
}

#[test]
fn an_answer_without_room_is_an_error_and_a_page_without_room_is_kept_for_later() {
    let mut world = World::new(1, 1, Weather::FAIR);
    let service = deploy(&mut world, 3, 1);
    let mut payload = [0; MESSAGE_MAX];
    let length = Message::Hello(world.clients[0].hello(1)).encode(&mut payload).unwrap();
    let from = Sender { key: key(1), observed: observed() };
    let small = &mut [0; 4];
    let answer = world.server.handle(world.now, from, &payload[..length], &mut world.model, small);
    assert_eq!(answer, Err(ServerError::NoRoom));
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(Subject::whole(service)), asker: None };
    assert_eq!(send(&mut world, 1, &Message::Resolve(resolve)), Ok(None));
    assert_eq!(world.server.poll_transmit(world.now, &mut world.model, small), None);
    assert_eq!(world.server.counters().no_room, 2);
    world.now = world.now.saturating_add(Duration::from_secs(1));
    assert!(world.server.poll_transmit(world.now, &mut world.model, &mut payload).is_some());
}

#[test]
fn a_client_that_stays_silent_for_its_retention_leaves_nothing_behind() {
    let mut server = TestServer::new();
    let mut model = Model::default();
    model.add_node(1);
    let service = model.add_service();
    server.start(Instant::ZERO, 1, HashKey(1, 2));
    let mut payload = [0; MESSAGE_MAX];
    let mut out = [0; MESSAGE_MAX];
    let from = Sender { key: key(1), observed: observed() };
    let resolve = Resolve { stream: 1, key: ResolveKey::Subject(Subject::whole(service)), asker: None };
    for message in [Message::Hello(Client::new(1).hello(1)), Message::Resolve(resolve)] {
        let length = message.encode(&mut payload).unwrap();
        server.handle(Instant::ZERO, from, &payload[..length], &mut model, &mut out).unwrap();
    }
    // Only what the server asks for wakes it.
    let mut wakes = 0;
    while let Some(due) = server.poll_timeout() {
        server.handle_timeout(due, &mut model);
        while server.poll_transmit(due, &mut model, &mut out).is_some() {}
        wakes += 1;
        assert!(wakes < 50);
        assert!(due <= Instant::ZERO.saturating_add(RETENTION));
    }
    assert_eq!((server.clients(), server.subscriptions()), (0, 0));
    assert_eq!(model.acknowledged[&service], model.services[&service].version);
}
