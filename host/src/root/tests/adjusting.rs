//! How instances are picked: what nodes say of it, what of it lasts, and files from before it could be said.

use std::path::Path;

use acorn_core::sync::directory::Change;
use acorn_core::sync::message::InstanceRecord;
use redb::{Builder, ReadableTable, TableDefinition};

use super::super::store::{Redb, Store, read_image};
use super::*;

const NOTHING: Adjustment = Adjustment { weight: None, priority: None, load: None, draining: None };

/// A root with a node that runs instance 0 of service `s`.
fn furnished() -> (Rig, NodeId, InstanceId) {
    let mut rig = Rig::new();
    let node = rig.node(1);
    rig.create("s").unwrap();
    let instance = rig.attach(node, new("s"), 1).unwrap().instance;
    (rig, node, instance)
}

/// What tables say of the instance.
fn record(rig: &Rig, id: InstanceId) -> InstanceRecord {
    match rig.root.next_change(id.service, id.number, 0) {
        Some(Change::Present(record)) if record.number == id.number => record,
        other => panic!("{other:?}"),
    }
}

/// Weight, priority, load and draining.
fn settings(rig: &Rig, id: InstanceId) -> (u16, u16, u16, bool) {
    let record = record(rig, id);
    let info = rig.root.services().into_iter().find(|info| info.id == id.service).unwrap();
    let info = info.instances.into_iter().find(|info| info.number == id.number).unwrap();
    let said = (info.weight, info.priority, info.load, info.draining);
    assert_eq!(said, (record.weight, record.priority, record.load, record.draining), "people are told the same");
    said
}

#[test]
fn all_but_the_load_lasts_over_restarts_and_repeated_attachments() {
    let (mut rig, node, id) = furnished();
    assert_eq!(settings(&rig, id), (1, 0, 0, false));
    let change = Adjustment { weight: Some(3), priority: Some(2), load: Some(500), draining: Some(true) };
    rig.adjust(node, 8, id, change).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 500, true));
    rig.attach(node, AttachKind::Resume(id), 1).unwrap();
    rig.attach(node, new("s"), 1).unwrap();
    rig.attach_as(node, take("s", 0), 9, Adjustment { weight: Some(9), ..NOTHING }).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 500, true), "they say nothing of it");
    rig.hello(1, &hello(2)).unwrap();
    rig.attach(node, AttachKind::Resume(id), 9).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 500, true));
    rig.restart();
    assert_eq!(settings(&rig, id), (3, 2, 0, true));
    rig.attach(node, AttachKind::Resume(id), 9).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 0, true));
}

#[test]
fn each_thing_is_set_by_itself_and_only_news_changes_the_table() {
    let (mut rig, node, id) = furnished();
    for (request, change, then) in [
        (8, Adjustment { weight: Some(3), ..NOTHING }, (3, 0, 0, false)),
        (9, Adjustment { priority: Some(4), ..NOTHING }, (3, 4, 0, false)),
        (10, Adjustment { load: Some(70), ..NOTHING }, (3, 4, 70, false)),
        (11, Adjustment { draining: Some(true), ..NOTHING }, (3, 4, 70, true)),
        (12, Adjustment { draining: Some(false), load: Some(0), ..NOTHING }, (3, 4, 0, false)),
    ] {
        let since = rig.root.version(id.service).unwrap();
        while rig.root.poll_changed().is_some() {}
        rig.adjust(node, request, id, change).unwrap();
        assert_eq!(settings(&rig, id), then);
        assert!(matches!(rig.root.next_change(id.service, 0, since), Some(Change::Present(_))));
        assert_eq!(rig.root.poll_changed(), Some(id.service));
        let version = rig.root.version(id.service);
        rig.adjust(node, request, id, change).unwrap();
        assert_eq!(rig.root.version(id.service), version, "a repeat is no news");
    }
    let version = rig.root.version(id.service);
    rig.adjust(node, 13, id, Adjustment { load: Some(0), ..NOTHING }).unwrap();
    assert_eq!(rig.root.version(id.service), version, "nor is the load that is known");
}

#[test]
fn a_report_of_load_costs_no_write() {
    let (mut rig, node, id) = furnished();
    let bytes = rig.disk.bytes();
    for load in 1..100 {
        rig.adjust(node, 8 + u32::from(load), id, Adjustment { load: Some(load), ..NOTHING }).unwrap();
    }
    assert_eq!(settings(&rig, id).2, 99);
    assert!(rig.disk.bytes() == bytes);
}

#[test]
fn what_comes_late_undoes_nothing_though_the_root_restarts_meanwhile() {
    let (mut rig, node, id) = furnished();
    let weight = |weight| Adjustment { weight: Some(weight), ..NOTHING };
    rig.adjust(node, 10, id, weight(4)).unwrap();
    rig.adjust(node, 9, id, weight(3)).unwrap();
    assert_eq!(settings(&rig, id).0, 4);
    // Said again as it was, which is news all the same: what was said in between is late from then on.
    rig.adjust(node, 12, id, weight(4)).unwrap();
    rig.restart();
    rig.adjust(node, 11, id, weight(3)).unwrap();
    assert_eq!(settings(&rig, id).0, 4);
    rig.adjust(node, 13, id, weight(5)).unwrap();
    assert_eq!(settings(&rig, id).0, 5);
    // The node starts again: its numbers begin anew.
    rig.hello(1, &hello(2)).unwrap();
    rig.attach(node, AttachKind::Resume(id), 1).unwrap();
    let again = Adjust { turn: Turn { epoch: 2, request: 1 }, instance: id, change: weight(6) };
    rig.root.adjust(rig.now, node, &again).unwrap();
    assert_eq!(settings(&rig, id).0, 6);
}

#[test]
fn an_instance_of_the_same_number_is_not_touched_by_what_was_said_of_the_one_before() {
    let (mut rig, node, id) = furnished();
    rig.adjust(node, 6, id, Adjustment { weight: Some(3), draining: Some(true), ..NOTHING }).unwrap();
    rig.detach(node, id);
    let wanted = Adjustment { priority: Some(2), load: Some(7), ..NOTHING };
    assert_eq!(rig.attach_as(node, new("s"), 2, wanted).unwrap().instance, id);
    assert_eq!(settings(&rig, id), (1, 2, 7, false), "it is another one");
    // The rig attaches with request 7.
    rig.adjust(node, 6, id, Adjustment { draining: Some(true), ..NOTHING }).unwrap();
    assert_eq!(settings(&rig, id), (1, 2, 7, false));
    rig.adjust(node, 8, id, Adjustment { draining: Some(true), ..NOTHING }).unwrap();
    assert_eq!(settings(&rig, id), (1, 2, 7, true));
}

#[test]
fn an_instance_that_moves_keeps_its_settings_but_not_its_load() {
    let (mut rig, a, id) = furnished();
    let b = rig.node(2);
    let change = Adjustment { weight: Some(3), priority: Some(2), load: Some(500), draining: Some(true) };
    rig.adjust(a, 80, id, change).unwrap();
    rig.attach_as(b, take("s", 0), 1, Adjustment { draining: Some(false), ..NOTHING }).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 0, false));
    assert_eq!(rig.adjust(a, 81, id, change), Err(Refusal::Moved.into()));
    // The numbers of the other node begin elsewhere.
    rig.adjust(b, 8, id, Adjustment { load: Some(40), ..NOTHING }).unwrap();
    assert_eq!(settings(&rig, id), (3, 2, 40, false));
}

#[test]
fn what_does_not_run_on_the_node_is_not_its_to_adjust() {
    let (mut rig, node, id) = furnished();
    let missing = InstanceId { number: 9, ..id };
    let change = Adjustment { weight: Some(3), ..NOTHING };
    assert_eq!(rig.adjust(node, 8, missing, change), Err(Refusal::NoSuchInstance.into()));
    assert_eq!(rig.adjust(NodeId(99), 8, id, change), Err(Refusal::NotANode.into()));
    rig.detach(node, id);
    assert_eq!(rig.adjust(node, 9, id, change), Err(Refusal::NoSuchInstance.into()));
}

#[test]
fn an_adjustment_does_not_make_an_instance_look_unsaid() {
    let (mut rig, node, id) = furnished();
    rig.restart();
    // The two disagree, and the node says again what runs there, then how it is to be picked.
    rig.hello(1, &Hello { instances: Digest::default(), ..hello(1) }).unwrap();
    rig.pass(1);
    rig.attach(node, AttachKind::Resume(id), 1).unwrap();
    rig.adjust(node, 8, id, Adjustment { weight: Some(2), ..NOTHING }).unwrap();
    rig.root.settle(rig.now, node, 1);
    assert_eq!(settings(&rig, id).0, 2);
}

const META: TableDefinition<'static, &str, u32> = TableDefinition::new("meta");
const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");

/// Instance 0 of service 1, at 10.30.0.2 and fdff::1, in place 10.18.0.1 and fc00::1 of node 1 in epoch 1, as format 1 had it.
fn instance_of_format_1() -> Vec<u8> {
    let v6 = |first: u16, last: u16| Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, last).octets();
    [&[3, 1, 0][..], &[10, 30, 0, 2], &v6(0xfdff, 1), &[10, 18, 0, 1], &v6(0xfc00, 1), &[1, 1]].concat()
}

/// The disk as a program of format 1 would have written it.
fn in_format_1(rig: &Rig) -> Disk {
    rig.disk.die();
    let disk = rig.disk.copy();
    let database = Builder::new().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", 1).unwrap();
    let (key, old) = ([3, 0, 0, 0, 1, 0, 0, 0, 0], instance_of_format_1());
    {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let new = rows.get(&key[..]).unwrap().unwrap().value().to_vec();
        assert!(new.len() > old.len() && new.starts_with(&old), "{new:?}");
        rows.insert(&key[..], &old[..]).unwrap();
        // Nor did a service say which addresses are kept for its instances.
        let service = [2, 0, 0, 0, 1];
        let new = rows.get(&service[..]).unwrap().unwrap().value().to_vec();
        let (&nothing_kept, old) = new.split_last().unwrap();
        assert_eq!(nothing_kept, 0);
        rows.insert(&service[..], old).unwrap();
    }
    transaction.commit().unwrap();
    disk
}

#[test]
fn a_file_from_before_loads_and_is_brought_to_the_present_format() {
    let (mut rig, node, id) = furnished();
    let before = restart::portrait(&rig);
    let old = in_format_1(&rig);
    let open = |disk: &Disk| disk.open(rig.plan, rig.limits, rig.now, UNIX).unwrap();
    // Whenever it dies while it does so, the next start finds the one or the other.
    for writes in 0.. {
        let dying = old.copy();
        let rows = read_image(&dying.bytes()).unwrap();
        let mut store = Redb::on(dying.clone(), Path::new("a disk in memory"));
        dying.die_after(writes);
        let upgraded = store.adopt().is_ok();
        for bytes in [dying.bytes(), dying.synced()] {
            assert_eq!(read_image(&bytes).unwrap(), rows);
            open(&Disk::of(bytes));
        }
        if upgraded && !dying.is_dead() {
            break;
        }
    }
    rig.root = open(&old);
    rig.disk = old;
    assert_eq!(settings(&rig, id), (1, 0, 0, false));
    // All but the turn of the attachment, of which format 1 knew nothing.
    let after = restart::portrait(&rig);
    assert_eq!(after.replace("Turn { epoch: 0, request: 0 }", "Turn { epoch: 1, request: 7 }"), before);
    rig.adjust(node, 1, id, Adjustment { weight: Some(5), ..NOTHING }).unwrap();
    rig.restart();
    assert_eq!(settings(&rig, id), (5, 0, 0, false));
}
