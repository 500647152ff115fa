#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const UDP: u8 = 17;
const ICMP: u8 = 1;

fn table<const F: usize>() -> Box<FlowTable<F>> {
    let mut table = Box::new(FlowTable::new());
    table.configure(HashKey(1, 2), Lifetimes::default());
    table
}

fn bytes(kind: u8, n: u16) -> [u8; 16] {
    let mut bytes = [kind; 16];
    bytes[14..].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// The flow of local port `port` through service IP `dialled` to instance `remote`.
fn flow(protocol: u8, port: u16, dialled: u16, remote: u16) -> Flow {
    Flow {
        local: bytes(1, 0),
        dialled: bytes(2, dialled),
        local_instance: bytes(3, 0),
        remote: bytes(4, remote),
        remote_instance: bytes(5, remote),
        local_port: port,
        remote_port: 80,
        protocol,
        ..Flow::EMPTY
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

fn insert<const F: usize>(
    table: &mut FlowTable<F>,
    now: Instant,
    flow: Flow,
) -> (Result<usize, InsertError>, Vec<(u16, Ended)>) {
    let mut ended = Vec::new();
    let flow = Flow { last_seen: now, ..flow };
    let result = table.insert(flow, now, |f, how| ended.push((f.local_port, how)));
    (result, ended)
}

/// Whether a flow of this protocol and stage is alive so long after its last packet.
fn is_alive_after(protocol: u8, stage: Stage, silence: Duration) -> bool {
    let table = table::<1>();
    let flow = Flow { stage, last_seen: at(1_000), ..flow(protocol, 1, 1, 1) };
    !table.is_dead(&flow, at(1_000).saturating_add(silence))
}

#[test]
fn flows_live_by_protocol_and_stage() {
    let cases = [
        (TCP, Stage::Opening, 30),
        (TCP, Stage::Established, 2 * 3600 + 4 * 60),
        (TCP, Stage::Closing, 10),
        (UDP, Stage::Opening, 30),
        (UDP, Stage::Established, 5 * 60),
        (ICMP, Stage::Opening, 60),
        (ICMP, Stage::Established, 60),
        (58, Stage::Opening, 60),
        (58, Stage::Established, 60),
    ];
    for (protocol, stage, seconds) in cases {
        let limit = Duration::from_secs(seconds);
        let just_before = limit - Duration::from_millis(1);
        assert!(is_alive_after(protocol, stage, just_before), "{protocol} {stage:?}");
        assert!(!is_alive_after(protocol, stage, limit), "{protocol} {stage:?}");
    }
}

#[test]
fn a_flow_is_found_from_both_directions_until_it_ends() {
    let mut table = table::<4>();
    let (row, _) = insert(&mut table, at(0), flow(TCP, 1, 2, 3));
    let row = row.unwrap();
    let flow = *table.get(row).unwrap();
    assert_eq!(table.find_egress(&flow.egress_key()), Some(row));
    assert_eq!(table.find_ingress(&flow.ingress_key()), Some(row));
    assert_eq!(table.find_egress(&flow.ingress_key()), None, "a key is of one direction");
    assert_eq!(table.find_ingress(&flow.egress_key()), None);
    let other_protocol = FlowKey { protocol: UDP, ..flow.egress_key() };
    assert_eq!(table.find_egress(&other_protocol), None);
    table.remove(row).unwrap();
    assert_eq!(table.find_egress(&flow.egress_key()), None);
    assert_eq!(table.find_ingress(&flow.ingress_key()), None);
    assert!(table.is_empty() && table.remove(row).is_none());
}

#[test]
fn a_live_flow_keeps_its_keys_and_a_dead_one_gives_them_up() {
    let mut table = table::<4>();
    insert(&mut table, at(0), flow(UDP, 1, 1, 7)).0.unwrap();
    // Through another service IP to the same instance: its replies would look the same.
    let twin = flow(UDP, 1, 2, 7);
    assert_eq!(insert(&mut table, at(29), twin), (Err(InsertError::Collision), vec![]));
    let (result, ended) = insert(&mut table, at(30), twin);
    assert!(result.is_ok());
    assert_eq!(ended, [(1, Ended::Expired)]);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_full_table_makes_room_with_the_dead_then_with_what_has_least_time_left_and_never_with_established_tcp() {
    let mut table = table::<4>();
    let established = Stage::Established;
    for (port, protocol, stage, seen) in
        [(1, TCP, established, 0), (2, UDP, established, 1), (3, TCP, Stage::Opening, 20), (4, UDP, Stage::Opening, 0)]
    {
        let flow = Flow { stage, ..flow(protocol, port, 1, port) };
        insert(&mut table, at(seen), flow).0.unwrap();
    }
    let tcp = |port| Flow { stage: established, ..flow(TCP, port, 1, port) };
    let mut next = |now, port| insert(&mut table, at(now), tcp(port)).1;
    assert_eq!(next(31, 5), [(4, Ended::Expired)], "dead at 30");
    assert_eq!(next(31, 6), [(3, Ended::Evicted)], "19 s left");
    assert_eq!(next(31, 7), [(2, Ended::Evicted)], "270 s left");
    assert_eq!(insert(&mut table, at(31), tcp(8)), (Err(InsertError::Full), vec![]));
    assert_eq!(table.len(), 4);
    for port in [1, 5, 6, 7] {
        assert!(table.find_egress(&tcp(port).egress_key()).is_some(), "{port} is still there");
    }
    let (result, ended) = insert(&mut table, at(7440), tcp(8));
    assert!(result.is_ok());
    assert_eq!(ended, [(1, Ended::Expired)], "two hours and four minutes are over");
}

#[test]
fn expiry_looks_at_no_more_rows_than_it_may_and_goes_on_where_it_stopped() {
    let mut table = table::<64>();
    for port in 0..40 {
        insert(&mut table, at(0), flow(UDP, port, 1, port)).0.unwrap();
    }
    let mut ended = 0;
    table.expire(at(29), 64, |_, _| ended += 1);
    assert_eq!(ended, 0);
    for round in 1..=4 {
        table.expire(at(30), 10, |_, how| {
            assert_eq!(how, Ended::Expired);
            ended += 1;
        });
        assert_eq!(ended, 10 * round);
    }
    assert!(table.is_empty());
    table.expire(at(30), 10, |_, _| panic!("there is nothing to end"));
}

#[test]
fn a_window_of_established_tcp_does_not_keep_the_table_full_for_ever() {
    let mut table = table::<64>();
    for port in 0..63 {
        let flow = Flow { stage: Stage::Established, ..flow(TCP, port, 1, port) };
        insert(&mut table, at(0), flow).0.unwrap();
    }
    insert(&mut table, at(0), flow(UDP, 63, 1, 63)).0.unwrap();
    let tries = 64 / EVICTION_WINDOW;
    let made_room = (0..tries).any(|_| insert(&mut table, at(1), flow(UDP, 99, 1, 99)).0.is_ok());
    assert!(made_room, "each try looks at the next window");
}

const ROWS: usize = 8;

#[derive(Clone, Debug)]
enum Op {
    Insert { protocol: u8, port: u16, dialled: u16, remote: u16, stage: Stage },
    Remove(u16),
    Touch(u16),
    Expire(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let stage = prop_oneof![Just(Stage::Opening), Just(Stage::Established), Just(Stage::Closing)];
    let protocol = prop_oneof![Just(TCP), Just(UDP), Just(ICMP)];
    prop_oneof![
        6 => (protocol, 0..12u16, 0..2u16, 0..3u16, stage).prop_map(|(protocol, port, dialled, remote, stage)| {
            Op::Insert { protocol, port, dialled, remote, stage }
        }),
        1 => any::<u16>().prop_map(Op::Remove),
        2 => any::<u16>().prop_map(Op::Touch),
        1 => (0..12usize).prop_map(Op::Expire),
        2 => prop_oneof![0..40u64, Just(300), Just(7440)].prop_map(Op::Wait),
    ]
}

/// The flows by egress key, and when each is over.
type Model = HashMap<FlowKey, (Flow, Instant)>;

fn check(table: &FlowTable<ROWS>, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.len(), model.len());
    let keys: BTreeMap<_, _> = (0..12u16)
        .flat_map(|port| (0..2).flat_map(move |dialled| (0..3).map(move |remote| (port, dialled, remote))))
        .flat_map(|(p, d, r)| [TCP, UDP, ICMP].map(|protocol| ((protocol, p, d, r), flow(protocol, p, d, r))))
        .collect();
    for flow in keys.values() {
        let expected = model.get(&flow.egress_key()).map(|(f, _)| f.egress_key());
        let found = table.find_egress(&flow.egress_key()).and_then(|row| table.get(row));
        prop_assert_eq!(found.map(Flow::egress_key), expected);
        let expected = model.values().find(|(f, _)| f.ingress_key() == flow.ingress_key());
        let found = table.find_ingress(&flow.ingress_key()).and_then(|row| table.get(row));
        prop_assert_eq!(found.map(Flow::egress_key), expected.map(|(f, _)| f.egress_key()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_holds_what_a_map_holds_and_loses_nothing_while_there_is_room(
        ops in prop::collection::vec(op(), 1..80),
        key in any::<(u64, u64)>(),
    ) {
        let lifetimes = Lifetimes::default();
        let mut table = Box::new(FlowTable::<ROWS>::new());
        table.configure(HashKey(key.0, key.1), lifetimes);
        let mut model = Model::new();
        let mut now = Instant::ZERO;
        for op in ops {
            match op {
                Op::Insert { protocol, port, dialled, remote, stage } => {
                    let new = Flow { stage, last_seen: now, ..flow(protocol, port, dialled, remote) };
                    let before = model.clone();
                    let mut ended = Vec::new();
                    let result = table.insert(new, now, |f, how| ended.push((*f, how)));
                    let rivals: Vec<_> = before.values()
                        .filter(|(f, _)| f.egress_key() == new.egress_key() || f.ingress_key() == new.ingress_key())
                        .collect();
                    let collides = rivals.iter().any(|(_, over)| now < *over);
                    prop_assert_eq!(matches!(result, Err(InsertError::Collision)), collides);
                    for (f, how) in &ended {
                        let (was, over) = model.remove(&f.egress_key()).unwrap();
                        prop_assert_eq!(*how == Ended::Expired, now >= over);
                        if *how == Ended::Evicted {
                            prop_assert_eq!(before.len(), ROWS, "there was room");
                            prop_assert!(before.values().all(|(_, over)| now < *over), "a dead one was there");
                            prop_assert!(was.protocol != TCP || was.stage != Stage::Established);
                            let deader = before.values().any(|(f, o)| {
                                *o < over && (f.protocol != TCP || f.stage != Stage::Established)
                            });
                            prop_assert!(!deader);
                        }
                    }
                    match result {
                        Ok(_) => {
                            let over = now.saturating_add(lifetimes.of(protocol, stage));
                            prop_assert!(model.insert(new.egress_key(), (new, over)).is_none());
                        }
                        Err(InsertError::Collision) => prop_assert!(ended.iter().all(|(_, how)| *how == Ended::Expired)),
                        Err(InsertError::Full) => {
                            prop_assert!(ended.is_empty());
                            prop_assert_eq!(before.len(), ROWS);
                            let cannot_go = |(f, over): &(Flow, Instant)| {
                                now < *over && f.protocol == TCP && f.stage == Stage::Established
                            };
                            prop_assert!(before.values().all(cannot_go));
                        }
                    }
                }
                Op::Remove(n) | Op::Touch(n) if !model.is_empty() => {
                    let mut keys: Vec<_> = model.keys().copied().collect();
                    keys.sort_by_key(|k| (k.src_port, k.dst[15], k.protocol));
                    let key = keys[usize::from(n) % keys.len()];
                    let row = table.find_egress(&key).unwrap();
                    if matches!(op, Op::Remove(_)) {
                        prop_assert_eq!(table.remove(row).map(|f| f.egress_key()), Some(key));
                        model.remove(&key);
                    } else {
                        let flow = table.get_mut(row).unwrap();
                        flow.last_seen = now;
                        let over = now.saturating_add(lifetimes.of(flow.protocol, flow.stage));
                        model.insert(key, (*flow, over));
                    }
                }
                Op::Remove(_) | Op::Touch(_) => {}
                Op::Expire(budget) => {
                    let mut ended = Vec::new();
                    table.expire(now, budget, |f, _| ended.push(f.egress_key()));
                    prop_assert!(ended.len() <= budget);
                    for key in ended {
                        let (_, over) = model.remove(&key).unwrap();
                        prop_assert!(now >= over);
                    }
                    if budget >= ROWS {
                        prop_assert!(model.values().all(|(_, over)| now < *over));
                    }
                }
                Op::Wait(seconds) => now = now.saturating_add(Duration::from_secs(seconds)),
            }
            check(&table, &model)?;
        }
    }
}
