//! What is full, wrong or too much is refused by name and counted, and harms nothing else.

use super::*;

#[test]
fn a_full_queue_says_so_and_keeps_the_newest() {
    let (mut net, b, _) = Net::pair();
    for n in 0..QUEUE_PAYLOADS {
        assert_eq!(net.seal(0, b, format!("payload {n}").as_bytes()), Ok(Sealed::Queued { displaced: 0 }));
    }
    for n in QUEUE_PAYLOADS..QUEUE_PAYLOADS + 3 {
        assert_eq!(net.seal(0, b, format!("payload {n}").as_bytes()), Ok(Sealed::Queued { displaced: 1 }));
    }
    assert_eq!(net.drops(0, TunnelDrop::QueueFull), 3);
    net.run();
    assert_eq!(net.texts(1), numbered(3..QUEUE_PAYLOADS + 3));
}

#[test]
fn a_queue_is_bounded_in_bytes_and_all_queues_together_too() {
    let mut net = Net::new(1);
    let payload = vec![1; MAX_PAYLOAD];
    let now = net.now;
    let count = QUEUES_BYTES / MAX_PAYLOAD / 2 + 10;
    let mut refused = 0;
    let mut peers = Vec::new();
    for n in 0..count {
        let key = numbered_key(n as u64);
        let peer = net.nodes[0].tunnels.add_peer(key, Some(addr(7)), Local::Own, now).unwrap();
        peers.push(peer);
        for _ in 0..4 {
            match net.seal(0, peer, &payload) {
                Ok(Sealed::Queued { .. }) => {}
                Err(SendError::QueuesFull) => refused += 1,
                other => panic!("{other:?}"),
            }
            assert!(net.nodes[0].tunnels.queued_bytes() <= QUEUES_BYTES);
        }
    }
    assert!(refused > 0);
    assert_eq!(net.drops(0, TunnelDrop::QueuesFull), refused);
    assert!(net.drops(0, TunnelDrop::QueueFull) >= 200, "two of four per peer");
    for peer in peers {
        net.nodes[0].tunnels.remove_peer(peer);
    }
    assert_eq!(net.nodes[0].tunnels.queued_bytes(), 0);
}

#[test]
fn payloads_that_cannot_be_sent_are_refused_by_name() {
    let (mut net, b, _) = Net::pair();
    let now = net.now;
    assert_eq!(net.seal(0, b, b""), Err(SendError::Empty));
    assert_eq!(net.seal(0, b, &vec![1; MAX_PAYLOAD + 1]), Err(SendError::TooLong { len: MAX_PAYLOAD + 1 }));
    let short = net.nodes[0].tunnels.seal(b, b"x", &mut [0; 47], now);
    assert_eq!(short, Err(SendError::BufferTooSmall { needed: 48 }));
    let nowhere = net.nodes[0].tunnels.add_peer(identity(99).public(), None, Local::Own, now).unwrap();
    assert_eq!(net.seal(0, nowhere, b"x"), Err(SendError::NoEndpoint));
    let tunnels = &mut net.nodes[0].tunnels;
    assert_eq!(tunnels.restart_handshake(nowhere, now), Err(SendError::NoEndpoint));
    for reason in [TunnelDrop::EmptyPayload, TunnelDrop::TooLong, TunnelDrop::BufferTooSmall, TunnelDrop::NoEndpoint] {
        assert_eq!(tunnels.counters().drops(reason), 1, "{reason:?}");
    }
    assert_eq!(tunnels.poll_timeout(), None, "none of them began anything");
}

#[test]
fn keys_that_cannot_be_peers_are_refused() {
    let mut net = Net::new(1);
    let now = net.now;
    let own = net.nodes[0].identity.public();
    let tunnels = &mut net.nodes[0].tunnels;
    assert_eq!(tunnels.add_peer(own, None, Local::Own, now), Err(AddPeerError::OwnKey));
    let zero = NodeKey::from([0; 32]);
    assert_eq!(tunnels.add_peer(zero, None, Local::Own, now), Err(AddPeerError::WeakKey(zero)));
    assert_eq!(tunnels.peers().count(), 0);
}

#[test]
fn a_buffer_too_small_for_the_payload_loses_it_and_nothing_else() {
    let (mut net, b, _) = Net::connected();
    let mut out = [0; 200];
    let now = net.now;
    let Ok(Sealed::Datagram { len, .. }) = net.nodes[0].tunnels.seal(b, &[7; 64], &mut out, now) else {
        panic!("there is a session");
    };
    let opened = net.nodes[1].tunnels.open(addr(1), &out[..len], &mut [0; 79], now);
    assert_eq!(opened, Opened::Dropped(TunnelDrop::BufferTooSmall));
    let opened = net.nodes[1].tunnels.open(addr(1), &out[..len], &mut [0; 80], now);
    assert!(matches!(opened, Opened::Data { len: 64, .. }), "not even the replay window moved");
}

#[test]
fn time_that_goes_back_does_no_harm() {
    let (mut net, b, a) = Net::connected();
    net.pass(secs(100));
    let later = net.now;
    net.now = net.base;
    net.send(0, b, b"from the past");
    net.send(1, a, b"answer");
    for node in &mut net.nodes {
        node.tunnels.handle_timeout(net.base);
    }
    net.run();
    net.now = later;
    assert_eq!(net.texts(1), ["from the past"]);
    assert_eq!(net.texts(0), ["answer"]);
}

#[test]
fn transmits_that_nobody_fetches_are_bounded() {
    let (mut net, _, _) = Net::pair();
    let b = net.nodes[0].tunnels.peers().next().unwrap();
    let now = net.now;
    net.nodes[0].tunnels.restart_handshake(b, now).unwrap();
    let (to, initiation) = net.nodes[0].tunnels.transmits[0].clone();
    for _ in 1..MAX_TRANSMITS + 10 {
        net.nodes[0].tunnels.transmit(to, initiation.clone());
    }
    assert_eq!(net.nodes[0].tunnels.transmits.len(), MAX_TRANSMITS);
    assert_eq!(net.drops(0, TunnelDrop::NotFetched), 10);
}

#[test]
fn a_hundred_idle_peers_cost_nothing_when_one_is_busy() {
    let (mut net, b, _) = Net::connected();
    let now = net.now;
    for n in 0..100u64 {
        net.nodes[0].tunnels.add_peer(numbered_key(n), Some(addr(9)), Local::Own, now).unwrap();
    }
    assert_eq!(net.nodes[0].tunnels.peers().count(), 101);
    assert_eq!(net.nodes[0].tunnels.ids.len(), 1, "only a used peer has a tunnel");
    net.send(0, b, b"x");
    let mut asked = 0;
    net.nodes[0].tunnels.deadlines.next(|_| {
        asked += 1;
        None
    });
    assert_eq!(asked, 1);
}
