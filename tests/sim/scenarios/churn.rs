//! Twenty nodes, ten services, and instances that come, go and move over an underlay that loses, doubles and reorders.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use acorn_core::InstanceId;
use acorn_core::addr::Dual;
use acorn_core::time::Duration;

use crate::network::Conditions;
use crate::world::{World, name_of, seeds};

const NODES: usize = 20;
const WORDS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
/// How long the churn lasts, and how often something changes.
const CHURN: Duration = Duration::from_secs(40);
const EVERY_MS: u64 = 250;
/// After which everybody has to agree, losses or not.
const QUIET: Duration = Duration::from_secs(20);
/// Turns of the round robin that are counted.
const TURNS: u32 = 4;

/// Something about a service that a node's table and the root have to agree on: number, addresses, key of the node, alive.
type Fact = (u32, Dual, Dual, [u8; 32], bool);

/// A world in which much has happened.
pub fn churned(seed: u64, time: Duration) -> World {
    let mut world = World::with_nodes(seed, NODES);
    for word in WORDS {
        world.create_service(word);
    }
    for (place, word) in WORDS.iter().cycle().take(20).enumerate() {
        world.begin_attach(1 + place % NODES, word, None);
    }
    world.run(Duration::from_secs(1));
    world.set_conditions(Conditions::ROUGH);
    let end = world.now.saturating_add(time);
    while world.now < end {
        change_something(&mut world);
        for _ in 0..3 {
            dial_something(&mut world);
        }
        let pause = 1 + world.random.below(2 * EVERY_MS);
        world.run(Duration::from_millis(pause));
    }
    world
}

fn change_something(world: &mut World) {
    let host = 1 + world.random.below(NODES as u64) as usize;
    let word = WORDS[world.random.below(WORDS.len() as u64) as usize];
    let here = world.hosts[host].attached();
    let everywhere: Vec<(usize, InstanceId)> =
        (1..=NODES).flat_map(|host| world.hosts[host].attached().into_iter().map(move |id| (host, id))).collect();
    match world.random.below(3) {
        0 if here.len() < 6 && everywhere.len() < 40 => world.begin_attach(host, word, None),
        1 if everywhere.len() > 10 => {
            let (host, instance) = world.random.pick(&everywhere).expect("there are some");
            world.detach(host, instance);
        }
        _ if here.len() < 6 => {
            let moving = world.random.pick(&everywhere).filter(|(from, _)| *from != host);
            let Some((_, instance)) = moving else { return };
            let word = word_of(world, instance);
            world.begin_attach(host, &word, Some(instance.number));
        }
        _ => {}
    }
}

fn dial_something(world: &mut World) {
    let host = 1 + world.random.below(NODES as u64) as usize;
    let apps: Vec<InstanceId> = world.hosts[host].apps.keys().copied().collect();
    let Some(app) = world.random.pick(&apps) else { return };
    let word = WORDS[world.random.below(WORDS.len() as u64) as usize];
    let dialled = world.services[word];
    let dst: IpAddr = if world.random.percent(50) { dialled.v4.into() } else { dialled.v6.into() };
    if world.random.percent(30) {
        world.connect(host, app, dst);
    } else {
        world.ask(host, app, dst, 0);
    }
}

fn word_of(world: &World, instance: InstanceId) -> String {
    let services = world.manager().root.services();
    let service = services.iter().find(|service| service.id == instance.service).expect("the service is there");
    service.name.as_str().split('.').next().expect("a name has parts").to_owned()
}

/// What the root holds of a service.
fn truth(world: &World, word: &str) -> BTreeSet<Fact> {
    let service = world.manager().root.service(&name_of(word).parse().unwrap()).expect("the service is there");
    service.instances.iter().map(|i| (i.number, i.instance_ip, i.namespace_ip, i.node.0, i.alive)).collect()
}

/// What a node holds of it, and whether it is all.
fn held(world: &World, host: usize, word: &str) -> Option<(BTreeSet<Fact>, bool)> {
    let table = &world.node(host).router().table;
    let slot = table.services().find(|slot| table.service(*slot).is_some_and(|s| s.name.as_str() == name_of(word)))?;
    let instances = table.instances_of(slot).filter_map(|slot| table.instance(slot));
    let facts = instances.map(|i| {
        let key = table.node(i.node).expect("an instance has a node").key.0;
        (i.number, i.instance_ip, i.namespace_ip, key, i.alive)
    });
    Some((facts.collect(), table.service(slot).is_some_and(|service| service.complete)))
}

#[test]
fn after_the_churn_all_agree_every_dial_is_answered_and_the_round_robin_is_exact() {
    for seed in seeds(3) {
        let mut world = churned(seed, CHURN);
        world.run(QUIET);
        every_interested_node_holds_the_roots_truth(&world);
        world.set_conditions(Conditions::CLEAN);
        // What was under way or waited for a repeat.
        world.run(Duration::from_secs(20));
        every_dial_is_answered_in_turn(&mut world);
    }
}

fn every_interested_node_holds_the_roots_truth(world: &World) {
    for host in 1..=NODES {
        let counters = &world.node(host).client().counters;
        assert_eq!((counters.table_full, counters.interests_full), (0, 0), "host {host} has room for everything");
    }
    let mut whole_tables = 0;
    for word in WORDS {
        let truth = truth(world, word);
        let running: BTreeMap<u32, usize> = (1..=NODES)
            .flat_map(|host| world.hosts[host].attached().into_iter().map(move |id| (host, id)))
            .filter(|(_, id)| word_of(world, *id) == word)
            .map(|(host, id)| (id.number, host))
            .collect();
        let known: BTreeMap<u32, usize> = truth.iter().map(|fact| (fact.0, usize::from(fact.3[0]))).collect();
        assert_eq!(known, running, "the root knows of {word} what runs where");
        for host in 1..=NODES {
            let Some((held, is_whole)) = held(world, host, word) else { continue };
            whole_tables += usize::from(is_whole);
            if is_whole {
                assert_eq!(held, truth, "service {word} as host {host} holds it");
            } else {
                assert!(
                    held.is_subset(&truth),
                    "service {word} as host {host} holds a part of it: {held:?} of {truth:?}"
                );
            }
        }
    }
    assert!(whole_tables >= 10, "only {whole_tables} tables were compared");
}

fn every_dial_is_answered_in_turn(world: &mut World) {
    for host in [1, 7, 13, 20] {
        let app = world.hosts[host].own_app();
        for word in WORDS {
            let instances: Vec<u32> = truth(world, word).iter().map(|fact| fact.0).collect();
            let dst = world.services[word].v4.into();
            if instances.is_empty() {
                let port = world.ask(host, app, dst, 0);
                world.run(Duration::from_secs(1));
                assert!(world.unreachable(host, app, port), "{word} has no instance");
                continue;
            }
            let dials = instances.len() as u32 * TURNS;
            let ports: Vec<u16> = (0..dials).map(|sequence| world.ask(host, app, dst, sequence)).collect();
            world.run(Duration::from_secs(1));
            let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
            for port in ports {
                let Some(by) = world.answer(host, app, port) else {
                    panic!("a dial of {word} on host {host} got no answer")
                };
                *counts.entry(by.number).or_default() += 1;
            }
            let expected: BTreeMap<u32, u32> = instances.iter().map(|number| (*number, TURNS)).collect();
            assert_eq!(counts, expected, "the turns of {word} on host {host}");
        }
    }
}
