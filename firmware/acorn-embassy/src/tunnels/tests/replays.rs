//! Initiations that were recorded and come again: to the tunnel that took them, and to those that peers get after it.

use wireguard_sans_io::consts::LABEL_MAC1;
use wireguard_sans_io::crypto::blake2s;

use super::super::*;
use super::network::*;
use crate::tunnels::slot::IDLE_AFTER;

/// The same initiation as it is, and as somebody can rewrite it who knows the receiver's public key and no private one.
fn variants(initiation: &[u8], receiver: &NodeKey) -> Vec<Vec<u8>> {
    let whole = initiation.to_vec();
    let mut second_mac = whole.clone();
    second_mac[147] ^= 1;
    let mut index = whole.clone();
    index[4] ^= 1;
    let key = blake2s::hash(&[LABEL_MAC1, &receiver.0]);
    let mac = blake2s::mac(&key, &[&index[..116]]);
    index[116..132].copy_from_slice(&mac);
    vec![whole, second_mac, index]
}

/// Plays all variants of a recorded initiation to a node: none is answered, and the session of node `with` goes on if it has one.
fn assert_refused<const P: usize, const S: usize>(net: &mut Network<P, S>, at: usize, recorded: &Datagram) {
    let thief = SocketAddrV4::new(core::net::Ipv4Addr::new(203, 0, 113, 9), 9);
    for variant in variants(&recorded.bytes, &net.nodes[at].key) {
        let before = net.nodes[at].tunnels.counters.replayed;
        net.deliver(at, thief, &variant);
        assert_eq!(net.wire.pop_front(), None, "it is answered");
        assert_eq!(net.nodes[at].tunnels.counters.replayed, before + 1);
        // So that the bucket of the source is not what refuses it.
        net.advance(Duration::from_secs(2));
    }
}

fn recorded<const P: usize, const S: usize>(net: &Network<P, S>, from: usize) -> Datagram {
    let is_one = |datagram: &&Datagram| datagram.kind() == 1 && datagram.from == net.nodes[from].address;
    net.log.iter().rfind(is_one).expect("an initiation").clone()
}

#[test]
fn the_tunnel_that_took_it_refuses_it() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    let initiation = recorded(&net, 0);
    assert_refused(&mut net, 1, &initiation);
    net.assert_talking(0, 1);
}

/// Node 1 has room for one tunnel. Node 0 has had it, node 2 has it now.
fn evicted() -> (Network<1, 1>, Datagram) {
    let mut net = Network::<1, 1>::new(3);
    net.seal(0, 1, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(1)]);
    let initiation = recorded(&net, 0);
    net.advance(IDLE_AFTER);
    net.seal(2, 1, &payload(2));
    net.settle();
    assert_eq!(net.take_payloads(1, 2), [payload(2)]);
    assert_eq!(net.nodes[1].tunnels.counters.peers_evicted, 1);
    net.advance(IDLE_AFTER);
    (net, initiation)
}

#[test]
fn a_tunnel_that_is_tried_out_knows_what_the_last_one_took() {
    let (mut net, initiation) = evicted();
    assert_refused(&mut net, 1, &initiation);
    assert_eq!(net.nodes[1].tunnels.counters.peers_evicted, 1, "nobody has made room for it");
    // Something newer from the same peer is taken.
    net.restart(0, 2);
    net.seal(0, 1, &payload(3));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(3)]);
    assert_refused(&mut net, 1, &initiation);
}

#[test]
fn a_tunnel_for_a_payload_inherits_what_the_last_one_took() {
    let (mut net, initiation) = evicted();
    net.seal(1, 0, &payload(3));
    // The peer is gone for the moment: nothing but the recorded initiation comes.
    net.settle_but(|_| true);
    assert_refused(&mut net, 1, &initiation);
    net.restart(0, 2);
    net.seal(0, 1, &payload(4));
    net.settle();
    assert_eq!(net.take_payloads(1, 0), [payload(4)]);
    assert_refused(&mut net, 1, &initiation);
    net.assert_talking(0, 1);
}

#[test]
fn what_was_inherited_is_handed_on_when_nothing_newer_came() {
    let (mut net, initiation) = evicted();
    net.seal(1, 0, &payload(3));
    net.settle_but(|_| true);
    net.advance_but(IDLE_AFTER, |_| true);
    // Node 2 gets the only tunnel again; then node 0 is refused by the stamp of the tunnel before the last.
    net.restart(2, 2);
    net.seal(2, 1, &payload(4));
    net.settle();
    assert_eq!(net.take_payloads(1, 2), [payload(4)]);
    assert_refused(&mut net, 1, &initiation);
}

#[test]
fn an_older_initiation_does_not_end_a_handshake_or_a_session() {
    let mut net = Network::<1, 4>::new(3);
    net.seal(0, 1, &payload(1));
    net.settle();
    let older = recorded(&net, 0);
    net.restart(0, 2);
    net.seal(0, 1, &payload(2));
    net.settle();
    net.advance(IDLE_AFTER);
    net.seal(2, 1, &payload(3));
    net.settle();
    net.advance(IDLE_AFTER);
    // The tunnel that inherits the newer stamp is shown the older initiation, which it has never seen.
    net.seal(1, 0, &payload(4));
    net.settle();
    assert_eq!(net.take_payloads(0, 1), [payload(4)]);
    assert_refused(&mut net, 1, &older);
    net.assert_talking(0, 1);
}

#[test]
fn a_payload_that_comes_twice_is_opened_once() {
    let mut net = Network::<4, 4>::new(2);
    net.assert_talking(0, 1);
    net.seal(0, 1, &payload(1));
    let datagram = net.wire.pop_front().expect("sealed");
    for _ in 0..3 {
        net.deliver(1, datagram.from, &datagram.bytes);
    }
    assert_eq!(net.take_payloads(1, 0), [payload(1)]);
    assert_eq!(net.nodes[1].tunnels.counters.rejected, 2);
}
