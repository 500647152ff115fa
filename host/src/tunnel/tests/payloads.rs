//! What is sent arrives as it was, once, in order.

use super::*;

#[test]
fn payloads_before_the_handshake_arrive_in_order_and_before_newer_ones() {
    let (mut net, b, _) = Net::pair();
    for text in numbered(0..20) {
        assert_eq!(net.seal(0, b, text.as_bytes()), Ok(Sealed::Queued { displaced: 0 }));
    }
    // Carry the handshake only; the queue of node 0 is not fetched yet.
    let initiation = net.poll(0).unwrap();
    assert!(net.poll(0).is_none(), "one handshake for all payloads");
    net.deliver(initiation.from, initiation.to, initiation.bytes);
    let response = net.poll(1).unwrap();
    net.deliver(response.from, response.to, response.bytes);
    // The session is there, but these must not overtake.
    for text in numbered(20..25) {
        assert_eq!(net.seal(0, b, text.as_bytes()), Ok(Sealed::Queued { displaced: 0 }));
    }
    net.run();
    for text in numbered(25..30) {
        assert!(matches!(net.seal(0, b, text.as_bytes()), Ok(Sealed::Datagram { .. })));
    }
    assert_eq!(net.texts(1), numbered(0..30));
    assert_eq!(net.nodes[0].tunnels.queued_bytes(), 0);
    assert_eq!(net.nodes[0].tunnels.counters().total_drops(), 0);
    assert_eq!(net.nodes[1].tunnels.counters().total_drops(), 0);
}

#[test]
fn both_directions_work_and_the_payload_names_its_sender() {
    let (mut net, b, a) = Net::connected();
    net.send(1, a, b"answer");
    net.send(0, b, b"question");
    assert_eq!(net.texts(0), ["answer"]);
    assert_eq!(net.texts(1), ["question"]);
    assert_eq!(net.nodes[0].received[0].0, b);
    assert_eq!(net.nodes[1].received[0].0, a);
    assert!(net.wire.iter().all(|sent| !sent.bytes.windows(6).any(|w| w == b"answer")));
}

#[test]
fn both_sides_beginning_at_once_lose_nothing() {
    let (mut net, b, a) = Net::pair();
    net.send(0, b, b"from a");
    net.send(1, a, b"from b");
    net.run();
    net.send(0, b, b"more from a");
    net.send(1, a, b"more from b");
    assert_eq!(net.texts(1), ["from a", "more from a"]);
    assert_eq!(net.texts(0), ["from b", "more from b"]);
}

#[test]
fn payloads_of_every_small_and_some_large_sizes_survive() {
    let (mut net, b, _) = Net::connected();
    for len in (1..=200).chain([1280, 1440, 9000, 65_000, MAX_PAYLOAD]) {
        let payload = vec![0xa5; len];
        net.send(0, b, &payload);
        let (_, received) = net.nodes[1].received.pop().unwrap();
        assert_eq!(received.len(), len.next_multiple_of(16));
        assert_eq!(received[..len], payload[..]);
        assert!(received[len..].iter().all(|byte| *byte == 0));
        assert_eq!(net.wire.last().unwrap().bytes.len(), sealed_len(len));
    }
}

#[test]
fn replayed_data_is_refused() {
    let (mut net, b, _) = Net::connected();
    net.send(0, b, b"once");
    let sent = net.wire.last().unwrap().clone();
    for _ in 0..3 {
        let opened = net.deliver(sent.from, sent.to, sent.bytes.clone());
        assert_eq!(opened, Some(Opened::Dropped(TunnelDrop::ReplayedData)));
    }
    assert_eq!(net.texts(1), ["once"]);
}

#[test]
fn damaged_data_is_refused_at_every_byte() {
    let (mut net, b, _) = Net::connected();
    let mut out = [0; 200];
    let now = net.now;
    let sealed = net.nodes[0].tunnels.seal(b, b"whole", &mut out, now).unwrap();
    let Sealed::Datagram { len, .. } = sealed else {
        panic!("{sealed:?}");
    };
    for position in 0..len {
        let mut damaged = out[..len].to_vec();
        damaged[position] ^= 1;
        let opened = net.deliver(addr(1), addr(2), damaged);
        assert!(matches!(opened, Some(Opened::Dropped(_))), "{position}: {opened:?}");
    }
    assert!(net.poll(1).is_none());
    let whole = net.deliver(addr(1), addr(2), out[..len].to_vec());
    assert!(matches!(whole, Some(Opened::Data { .. })));
}
