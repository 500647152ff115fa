//! Peers that join, move, restart, die and come back.

use super::*;

#[test]
fn a_dead_peer_is_reported_once_per_attempt_and_its_return_too() {
    let (mut net, b, _) = Net::pair();
    net.cut.insert(addr(2));
    net.send(0, b, b"anyone?");
    net.pass(UNREACHABLE_AFTER - secs(1));
    assert_eq!(net.events(0), []);
    net.pass(secs(1));
    assert_eq!(net.events(0), [TunnelEvent::Unreachable { peer: b }]);
    assert_eq!(net.sent_by(0), [1, 1], "two initiations, 5 s apart");
    net.pass(secs(40));
    assert_eq!(net.events(0), []);
    net.cut.clear();
    net.send(0, b, b"now?");
    net.pass(secs(6));
    assert_eq!(net.events(0), [TunnelEvent::Established { peer: b }]);
    assert_eq!(net.texts(1), ["now?"], "what had waited too long is gone");
    assert_eq!(net.drops(0, TunnelDrop::QueueStale), 1);
}

#[test]
fn handshakes_to_a_dead_peer_end_and_the_next_payload_begins_anew() {
    let (mut net, b, _) = Net::pair();
    net.cut.insert(addr(2));
    net.send(0, b, b"anyone?");
    net.pass(secs(95));
    net.wire.clear();
    net.pass(secs(600));
    assert_eq!(net.sent_by(0), [0; 0], "nothing to say, nothing sent");
    assert_eq!(net.nodes[0].tunnels.queued_bytes(), 0);
    net.events(0);
    net.cut.clear();
    net.send(0, b, b"back again");
    net.run();
    assert_eq!(net.texts(1), ["back again"]);
    assert_eq!(net.events(0), [TunnelEvent::Established { peer: b }]);
}

#[test]
fn a_sender_that_does_not_give_up_reaches_a_peer_that_comes_back_after_minutes() {
    let (mut net, b, _) = Net::pair();
    net.cut.insert(addr(2));
    for n in 0..60 {
        net.send(0, b, format!("try {n}").as_bytes());
        net.pass(secs(5));
    }
    let kinds = net.sent_by(0);
    assert!((50..=70).contains(&kinds.len()), "about every 5 s: {}", kinds.len());
    net.cut.clear();
    net.send(0, b, b"hello");
    net.pass(secs(6));
    assert_eq!(net.texts(1).last().unwrap(), "hello");
    assert!(net.texts(1).len() <= 4, "only fresh payloads: {:?}", net.texts(1));
}

#[test]
fn a_restarted_peer_is_back_at_once_when_its_restart_is_known() {
    let (mut net, b, _) = Net::connected();
    net.pass(secs(3));
    let identity = net.nodes[1].identity.clone();
    let unix_later = START_UNIX + secs(100);
    let seed = net.seed();
    net.nodes[1].tunnels = Tunnels::new(&identity, seed, net.now, unix_later);
    let a = net.introduce(1, 0);
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    // Sealed with the old session it would be lost, so it waits.
    assert_eq!(net.seal(0, b, b"after restart"), Ok(Sealed::Queued { displaced: 0 }));
    net.run();
    assert_eq!(net.texts(1), ["after restart"]);
    net.send(1, a, b"here again");
    assert_eq!(net.texts(0), ["here again"]);
    assert!(matches!(net.seal(0, b, b"direct"), Ok(Sealed::Datagram { .. })));
    assert_eq!(net.drops(1, TunnelDrop::NoSession), 0);
}

#[test]
fn a_restart_notice_about_a_peer_that_is_well_loses_nothing() {
    let (mut net, b, a) = Net::connected();
    net.pass(secs(3));
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    // In flight while the handshake is under way, over the session that is in doubt.
    net.send(1, a, b"in flight");
    assert_eq!(net.seal(0, b, b"waits"), Ok(Sealed::Queued { displaced: 0 }));
    assert_eq!(net.texts(0), ["in flight"]);
    net.run();
    assert_eq!(net.texts(1), ["waits"]);
    assert!(matches!(net.seal(0, b, b"direct"), Ok(Sealed::Datagram { .. })));
}

#[test]
fn a_restarted_peer_is_found_out_even_without_notice() {
    let (mut net, b, _) = Net::connected();
    let identity = net.nodes[1].identity.clone();
    let seed = net.seed();
    net.nodes[1].tunnels = Tunnels::new(&identity, seed, net.now, START_UNIX + secs(100));
    net.introduce(1, 0);
    net.send(0, b, b"lost");
    assert_eq!(net.drops(1, TunnelDrop::NoSession), 1);
    net.pass(secs(16));
    net.send(0, b, b"found");
    assert_eq!(net.texts(1), ["found"]);
}

#[test]
fn sessions_are_renewed_under_traffic_without_loss() {
    let (mut net, b, a) = Net::connected();
    for n in 0..600 {
        net.send(0, b, format!("{n}").as_bytes());
        net.send(1, a, format!("{n}").as_bytes());
        net.pass(secs(1));
    }
    let expected: Vec<String> = (0..600).map(|n| n.to_string()).collect();
    assert_eq!(net.texts(0), expected);
    assert_eq!(net.texts(1), expected);
    let renewed = net.nodes[0].tunnels.counters().handshakes_completed;
    assert!((4..=7).contains(&renewed), "every two minutes: {renewed}");
    assert_eq!(net.nodes[0].tunnels.counters().total_drops(), 0);
    assert_eq!(net.nodes[1].tunnels.counters().total_drops(), 0);
}

#[test]
fn an_idle_tunnel_falls_silent_and_works_again_when_it_is_used() {
    let (mut net, b, a) = Net::connected();
    net.pass(secs(400));
    net.wire.clear();
    net.pass(secs(3_600));
    assert!(net.wire.is_empty());
    for node in 0..2 {
        let tunnels = &mut net.nodes[node].tunnels;
        assert_eq!(tunnels.peers().filter(|peer| tunnels.session_age(*peer, net.now).is_some()).count(), 0);
        assert_eq!(tunnels.ids.len(), 0, "nothing is kept for it");
        assert_eq!(tunnels.poll_timeout(), None);
        assert_eq!(tunnels.counters().total_drops(), 0);
    }
    net.events(0);
    net.events(1);
    net.send(1, a, b"good morning");
    net.run();
    assert_eq!(net.texts(0), ["good morning"]);
    assert_eq!(net.events(0), [TunnelEvent::Established { peer: b }]);
}

#[test]
fn joining_uses_the_join_key_first_and_the_own_key_then() {
    let mut net = Net::new(2);
    let join = identity(77);
    let manager_key = net.nodes[1].identity.public();
    let (now, seed) = (net.now, net.seed());
    let unregistered = net.nodes[0].tunnels.add_peer(manager_key, Some(addr(2)), Local::Join, now);
    assert_eq!(unregistered, Err(AddPeerError::NoJoinKey));
    net.nodes[0].tunnels.set_join(&join, seed, now);
    let via_join = net.nodes[0].tunnels.add_peer(manager_key, Some(addr(2)), Local::Join, now).unwrap();
    // The manager knows the join key only.
    let guest = net.nodes[1].tunnels.add_peer(join.public(), None, Local::Own, now).unwrap();
    net.send(0, via_join, b"my key is ...");
    net.run();
    assert_eq!(net.texts(1), ["my key is ..."]);
    assert_eq!(net.nodes[1].received[0].0, guest);
    assert_eq!(net.events(0), [TunnelEvent::Established { peer: via_join }]);
    net.send(1, guest, b"welcome");
    let mut out = [0; 100];
    assert_eq!(net.texts(0), ["welcome"]);
    // Now the manager adds the node's own key, and the node uses it.
    let member = net.introduce(1, 0);
    let via_own = net.introduce(0, 1);
    assert_ne!(via_own, via_join);
    net.send(0, via_own, b"hello");
    net.run();
    assert_eq!(net.nodes[1].received[1].0, member);
    net.send(1, member, b"to the member");
    let (peer, _) = net.nodes[0].received[1];
    assert_eq!(net.nodes[0].tunnels.via(peer), Some(Local::Own));
    net.nodes[0].tunnels.clear_join();
    assert_eq!(net.nodes[0].tunnels.peers().collect::<Vec<_>>(), [via_own]);
    let now = net.now;
    assert_eq!(net.nodes[0].tunnels.seal(via_join, b"x", &mut out, now), Err(SendError::UnknownPeer));
    net.send(0, via_own, b"still here");
    assert_eq!(net.texts(1).last().unwrap(), "still here");
}

#[test]
fn a_handshake_begun_by_the_manager_reaches_the_join_key() {
    let mut net = Net::new(2);
    let join = identity(77);
    let manager_key = net.nodes[1].identity.public();
    let (now, seed) = (net.now, net.seed());
    net.nodes[0].tunnels.set_join(&join, seed, now);
    net.nodes[0].tunnels.add_peer(manager_key, None, Local::Join, now).unwrap();
    let guest = net.nodes[1].tunnels.add_peer(join.public(), Some(addr(1)), Local::Own, now).unwrap();
    net.send(1, guest, b"are you there?");
    net.run();
    assert_eq!(net.texts(0), ["are you there?"]);
    let (peer, _) = net.nodes[0].received[0];
    assert_eq!(net.nodes[0].tunnels.via(peer), Some(Local::Join));
}

#[test]
fn an_endpoint_moves_only_with_authenticated_messages() {
    let (mut net, b, a) = Net::connected();
    let roamed: SocketAddr = addr(50);
    let mut out = [0; 200];
    let now = net.now;
    let sealed = net.nodes[0].tunnels.seal(b, b"from elsewhere", &mut out, now).unwrap();
    let Sealed::Datagram { len, .. } = sealed else {
        panic!("{sealed:?}");
    };
    let mut forged = out[..len].to_vec();
    forged[len - 1] ^= 1;
    net.deliver(addr(66), addr(2), forged);
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(addr(1)));
    assert_eq!(net.events(1), []);
    net.deliver(roamed, addr(2), out[..len].to_vec());
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(roamed));
    assert_eq!(net.events(1), [TunnelEvent::EndpointChanged { peer: a, endpoint: roamed }]);
    // A replay from yet another address moves nothing.
    net.deliver(addr(66), addr(2), out[..len].to_vec());
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(roamed));
    // Neither does being told the old address again, but a new one does.
    assert_eq!(net.introduce(1, 0), a);
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(roamed));
    net.nodes[0].addr = addr(51);
    assert_eq!(net.introduce(1, 0), a);
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(addr(51)));
}

#[test]
fn a_handshake_under_way_follows_a_new_endpoint_at_once() {
    let (mut net, b, _) = Net::pair();
    net.cut.insert(addr(2));
    net.send(0, b, b"where are you?");
    net.pass(secs(1));
    net.nodes[1].addr = addr(52);
    assert_eq!(net.introduce(0, 1), b);
    net.run();
    assert_eq!(net.texts(1), ["where are you?"]);
}

#[test]
fn a_restarted_peer_that_begins_by_itself_ends_the_wait_too() {
    let (mut net, b, _) = Net::connected();
    net.pass(secs(3));
    let identity = net.nodes[1].identity.clone();
    let seed = net.seed();
    net.nodes[1].tunnels = Tunnels::new(&identity, seed, net.now, START_UNIX + secs(100));
    let a = net.introduce(1, 0);
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    assert!(net.poll(0).is_some(), "this initiation is lost");
    net.send(0, b, b"waits");
    net.now += Duration::from_millis(50);
    net.send(1, a, b"I am back");
    net.run();
    assert_eq!(net.texts(0), ["I am back"]);
    assert_eq!(net.texts(1), ["waits"]);
}

#[test]
fn a_payload_that_waits_when_the_library_gives_up_is_tried_again() {
    let (mut net, b, _) = Net::pair();
    net.cut.insert(addr(2));
    net.send(0, b, b"old");
    net.pass(secs(88));
    net.send(0, b, b"fresh");
    net.pass(secs(4));
    net.cut.clear();
    net.pass(secs(6));
    assert_eq!(net.texts(1), ["fresh"]);
}

#[test]
fn a_peer_whose_path_was_down_for_a_while_is_reported_gone_and_back() {
    let (mut net, b, _) = Net::connected();
    net.cut.insert(addr(2));
    net.send(0, b, b"lost");
    // 15 s without an answer, then a handshake without one.
    net.pass(secs(22));
    assert_eq!(net.events(0), []);
    net.pass(secs(2));
    assert_eq!(net.events(0), [TunnelEvent::Unreachable { peer: b }]);
    net.cut.clear();
    net.pass(secs(6));
    assert_eq!(net.events(0), [TunnelEvent::Established { peer: b }]);
}

#[test]
fn an_initiation_moves_the_endpoint_as_soon_as_it_is_accepted() {
    let (mut net, b, a) = Net::connected();
    net.pass(secs(3));
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    let initiation = net.poll(0).unwrap();
    let opened = net.deliver(addr(50), initiation.to, initiation.bytes);
    assert_eq!(opened, Some(Opened::Handshake { peer: a }));
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(addr(50)));
    assert_eq!(net.poll(1).unwrap().to, addr(50), "the response goes where it came from");
}
