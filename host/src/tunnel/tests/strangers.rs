//! Who is not a peer, or only says so, gets nothing: no answer, no state beyond its bounds.

use super::*;

#[test]
fn a_stranger_gets_total_silence() {
    let mut net = Net::new(2);
    let b = net.introduce(0, 1);
    net.send(0, b, b"let me in");
    net.pass(secs(300));
    assert!(net.sent_by(0).len() > 10, "the stranger did knock");
    assert_eq!(net.sent_by(1), [0; 0], "and nobody answered");
    assert!(net.nodes[1].received.is_empty());
    let counters = net.nodes[1].tunnels.counters();
    assert_eq!(counters.unknown_keys_kept, net.sent_by(0).len() as u64);
    assert_eq!(counters.initiations_answered, 0);
    assert_eq!(net.nodes[1].tunnels.poll_timeout(), None);
}

#[test]
fn a_removed_peer_is_a_stranger_again() {
    let (mut net, b, a) = Net::connected();
    net.nodes[1].tunnels.remove_peer(a);
    net.send(0, b, b"still there?");
    assert_eq!(net.drops(1, TunnelDrop::NoSession), 1);
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    net.run();
    assert_eq!(net.sent_by(1), [0; 0]);
    assert!(net.nodes[1].received.is_empty());
    assert_eq!(net.seal(1, a, b"x"), Err(SendError::UnknownPeer));
    assert_eq!(net.nodes[1].tunnels.key(a), None);
    assert_eq!(net.nodes[1].tunnels.poll_timeout(), None);
}

#[test]
fn an_initiation_of_an_unknown_key_is_answered_when_the_key_becomes_a_peer() {
    let mut net = Net::new(2);
    let b = net.introduce(0, 1);
    net.send(0, b, b"early");
    net.run();
    let (key, from) = (net.nodes[0].identity.public(), net.nodes[0].addr);
    assert_eq!(net.events(1), [TunnelEvent::UnknownInitiation { key, from }]);
    assert_eq!(net.events(1), []);
    net.pass(Duration::from_millis(300));
    // Without an endpoint: the initiation tells it.
    let now = net.now;
    let a = net.nodes[1].tunnels.add_peer(key, None, Local::Own, now).unwrap();
    net.run();
    assert_eq!(net.texts(1), ["early"]);
    assert_eq!(net.sent_by(0).iter().filter(|kind| **kind == 1).count(), 1, "no repeat was needed");
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(from));
    net.send(1, a, b"welcome");
    assert_eq!(net.texts(0), ["welcome"]);
}

#[test]
fn a_kept_initiation_can_be_used_only_once() {
    let mut net = Net::new(2);
    let b = net.introduce(0, 1);
    net.send(0, b, b"early");
    net.run();
    let initiation = net.wire[0].clone();
    net.introduce(1, 0);
    net.run();
    assert_eq!(net.texts(1), ["early"]);
    net.wire.clear();
    net.pass(secs(1));
    let again = net.deliver(initiation.from, initiation.to, initiation.bytes);
    assert_eq!(again, Some(Opened::Dropped(TunnelDrop::ReplayedInitiation)));
    net.run();
    assert_eq!(net.sent_by(1), [0; 0]);
}

#[test]
fn an_initiation_of_a_key_that_was_a_peer_before_is_answered_when_it_becomes_one_again() {
    let (mut net, b, a) = Net::connected();
    net.nodes[1].tunnels.remove_peer(a);
    net.pass(secs(1));
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    net.send(0, b, b"again");
    net.run();
    assert!(!net.texts(1).contains(&"again".to_owned()), "strangers get no answer");
    let initiation = net.wire.iter().rfind(|sent| sent.bytes[0] == 1).unwrap().clone();
    net.pass(Duration::from_millis(300));
    net.introduce(1, 0);
    net.run();
    assert_eq!(net.texts(1).last().unwrap(), "again", "no repeat was needed");
    let replayed = net.deliver(initiation.from, initiation.to, initiation.bytes);
    assert_eq!(replayed, Some(Opened::Dropped(TunnelDrop::ReplayedInitiation)));
}

#[test]
fn an_initiation_kept_too_long_is_not_answered() {
    let mut net = Net::new(2);
    let b = net.introduce(0, 1);
    net.send(0, b, b"early");
    net.run();
    net.now += KEPT_FOR;
    net.wire.clear();
    net.introduce(1, 0);
    net.run();
    assert_eq!(net.sent_by(1), [0; 0]);
    assert_eq!(net.drops(1, TunnelDrop::UnknownKeyStale), 1);
    net.pass(secs(1));
    assert_eq!(net.texts(1), ["early"], "the repeat is");
}

#[test]
fn a_flood_of_unknown_keys_is_kept_within_bounds_and_told_within_bounds() {
    let mut net = Net::new(1);
    let server = net.nodes[0].identity.public();
    for n in 0..60u8 {
        let stranger = identity(100 + n);
        let mut tunnels = net.boot(&stranger);
        let peer = tunnels.add_peer(server, Some(addr(1)), Local::Own, net.now).unwrap();
        let mut out = [0; 200];
        tunnels.seal(peer, b"x", &mut out, net.now).unwrap();
        let initiation = tunnels.poll_transmit(&mut out, net.now).unwrap();
        let opened = net.deliver(addr(200), addr(1), out[..initiation.len].to_vec());
        assert_eq!(opened, Some(Opened::Kept));
    }
    assert_eq!(net.events(0).len(), KEPT_INITIATIONS);
    assert_eq!(net.drops(0, TunnelDrop::UnknownKeyDisplaced), 60 - KEPT_INITIATIONS as u64);
    net.run();
    assert_eq!(net.sent_by(0), [0; 0]);
}

#[test]
fn a_replayed_initiation_is_refused_silently() {
    let (mut net, b, _) = Net::pair();
    net.send(0, b, b"hello");
    net.run();
    let initiation = net.wire[0].clone();
    assert_eq!(initiation.bytes[0], 1);
    net.wire.clear();
    for delay in [0, 1, 200, 1_000] {
        net.pass(secs(delay));
        net.wire.clear();
        let opened = net.deliver(addr(66), initiation.to, initiation.bytes.clone());
        assert_eq!(opened, Some(Opened::Dropped(TunnelDrop::ReplayedInitiation)));
        assert!(net.poll(1).is_none());
    }
    assert_eq!(net.drops(1, TunnelDrop::ReplayedInitiation), 4);
    let a = net.nodes[1].tunnels.peers().next().unwrap();
    assert_eq!(net.nodes[1].tunnels.endpoint(a), Some(addr(1)), "a replay moves nothing");
}

#[test]
fn a_peer_removed_and_added_again_still_refuses_old_initiations() {
    let (mut net, b, a) = Net::pair();
    net.send(0, b, b"hello");
    net.run();
    let initiation = net.wire[0].clone();
    net.nodes[1].tunnels.remove_peer(a);
    net.introduce(1, 0);
    net.wire.clear();
    let opened = net.deliver(initiation.from, initiation.to, initiation.bytes);
    assert_eq!(opened, Some(Opened::Dropped(TunnelDrop::ReplayedInitiation)));
    assert!(net.poll(1).is_none());
}

#[test]
fn a_stranger_who_knows_the_join_key_is_not_kept() {
    let mut net = Net::new(2);
    let join = identity(77);
    let (now, seed) = (net.now, net.seed());
    net.nodes[0].tunnels.set_join(&join, seed, now);
    let guest = net.nodes[1].tunnels.add_peer(join.public(), Some(addr(1)), Local::Own, now).unwrap();
    net.send(1, guest, b"hello");
    net.run();
    assert_eq!(net.sent_by(0), [0; 0]);
    assert_eq!(net.drops(0, TunnelDrop::UnknownKey), 1);
    assert_eq!(net.events(0), []);
}

#[test]
fn random_datagrams_of_every_length_get_no_answer_and_are_counted() {
    let (mut net, b, _) = Net::connected();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut delivered = 0;
    for len in 0..=200 {
        for first in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(0x45)] {
            // With and without the reserved zeros, to get past the first check.
            for zeros in [false, true] {
                let mut bytes: Vec<u8> = (0..len).map(|_| random()).collect();
                if let (Some(first), Some(byte)) = (first, bytes.first_mut()) {
                    *byte = first;
                }
                if zeros {
                    for byte in bytes.iter_mut().take(4).skip(1) {
                        *byte = 0;
                    }
                }
                let opened = net.deliver(addr(9), addr(2), bytes);
                assert!(matches!(opened, Some(Opened::Dropped(_))), "{opened:?}");
                delivered += 1;
            }
        }
    }
    assert_eq!(net.nodes[1].tunnels.counters().total_drops(), delivered);
    assert_eq!(net.drops(1, TunnelDrop::Empty), 16);
    assert!(net.drops(1, TunnelDrop::Short) > 0);
    assert!(net.drops(1, TunnelDrop::Malformed) > 0);
    assert!(net.drops(1, TunnelDrop::BadMac) > 0);
    assert!(net.drops(1, TunnelDrop::NoSession) > 0);
    assert!(net.poll(1).is_none());
    assert_eq!(net.events(1), []);
    net.send(0, b, b"unharmed");
    assert_eq!(net.texts(1), ["unharmed"]);
}

#[test]
fn truncated_handshakes_get_no_answer() {
    let (mut net, b, _) = Net::pair();
    net.send(0, b, b"x");
    let initiation = net.poll(0).unwrap();
    for len in 0..initiation.bytes.len() {
        let opened = net.deliver(initiation.from, initiation.to, initiation.bytes[..len].to_vec());
        assert!(matches!(opened, Some(Opened::Dropped(_))));
    }
    let mut longer = initiation.bytes.clone();
    longer.push(0);
    let opened = net.deliver(initiation.from, initiation.to, longer);
    assert_eq!(opened, Some(Opened::Dropped(TunnelDrop::Malformed)));
    assert!(net.poll(1).is_none());
}

#[test]
fn under_load_a_stranger_gets_at_most_cookies() {
    let mut net = Net::new(1);
    let server = net.nodes[0].identity.public();
    let stranger = identity(123);
    let mut tunnels = net.boot(&stranger);
    let peer = tunnels.add_peer(server, Some(addr(1)), Local::Own, net.now).unwrap();
    let mut out = [0; 200];
    tunnels.seal(peer, b"x", &mut out, net.now).unwrap();
    let initiation = tunnels.poll_transmit(&mut out, net.now).unwrap();
    for _ in 0..1_000 {
        net.deliver(addr(200), addr(1), out[..initiation.len].to_vec());
    }
    net.run();
    let answers = net.sent_by(0);
    assert!(answers.iter().all(|kind| *kind == 3), "cookie replies only");
    assert_eq!(answers.len() as u64, net.drops(0, TunnelDrop::CookieDemanded));
    assert!(answers.len() < SOURCE_BURST as usize);
    assert_eq!(net.drops(0, TunnelDrop::SourceLimited), 1_000 - u64::from(SOURCE_BURST));
}

#[test]
fn a_peer_gets_through_under_load_with_its_cookie() {
    let (mut net, b, _) = Net::pair();
    // Others keep the server busy for the whole time.
    let server = net.nodes[1].identity.public();
    let mut stranger = net.boot(&identity(123));
    let peer = stranger.add_peer(server, Some(addr(2)), Local::Own, net.now).unwrap();
    let mut out = [0; 200];
    stranger.seal(peer, b"x", &mut out, net.now).unwrap();
    let initiation = stranger.poll_transmit(&mut out, net.now).unwrap();
    let flood = |net: &mut Net| {
        for _ in 0..110 {
            net.deliver(addr(200), addr(2), out[..initiation.len].to_vec());
        }
    };
    flood(&mut net);
    net.send(0, b, b"me too");
    net.run();
    assert_eq!(net.texts(1), [""; 0]);
    assert!(net.sent_by(1).contains(&3), "a cookie came");
    for _ in 0..12 {
        flood(&mut net);
        net.pass(Duration::from_millis(500));
    }
    assert_eq!(net.texts(1), ["me too"]);
}
