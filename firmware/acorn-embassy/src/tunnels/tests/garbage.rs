//! What is not from a peer, or not as the peer sent it.

use proptest::prelude::*;
use wireguard_sans_io::consts::LABEL_MAC1;
use wireguard_sans_io::crypto::blake2s;
use wireguard_sans_io::testing::DeterministicRng;

use super::super::*;
use super::network::*;

/// The most that a datagram may have: more than an Ethernet frame.
const LONGEST: usize = 1600;

/// Gives node 1 a datagram that must come to nothing.
fn assert_nothing(net: &mut Network<4, 4>, bytes: &[u8], what: &str) {
    net.deliver(1, address(1), bytes);
    assert_eq!(net.nodes[1].inbox, [], "{what}: {bytes:02x?}");
    assert_eq!(net.wire.pop_front(), None, "{what} is answered: {bytes:02x?}");
}

#[test]
fn datagrams_of_every_length_come_to_nothing() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    let mut rng = DeterministicRng::new(1);
    for len in 0..=LONGEST {
        assert_nothing(&mut net, &vec![0; len], "zeros");
        assert_nothing(&mut net, &vec![0xff; len], "ones");
        let mut random = vec![0; len];
        rng.fill(&mut random).expect("it always does");
        assert_nothing(&mut net, &random, "random");
        for kind in 1..=4 {
            let header = [kind, 0, 0, 0];
            random.iter_mut().zip(header).for_each(|(byte, head)| *byte = head);
            assert_nothing(&mut net, &random, "random behind a header");
        }
    }
    let counters = net.nodes[1].tunnels.counters;
    assert_eq!(counters.malformed + counters.rejected + counters.wrong_mac, (LONGEST as u32 + 1) * 7);
    net.assert_talking(0, 1);
    assert_eq!(net.nodes[0].tunnels.counters.handshakes, 1, "the session has gone on");
}

#[test]
fn a_payload_longer_than_there_is_room_for_is_refused_and_the_session_goes_on() {
    // A peer that seals more than this node takes.
    let mut net = Network::<4, 4>::new(2);
    let mut rng = DeterministicRng::new(2);
    let key = |number| StaticSecret::from_bytes(secret(number));
    let mut peer: Tunnel = Tunnel::new(Config::new(key(1), key(2).public_key())).expect("keys");
    let now = Now::new(START.as_micros() * 1000, START.as_secs(), 0);
    let (mut out, mut long) = ([0; 4096], [0; 4096]);
    let initiation = peer.initiate_handshake(now, &mut out, &mut rng).expect("the first").to_vec();
    net.deliver(1, address(1), &initiation);
    let response = net.wire.pop_front().expect("the peer is known").bytes;
    peer.decapsulate(now, &[], false, &response, &mut out, &mut rng).expect("authentic");
    for len in [2_000, PAYLOAD_MAX + 33, 3_000] {
        let Ok(Encapsulated::Transport(datagram)) = peer.encapsulate(now, &long[..len], &mut out, &mut rng) else {
            panic!("there is a session");
        };
        assert_nothing(&mut net, datagram, "too long");
    }
    long[0] = 1;
    let Ok(Encapsulated::Transport(datagram)) = peer.encapsulate(now, &long[..16], &mut out, &mut rng) else {
        panic!("there is a session");
    };
    net.deliver(1, address(1), datagram);
    assert_eq!(net.nodes[1].inbox.len(), 1);
}

/// Writes the first MAC anew, as everybody can who knows the receiver's public key.
fn with_mac(message: &[u8], receiver: &NodeKey) -> Vec<u8> {
    let (mut whole, alpha) = (message.to_vec(), message.len() - 32);
    let mac = blake2s::mac(&blake2s::hash(&[LABEL_MAC1, &receiver.0]), &[&message[..alpha]]);
    whole[alpha..alpha + 16].copy_from_slice(&mac);
    whole
}

#[test]
fn a_bit_flipped_in_an_initiation_makes_it_nobodys() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(0, 1, &payload(1));
    let initiation = net.wire.pop_front().expect("an initiation").bytes;
    // The sender's index, and what is behind the first MAC, is nobody's word.
    let vouched = 8..116;
    for place in 0..initiation.len() {
        let mut flipped = initiation.clone();
        flipped[place] ^= 1 << (place % 8);
        if place < 132 {
            assert_nothing(&mut net, &flipped, "an initiation with a flipped bit");
        }
        if vouched.contains(&place) {
            let flipped = with_mac(&flipped, &net.nodes[1].key);
            assert_nothing(&mut net, &flipped, "an initiation with a flipped bit and a new MAC");
            // So that neither load nor bucket is what refuses it.
            net.now += Duration::from_secs(3);
        }
    }
    assert_eq!(net.nodes[1].tunnels.counters.unknown_key, vouched.len() as u32);
    net.deliver(1, address(1), &initiation);
    net.settle();
    net.assert_talking(0, 1);
}

#[test]
fn a_bit_flipped_in_a_response_ends_no_handshake() {
    let mut net = Network::<4, 4>::new(2);
    // The one who asks is node 1 here.
    net.seal(1, 0, &payload(1));
    assert!(net.step());
    let response = net.wire.pop_front().expect("a response").bytes;
    for place in 0..response.len() - 16 {
        let mut flipped = response.clone();
        flipped[place] ^= 1 << (place % 8);
        assert_nothing(&mut net, &flipped, "a response with a flipped bit");
        // The sender's index alone is not vouched for: the session would be of no use, but WireGuard can't tell.
        if place < response.len() - 32 && !(4..8).contains(&place) {
            let flipped = with_mac(&flipped, &net.nodes[1].key);
            assert_nothing(&mut net, &flipped, "a response with a flipped bit and a new MAC");
        }
    }
    assert_eq!(net.nodes[1].tunnels.counters.handshakes, 0);
    net.deliver(1, address(1), &response);
    net.settle();
    assert_eq!(net.take_payloads(0, 1), [payload(1)]);
}

#[test]
fn a_bit_flipped_in_a_payload_or_a_keepalive_leaves_it_to_be_opened_once() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.seal(0, 1, &[0x45; 48]);
    let datagram = net.wire.pop_front().expect("sealed").bytes;
    net.seal(0, 1, &[]);
    let keepalive = net.wire.pop_front().expect("sealed").bytes;
    for (whole, opens) in [(datagram, 1), (keepalive, 0)] {
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[place] ^= 1 << bit;
                assert_nothing(&mut net, &flipped, "a payload with a flipped bit");
            }
        }
        for cut in 0..whole.len() {
            assert_nothing(&mut net, &whole[..cut], "a payload that is cut off");
        }
        let before = net.nodes[1].tunnels.counters.opened;
        net.deliver(1, address(1), &whole);
        assert_eq!(net.nodes[1].tunnels.counters.opened, before + 1);
        assert_eq!(net.take_payloads(1, 0).len(), opens);
        assert_nothing(&mut net, &whole, "a payload that comes again");
    }
    net.assert_talking(0, 1);
}

#[test]
fn a_bit_flipped_in_a_cookie_reply_is_no_cookie() {
    let mut net = Network::<4, 4>::new(2);
    net.seal(1, 0, &payload(1));
    let initiation = net.wire.pop_front().expect("an initiation").bytes;
    // A node under load.
    (0..20).for_each(|_| net.deliver(0, address(2), &initiation));
    let reply = net.wire.iter().rfind(|datagram| datagram.kind() == 3).expect("a cookie").bytes.clone();
    net.wire.clear();
    let before = net.nodes[1].tunnels.counters;
    for place in 0..reply.len() {
        let mut flipped = reply.clone();
        flipped[place] ^= 1 << (place % 8);
        assert_nothing(&mut net, &flipped, "a cookie reply with a flipped bit");
    }
    let after = net.nodes[1].tunnels.counters;
    let refused = (after.rejected - before.rejected) + (after.malformed - before.malformed);
    assert_eq!(refused as usize, reply.len(), "each is refused");
    net.deliver(1, address(1), &reply);
    assert_eq!(net.nodes[1].tunnels.counters, after, "the cookie is taken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Messages with the indices of living sessions and of handshakes under way, and anything behind them.
    #[test]
    fn forged_messages_with_living_indices_come_to_nothing(
        kind in 2_u8..5,
        rest in proptest::collection::vec(any::<u8>(), 0..LONGEST),
        is_under_way: bool,
    ) {
        let mut net = Network::<4, 4>::new(2);
        net.assert_talking(0, 1);
        net.advance(Duration::from_secs(6));
        if is_under_way {
            net.nodes[1].tunnels.slots[0].restart = true;
            net.poll(1);
            net.wire.clear();
        }
        let of = |kind| net.log.iter().rfind(|datagram| datagram.kind() == kind && datagram.to == address(2));
        let living = of(4).expect("a payload").bytes[4..8].to_vec();
        let asked = net.log.iter().rfind(|datagram| datagram.kind() == 1 && datagram.from == address(2));
        let asked = asked.map_or(living.clone(), |datagram| datagram.bytes[4..8].to_vec());
        for index in [living, asked] {
            let mut forged = [&[kind, 0, 0, 0][..], &index, &rest].concat();
            assert_nothing(&mut net, &forged, "forged");
            if kind == 2 && forged.len() >= 92 {
                forged.truncate(92);
                forged[8..12].copy_from_slice(&index);
                let forged = with_mac(&forged, &net.nodes[1].key);
                assert_nothing(&mut net, &forged, "forged");
            }
        }
        net.settle();
        net.advance(Duration::from_secs(6));
        net.assert_talking(0, 1);
    }
}
