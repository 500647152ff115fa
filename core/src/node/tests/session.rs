//! `Hello`, `Welcome`, and what a node does when its manager is silent, restarts or is no manager.

use proptest::prelude::*;

use super::harness::*;
use crate::addr::Family;
use crate::ids::NodeKey;
use crate::stats::DropReason;
use crate::sync::client::Profile;
use crate::sync::message::{AttachKind, Message, Refusal, ResolveKey, Subject, Welcome};
use crate::time::Instant;

fn hellos(world: &World) -> Vec<(u32, u32)> {
    let hellos = world.said.iter().filter_map(|(to, m)| match m {
        Message::Hello(hello) => Some((*to, hello.request)),
        _ => None,
    });
    hellos.collect()
}

#[test]
fn a_node_says_who_it_is_until_it_is_welcome_and_again_before_its_lease_ends() {
    let mut world = World::start(profile(), &[MANAGER]);
    let hello = world.hello();
    assert_eq!((hello.epoch, hello.joining, hello.name.as_str()), (5, None, "a"));
    assert_eq!(hello.capacities, profile().capacities);
    world.run(10_000);
    // 0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75, 9.75 s.
    assert_eq!(hellos(&world).len(), 8);
    assert!(world.node.client().membership().is_none());
    assert!(!world.node.client().is_connected(world.now));
    world.welcome(1);
    world.said.clear();
    let membership = *world.node.client().membership().unwrap();
    assert_eq!(membership.lease.as_millis(), u128::from(LEASE_MS));
    world.run(2_999);
    assert_eq!(hellos(&world), [], "a third of the lease has not passed");
    world.run(1);
    assert_eq!(hellos(&world).len(), 1);
    assert!(world.node.client().is_connected(world.now));
    world.run(6_000);
    assert!(!world.node.client().is_connected(world.now), "the lease is over");
    world.welcome(1);
    assert!(world.node.client().is_connected(world.now));
}

#[test]
fn a_welcome_that_answers_nothing_changes_nothing() {
    let mut world = World::start(profile(), &[MANAGER]);
    let first = world.hello().request;
    world.run(300);
    let second = world.hello().request;
    assert!(second > first);
    world.manager(Message::Welcome(welcome(second + 1, 1)));
    assert!(world.node.client().membership().is_none(), "not said yet");
    world.manager(Message::Welcome(welcome(first, 1)));
    assert!(world.node.client().membership().is_some(), "either may be the one that is answered");
    let answered = world.now;
    world.run(5_000);
    // What comes late is of the time before that answer.
    for request in [first, second] {
        world.manager(Message::Welcome(welcome(request, 9)));
    }
    assert_eq!(world.node.client().counters.unexpected, 3);
    let end = Instant(answered.0 + u64::from(LEASE_MS));
    assert!(!world.node.client().is_connected(end), "the lease was not renewed");
}

#[test]
fn a_manager_that_is_silent_gives_way_to_the_next() {
    let mut world = World::start(profile(), &[MANAGER, STANDBY]);
    world.run(8_000);
    let to: Vec<_> = hellos(&world).iter().map(|(to, _)| *to).collect();
    assert_eq!(to[..10], [7, 7, 7, 7, 8, 8, 8, 8, 7, 7]);
    let (_, request) = *hellos(&world).iter().rev().find(|(to, _)| *to == STANDBY).unwrap();
    assert_eq!(hellos(&world).last().unwrap().0, MANAGER);
    world.manager_only(STANDBY, Message::Welcome(welcome(request, 1)));
    assert!(world.node.client().membership().is_none(), "it is not the one that is spoken to");
    world.welcome(1);
    assert!(world.node.client().membership().is_some());
    // The welcome names one manager only: the other one is believed no more.
    world.settle();
    assert!(!world.node.client().is_manager(&key(STANDBY)));
    world.run(LINGER + 5_000);
    assert!(world.node.find_peer(&key(STANDBY)).is_none());
}

#[test]
fn the_next_manager_takes_over_and_hears_everything_and_the_one_before_is_not_believed_any_more() {
    let mut world = World::start(profile(), &[MANAGER, STANDBY]);
    world.node.resume(world.now, attachment(0)).unwrap();
    let both = |request, epoch| {
        let managers = [MANAGER, STANDBY].map(manager_record);
        Message::Welcome(Welcome { managers: managers.into_iter().collect(), ..welcome(request, epoch) })
    };
    world.manager(both(world.hello().request, 1));
    world.attached(&world.attach_request(), attachment(0).id);
    world.said.clear();
    world.run(3_000);
    assert_eq!(hellos(&world).len(), 1, "the first that the manager does not answer");
    world.run(5_000);
    let (to, request) = *hellos(&world).last().unwrap();
    assert_eq!(to, STANDBY, "within 5 s of the first without an answer");
    assert!(world.node.client().is_connected(world.now), "the lease is not over yet");
    world.said.clear();
    world.manager_only(STANDBY, both(request, 2));
    world.settle();
    let resumed = world.attach_request();
    assert_eq!(resumed.kind, AttachKind::Resume(attachment(0).id));
    assert!(world.said.iter().all(|(to, _)| *to == STANDBY));
    let unexpected = world.node.client().counters.unexpected;
    world.manager(Message::Restarted { epoch: 1 });
    world.attached(&resumed, attachment(0).id);
    assert_eq!(world.node.client().counters.unexpected, unexpected + 2);
    assert_eq!(world.node.client().manager().unwrap().key, key(STANDBY));
}

#[test]
fn a_refusal_is_told_and_asked_about_again_later() {
    let mut world = World::start(profile(), &[MANAGER]);
    let request = world.hello().request;
    let refused = Message::Refused { request, refusal: Refusal::Subnet };
    world.manager(refused.clone());
    assert_eq!(world.node.client().refusal(), Some(Refusal::Subnet));
    world.said.clear();
    world.run(4_999);
    assert_eq!(hellos(&world), []);
    world.run(1);
    assert_eq!(hellos(&world).len(), 1);
    world.welcome(1);
    assert_eq!(world.node.client().refusal(), None);
    world.manager(refused);
    assert_eq!(world.node.client().refusal(), None, "that was long ago");
}

#[test]
fn a_node_that_joins_says_its_own_key_once_and_then_speaks_under_it() {
    let joining = Profile { joining: true, ..profile() };
    let mut world = World::start(joining, &[MANAGER]);
    world.node.resume(world.now, attachment(0)).unwrap();
    world.settle();
    let hello = world.hello();
    assert_eq!(hello.joining, Some(key(A)));
    assert!(world.node.client().is_joining());
    world.said.clear();
    world.manager(Message::Welcome(welcome(hello.request, 1)));
    assert!(!world.node.client().is_joining());
    assert!(!world.node.client().is_connected(world.now), "under the own key it has said nothing yet");
    let messages = world.messages();
    let [Message::Hello(own)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(own.joining, None);
    world.manager(Message::Welcome(welcome(hello.request, 1)));
    assert!(!world.node.client().is_connected(world.now), "the welcome of the join key came twice");
    world.manager(Message::Welcome(welcome(own.request, 1)));
    assert!(world.node.client().is_connected(world.now));
    let attach = world.attach_request();
    assert_eq!(attach.kind, AttachKind::Resume(attachment(0).id));
}

#[test]
fn a_node_that_gets_no_answer_under_one_key_tries_the_other() {
    let mut world = World::start(Profile { joining: true, ..profile() }, &[MANAGER]);
    assert_eq!(world.hello().joining, Some(key(A)));
    for (joining, said) in [(false, None), (true, Some(key(A)))] {
        world.said.clear();
        world.node.set_joining(world.now, joining);
        world.settle();
        assert_eq!(world.hello().joining, said);
        assert_eq!(world.node.client().is_joining(), joining);
    }
    assert_eq!(world.node.client().foreign_version(), None);
}

#[test]
fn a_manager_that_comes_back_is_greeted_at_once_however_long_the_last_hello_has_been_unanswered() {
    let mut world = World::ready();
    // The renewal after three seconds is repeated less and less often: the next time in 750 ms.
    world.run(6_000);
    world.said.clear();
    world.manager(Message::Restarted { epoch: 2 });
    world.manager(Message::Restarted { epoch: 2 });
    assert_eq!(hellos(&world).len(), 1);
}

#[test]
fn a_manager_that_has_forgotten_is_told_everything_again() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    let before = world.node.client().interests();
    world.manager(Message::Restarted { epoch: 2 });
    assert_eq!(hellos(&world).len(), 1, "at once");
    world.manager(Message::Restarted { epoch: 2 });
    assert_eq!(hellos(&world).len(), 1, "one is under way");
    world.welcome(2);
    assert_eq!(world.attach_request().kind, AttachKind::Resume(attachment(0).id));
    let whole = Subject::whole(crate::ids::ServiceId(SERVERS));
    let again = world.resolve_of(whole);
    assert_ne!(again.stream, stream, "a new stream");
    assert_eq!(again.asker, Some(attachment(0).id), "it is introduced again");
    world.resolve_of(subject_of(CLIENTS, 0));
    assert_eq!(world.node.client().interests(), before);
    // What is known goes on meanwhile.
    world.dial(&dial(Family::V4, 2, DIALLED));
    assert_eq!(world.forwarded.len(), 1);
    // Until the first page comes it asks again.
    let asked = world.resolves();
    world.run(300);
    assert_eq!(world.resolves(), asked + 2);
    world.manager(Message::Table(table(again.stream, SERVERS, &[DIALLED], &[(0, B), (1, C)])));
    let asked = world.resolves();
    world.run(1_000);
    assert!(world.said.iter().skip(asked).all(|(_, m)| {
        !matches!(m, Message::Resolve(r) if r.key == ResolveKey::Subject(whole) && r.stream != again.stream)
    }));
    world.dial(&dial(Family::V4, 3, DIALLED));
    assert_eq!(world.forwarded.len(), 2);
    // An old page of the stream from before is none of this.
    world.said.clear();
    world.manager(Message::Table(table(stream, SERVERS, &[DIALLED], &[])));
    assert!(matches!(world.messages()[..], [Message::Forget { stream: s, .. }] if s == stream));
}

#[test]
fn a_manager_whose_digests_differ_gets_streams_or_instances_again() {
    for (reopen, reattach) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut world, _) = World::with_servers(&[(0, B)]);
        world.node.peer_established(world.now, world.node.find_peer(&key(MANAGER)).unwrap());
        world.run(3_000);
        let hello = world.hello();
        assert_eq!((hello.streams.count, hello.instances.count), (2, 1));
        world.said.clear();
        let answer = Welcome { reopen, reattach, ..welcome(hello.request, 1) };
        world.manager(Message::Welcome(answer));
        let messages = world.messages();
        let streams = messages.iter().filter(|m| matches!(m, Message::Resolve(_))).count();
        let instances = messages.iter().filter(|m| matches!(m, Message::Attach(_))).count();
        assert_eq!(streams, if reopen { 2 } else { 0 });
        assert_eq!(instances, usize::from(reattach));
    }
}

#[test]
fn a_node_without_a_manager_waits_in_peace() {
    let mut world = World::start(profile(), &[]);
    world.node.resume(world.now, attachment(0)).unwrap();
    world.attach("app.ns.svc.ns", 1).unwrap();
    world.dial(&dial(Family::V4, 1, DIALLED));
    world.run(60_000);
    assert_eq!(world.said, []);
    assert_eq!(world.delivered.len(), 1, "the application was told");
}

#[test]
fn nothing_but_hello_is_said_before_the_welcome() {
    let mut world = World::start(profile(), &[MANAGER]);
    world.node.resume(world.now, attachment(0)).unwrap();
    world.attach("app.ns.svc.ns", 1).unwrap();
    world.dial(&dial(Family::V4, 1, DIALLED));
    world.run(60_000);
    assert!(world.said.iter().all(|(_, m)| matches!(m, Message::Hello(_))));
    assert_eq!(world.drops(DropReason::ResolveTimeout), 1);
    world.welcome(1);
    world.attach_request();
    world.resolve_of(subject_of(CLIENTS, 0));
}

#[test]
fn only_a_manager_is_believed() {
    let (mut world, _) = World::with_servers(&[(0, B)]);
    let withdrawn = Message::Restarted { epoch: 2 };
    world.manager_only(B, withdrawn.clone());
    world.settle();
    assert_eq!(world.drops(DropReason::NotAManager), 1);
    assert_eq!(hellos(&world), []);
    let stranger = crate::slots::RowRef::NONE;
    let mut payload = [1, 2, 3];
    let action = world.node.handle_payload(world.now, stranger, &mut payload);
    assert_eq!(action, crate::node::Action::Nothing);
    assert_eq!(world.drops(DropReason::UnknownPeer), 1);
    world.manager(withdrawn);
    assert_eq!(hellos(&world).len(), 1);
}

#[test]
fn control_payloads_that_make_no_sense_are_survived_and_counted() {
    let (mut world, stream) = World::with_servers(&[(0, B)]);
    let mut payload = [0; 1200];
    let page = Message::Table(table(stream + 1, SERVERS, &[DIALLED], &[(0, C)]));
    let len = page.encode(&mut payload).unwrap();
    for end in 1..len {
        world.receive(MANAGER, &payload[..end]);
    }
    assert_eq!(world.drops(DropReason::BadControl), len as u64 - 1);
    payload[0] = 2;
    world.receive(MANAGER, &payload[..len]);
    assert_eq!(world.drops(DropReason::BadControl), len as u64, "another version");
    assert_eq!(world.node.client().foreign_version(), Some(2));
    world.receive(MANAGER, &[]);
    world.receive(B, &[]);
    assert_eq!(world.drops(DropReason::BadControl), len as u64, "a keepalive is no message");
    for first in [0x10, 0x50, 0xff] {
        world.receive(B, &[first, 0, 0]);
    }
    assert_eq!(world.drops(DropReason::Malformed), 3);
    // What only nodes say, a manager does not.
    let before = world.node.client().counters.unexpected;
    world.manager(Message::Ack { subject: Subject::default(), stream: 1, sequence: 1 });
    assert_eq!(world.node.client().counters.unexpected, before + 1);
    world.dial(&dial(Family::V4, 1, DIALLED));
    assert_eq!(world.forwarded.len(), 1, "it goes on as before");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_of_a_manager_make_it_panic(
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<bool>()), 1..20),
    ) {
        let (mut world, _) = World::with_servers(&[(0, B)]);
        for (mut payload, control) in payloads {
            if control && !payload.is_empty() {
                payload[0] = 1;
            }
            if world.node.find_peer(&NodeKey([MANAGER as u8; 32])).is_some() {
                world.receive_only(MANAGER, &payload);
            }
            world.settle();
            world.run(100);
        }
    }
}
