//! Instances that run here: attached, taken out, resumed, lost.

use super::harness::*;
use crate::addr::Family;
use crate::packet::samples::Kind;
use crate::router::Attachment;
use crate::stats::DropReason;
use crate::sync::client::Outcome;
use crate::sync::message::{Adjust, Adjustment, AttachKind, Message, PageKind, Refusal, TablePage};
use crate::table::samples::{namespace_ip, service_ip};

const NAME: &str = "app.ns.svc.ns";

#[test]
fn an_attachment_is_asked_for_until_it_is_answered_and_then_followed() {
    let mut world = World::ready();
    let request = world.attach(NAME, 1).unwrap();
    world.run(1_000);
    let asked = world.messages();
    // At 0, 200 and 600 ms.
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|m| *m == asked[0]));
    let Message::Attach(attach) = &asked[0] else {
        panic!("{asked:?}");
    };
    assert_eq!(attach.kind, AttachKind::New(NAME.parse().unwrap()));
    assert!(!world.is_attached(1) && world.events.is_empty());
    world.attached(attach, attachment(1).id);
    assert_eq!(world.events, [(Some(request), Outcome::Attached(attachment(1)))]);
    assert!(world.is_attached(1));
    world.resolve_of(subject_of(CLIENTS, 1));
    world.attached(attach, attachment(1).id);
    assert_eq!(world.events.len(), 1, "the answer came twice");
    world.run(5_000);
    assert!(!world.messages().iter().any(|m| matches!(m, Message::Attach(_))));
}

#[test]
fn a_container_can_dial_as_soon_as_it_is_attached() {
    let mut world = World::start(profile(), &[MANAGER]);
    world.welcome(1);
    world.attach(NAME, 0).unwrap();
    world.dial(&dial(Family::V4, 1, DIALLED));
    assert_eq!(world.drops(DropReason::UnknownSource), 1);
    let attach = world.attach_request();
    world.attached(&attach, attachment(0).id);
    world.dial(&dial(Family::V4, 1, DIALLED));
    let question = world.resolve();
    assert_eq!(question.asker, Some(attachment(0).id));
    // The instance that is picked is on this node too, and nothing is known of the container's own row yet.
    let id = instance_id(SERVERS, 4);
    let local = Attachment {
        id,
        instance_ip: crate::table::samples::instance_ip(SERVERS, 4),
        namespace_ip: namespace_ip(A, SERVERS * 64 + 4),
    };
    world.node.resume(world.now, local).unwrap();
    world.manager(Message::Table(table(question.stream, SERVERS, &[DIALLED], &[(4, A)])));
    assert_eq!((world.delivered.len(), world.node.waiting()), (1, 0));
    assert_eq!(world.drops(DropReason::PendingExpired), 0);
}

#[test]
fn a_refusal_is_an_outcome() {
    let mut world = World::ready();
    let request = world.attach(NAME, 1).unwrap();
    let attach = world.attach_request();
    let refusal = Refusal::NoSuchService;
    world.manager(Message::Refused { request: attach.request, refusal });
    assert_eq!(world.events, [(Some(request), Outcome::Refused(refusal))]);
    assert!(!world.is_attached(1));
    world.said.clear();
    world.run(2_000);
    assert_eq!(world.messages(), [], "it is final");
    world.manager(Message::Refused { request: 77, refusal });
    assert_eq!(world.events.len(), 1);
}

#[test]
fn no_more_is_asked_for_than_there_is_room_for() {
    let mut world = World::ready();
    let free = ATTACHMENTS as u32 - 1;
    for number in 1..=free {
        world.attach(NAME, number).unwrap();
    }
    assert!(world.attach(NAME, 99).is_none(), "all are under way");
    let requests: Vec<_> = world.messages();
    for (message, number) in requests.iter().zip(1..) {
        let Message::Attach(attach) = message else {
            panic!("{message:?}");
        };
        world.attached(attach, attachment(number).id);
    }
    assert_eq!(world.events.len(), free as usize);
    assert!(world.attach(NAME, 99).is_none(), "all are in");
    let one_more = world.node.resume(world.now, attachment(99));
    assert!(one_more.is_err());
    world.node.detach(world.now, attachment(1).id).unwrap();
    assert!(world.attach(NAME, 99).is_some());
}

#[test]
fn an_answer_without_room_is_told_as_what_it_is() {
    let mut world = World::ready();
    let request = world.attach(NAME, 1).unwrap();
    let attach = world.attach_request();
    for number in 2..=ATTACHMENTS as u32 {
        world.node.resume(world.now, attachment(number)).unwrap();
    }
    world.attached(&attach, attachment(1).id);
    assert_eq!(world.events, [(Some(request), Outcome::Refused(Refusal::Full))]);
    assert_eq!(world.node.client().counters.table_full, 1);
}

#[test]
fn a_detached_instance_is_out_at_once_and_the_manager_is_told_until_it_knows() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    world.welcoming = Some(1);
    assert_eq!(world.node.router().flows.len(), 1);
    let request = world.node.detach(world.now, attachment(0).id).unwrap();
    assert!(!world.is_attached(0));
    world.settle();
    assert!(world.node.router().flows.is_empty());
    world.dial(&dial(Family::V4, 1, DIALLED));
    assert_eq!(world.drops(DropReason::UnknownSource), 1);
    world.run(500);
    let told = world.messages();
    let [Message::Detach(detach), again] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(detach.instance, attachment(0).id);
    assert_eq!(*again, Message::Detach(*detach));
    world.manager(Message::Detached { request: detach.request });
    assert_eq!(world.events, [(Some(request), Outcome::Detached(attachment(0).id))]);
    // Its own stream ends as any other.
    world.run(12_000);
    assert!(world.messages().iter().any(|m| matches!(m, Message::Forget { .. })));
}

#[test]
fn a_resumed_instance_is_in_at_once_and_lost_when_the_manager_says_so() {
    let mut world = World::start(profile(), &[MANAGER]);
    world.node.resume(world.now, attachment(0)).unwrap();
    world.node.resume(world.now, attachment(1)).unwrap();
    assert!(world.is_attached(0));
    world.welcome(1);
    let requests: Vec<_> = world
        .messages()
        .into_iter()
        .filter_map(|m| match m {
            Message::Attach(attach) => Some(attach),
            _ => None,
        })
        .collect();
    assert_eq!(requests.len(), 2, "each is said once");
    for attach in requests {
        let AttachKind::Resume(id) = attach.kind else {
            panic!("{attach:?}");
        };
        if id.number == 0 {
            world.attached(&attach, id);
        } else {
            let refusal = Refusal::Moved;
            world.manager(Message::Refused { request: attach.request, refusal });
        }
    }
    let [(_, outcome)] = world.events[..] else {
        panic!("{:?}", world.events);
    };
    assert_eq!(outcome, Outcome::Lost(attachment(1).id, Refusal::Moved));
    assert!(world.is_attached(0) && !world.is_attached(1));
}

#[test]
fn a_request_that_is_given_up_has_no_outcome() {
    let mut world = World::ready();
    let request = world.attach(NAME, 1).unwrap();
    let attach = world.attach_request();
    world.node.cancel(request);
    world.attached(&attach, attachment(1).id);
    assert_eq!(world.events, []);
    assert!(!world.is_attached(1));
}

/// The page that tells that client 0 is now somewhere else, or nowhere.
fn loss(stream: u32, sequence: u32, how: &str) -> TablePage {
    let page = TablePage { sequence, header: None, ..single(stream, CLIENTS, 0, C) };
    let without = TablePage { nodes: Default::default(), records: Default::default(), ..page.clone() };
    match how {
        "moved" => page,
        "patched" => TablePage { kind: PageKind::Patch, ..page },
        "gone" => TablePage { kind: PageKind::Gone, ..without },
        "removed" => TablePage { kind: PageKind::Patch, removed: [0].into_iter().collect(), ..without },
        "replaced" => without,
        other => panic!("{other}"),
    }
}

#[test]
fn an_instance_that_moves_away_or_is_withdrawn_is_lost() {
    for how in ["moved", "patched", "gone", "removed", "replaced"] {
        let mut world = World::start(profile(), &[MANAGER]);
        world.node.resume(world.now, attachment(0)).unwrap();
        world.welcome(1);
        let attach = world.attach_request();
        world.attached(&attach, attachment(0).id);
        let stream = world.resolve_of(subject_of(CLIENTS, 0)).stream;
        world.manager(Message::Table(single(stream, CLIENTS, 0, A)));
        assert!(world.is_attached(0));
        world.said.clear();
        world.manager(Message::Table(loss(stream, 3, how)));
        assert!(world.is_attached(0), "{how}: a page too early");
        world.manager(Message::Table(loss(stream + 7, 1, how)));
        assert!(world.is_attached(0), "{how}: not of the stream that is followed");
        world.manager(Message::Table(loss(stream, 2, how)));
        assert_eq!(world.events, [(None, Outcome::Lost(attachment(0).id, Refusal::Moved))], "{how}");
        assert!(!world.is_attached(0));
        world.manager(Message::Table(loss(stream, 2, how)));
        assert_eq!(world.events.len(), 1, "{how}: once");
    }
}

#[test]
fn an_instance_that_comes_back_is_not_lost_to_what_was_said_before() {
    let mut world = World::ready();
    let take = AttachKind::Take(NAME.parse().unwrap(), 0);
    let old = world.node.client().interests();
    // Lost, and taken back.
    world.run(3_100);
    world.welcome(2);
    let attach = world.attach_request();
    world.attached(&attach, attachment(0).id);
    let first = world.resolve_of(subject_of(CLIENTS, 0)).stream;
    world.manager(Message::Table(single(first, CLIENTS, 0, A)));
    world.manager(Message::Table(loss(first, 2, "moved")));
    assert!(!world.is_attached(0));
    world.node.attach(world.now, take, attachment(0).namespace_ip).unwrap();
    world.settle();
    let attach = world.attach_request();
    world.attached(&attach, attachment(0).id);
    assert!(world.is_attached(0));
    let second = world.resolve_of(subject_of(CLIENTS, 0)).stream;
    assert_ne!(first, second, "what is on its way under the old number is not about this");
    world.events.clear();
    world.manager(Message::Table(loss(first, 2, "moved")));
    world.manager(Message::Table(loss(first, 3, "moved")));
    assert_eq!(world.events, []);
    assert!(world.is_attached(0));
    world.manager(Message::Table(single(second, CLIENTS, 0, A)));
    assert_eq!(world.node.client().interests(), old);
    world.run(60_000);
    assert_eq!(world.node.client().interests(), old, "it is followed as long as it is here");
}

#[test]
fn an_instance_that_is_taken_by_another_namespace_of_this_node_leaves_the_first() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    let tcp = from_client(Family::V4, Kind::Tcp, 5, service_ip(DIALLED));
    world.dial(&tcp);
    assert_eq!(world.node.router().flows.len(), 2);
    let take = AttachKind::Take(NAME.parse().unwrap(), 0);
    let elsewhere = namespace_ip(A, 33);
    world.node.attach(world.now, take, elsewhere).unwrap();
    world.settle();
    let attach = world.attach_request();
    world.attached(&attach, attachment(0).id);
    let all: Vec<_> = world.node.router().attachments.iter().collect();
    assert_eq!(all, [&Attachment { namespace_ip: elsewhere, ..attachment(0) }]);
    assert!(world.node.router().flows.is_empty(), "those were the first one's");
    world.dial(&tcp);
    assert_eq!(world.drops(DropReason::UnknownSource), 1);
}

fn weight(weight: u16) -> Adjustment {
    Adjustment { weight: Some(weight), ..Adjustment::default() }
}

/// The adjustments that were said since the last look.
fn adjusts(world: &mut World) -> Vec<Adjust> {
    let adjust = |message| match message {
        Message::Adjust(adjust) => Some(adjust),
        _ => None,
    };
    world.messages().into_iter().filter_map(adjust).collect()
}

#[test]
fn an_adjustment_is_repeated_until_it_is_answered_and_the_next_one_waits_for_it() {
    let mut world = World::ready();
    let here = attachment(0).id;
    let requests = [weight(5), weight(6)].map(|change| world.node.adjust(world.now, here, change).unwrap());
    let of_another = world.node.adjust(world.now, attachment(1).id, weight(7)).unwrap();
    world.settle();
    let said = adjusts(&mut world);
    let [first, other] = said[..] else { panic!("{said:?}") };
    assert_eq!((first.instance, first.change, first.turn.epoch), (here, weight(5), profile().epoch));
    assert_eq!((other.instance, other.change), (attachment(1).id, weight(7)), "those of others do not wait");
    world.manager(Message::Refused { request: other.turn.request, refusal: Refusal::Moved });
    assert_eq!(world.events, [(Some(of_another), Outcome::Refused(Refusal::Moved))]);
    world.events.clear();
    world.run(700);
    assert_eq!(adjusts(&mut world), [first; 2], "at 200 and 600 ms");
    world.manager(Message::Adjusted { request: first.turn.request });
    assert_eq!(world.events, [(Some(requests[0]), Outcome::Adjusted(here))]);
    let [second] = adjusts(&mut world)[..] else { panic!("the next one is said at once") };
    assert_eq!(second.change, weight(6));
    assert!(second.turn.is_after(first.turn));
    // A doubled answer is not that of the next one.
    world.manager(Message::Adjusted { request: first.turn.request });
    assert_eq!(world.events.len(), 1);
    world.manager(Message::Adjusted { request: second.turn.request });
    assert_eq!(world.events[1..], [(Some(requests[1]), Outcome::Adjusted(here))]);
    world.run(5_000);
    assert_eq!(adjusts(&mut world), []);
}

#[test]
fn an_adjustment_that_is_given_up_does_not_hold_up_the_next_one() {
    let mut world = World::ready();
    let here = attachment(0).id;
    let given_up = world.node.adjust(world.now, here, weight(5)).unwrap();
    let next = world.node.adjust(world.now, here, weight(6)).unwrap();
    world.settle();
    let [first] = adjusts(&mut world)[..] else { panic!("one at a time") };
    world.node.cancel(given_up);
    world.settle();
    let [second] = adjusts(&mut world)[..] else { panic!("it is said at once") };
    world.manager(Message::Adjusted { request: first.turn.request });
    assert_eq!(world.events, []);
    world.manager(Message::Adjusted { request: second.turn.request });
    assert_eq!(world.events, [(Some(next), Outcome::Adjusted(here))]);
}

#[test]
fn an_instance_can_be_attached_as_it_is_to_be_picked() {
    let mut world = World::ready();
    let kind = AttachKind::New(NAME.parse().unwrap());
    let request = world.node.attach_as(world.now, kind, attachment(1).namespace_ip, weight(9)).unwrap();
    world.settle();
    let said = world.messages();
    let [Message::AttachAs(attach, settings)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*settings, weight(9));
    world.attached(attach, attachment(1).id);
    assert_eq!(world.events, [(Some(request), Outcome::Attached(attachment(1)))]);
}
