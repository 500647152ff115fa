//! Storms of initiations whose first MAC is right: what they cost, and that peers get through them.

use std::collections::BTreeSet;

use wireguard_sans_io::consts::{LABEL_COOKIE, LABEL_MAC1};
use wireguard_sans_io::crypto::{aead, blake2s};
use wireguard_sans_io::testing::DeterministicRng;

use super::super::*;
use super::network::*;
use crate::tunnels::gate::{LOAD_INITIATIONS, SOURCE_BURST, SOURCES};

/// Tunnels and nodes without one that each initiation of a stranger is offered to, in [`besieged`].
const OFFERS_EACH: usize = 2 + CANDIDATES;

/// Somebody who knows the public key of node 0 and nothing else.
struct Stranger {
    from: SocketAddrV4,
    rng: DeterministicRng,
    /// Whether the address that it sends from is its own: whether it gets the answers.
    is_there: bool,
    cookie: Option<[u8; 16]>,
    last_mac: [u8; 16],
}

impl Stranger {
    fn new(number: u8) -> Self {
        let from = SocketAddrV4::new(core::net::Ipv4Addr::new(198, 51, 100, number), 1000);
        Self {
            from,
            rng: DeterministicRng::new(u64::from(number) + 1000),
            is_there: true,
            cookie: None,
            last_mac: [0; 16],
        }
    }

    /// An initiation that nobody but its receiver can tell from a real one.
    fn initiation(&mut self, receiver: &NodeKey) -> [u8; 148] {
        let mut initiation = [0; 148];
        self.rng.fill(&mut initiation[4..116]).expect("it always does");
        initiation[0] = 1;
        self.last_mac = blake2s::mac(&blake2s::hash(&[LABEL_MAC1, &receiver.0]), &[&initiation[..116]]);
        initiation[116..132].copy_from_slice(&self.last_mac);
        if let Some(cookie) = self.cookie {
            let second = blake2s::mac(&cookie, &[&initiation[..132]]);
            initiation[132..].copy_from_slice(&second);
        }
        initiation
    }

    /// Reads a cookie reply, which it can if it gets what is sent to the address that it says it has.
    fn take_cookie(&mut self, receiver: &NodeKey, reply: &[u8]) {
        let key = blake2s::hash(&[LABEL_COOKIE, &receiver.0]);
        let (nonce, mut cookie) = (reply[8..32].try_into().expect("24 bytes"), [0; 16]);
        if self.is_there && aead::xopen(&key, &nonce, &self.last_mac, &reply[32..64], &mut cookie).is_ok() {
            self.cookie = Some(cookie);
        }
    }
}

/// Node 0 with tunnels to nodes 1 and 2, and nodes 3 to 6 in its table that have none.
fn besieged() -> Network<4, 8> {
    let mut net = Network::new(7);
    net.assert_talking(0, 1);
    net.assert_talking(0, 2);
    net.advance(Duration::from_secs(5));
    net.nodes[0].offers = 0;
    net
}

/// Has strangers send so many initiations a second each, evenly, for so many seconds. Returns what each second has cost in offers.
fn storm(net: &mut Network<4, 8>, strangers: &mut [Stranger], per_second: u64, seconds: usize) -> Vec<usize> {
    let key = net.nodes[0].key;
    let mut costs = Vec::new();
    for _ in 0..seconds {
        let before = net.nodes[0].offers;
        for _ in 0..per_second {
            for stranger in strangers.iter_mut() {
                let initiation = stranger.initiation(&key);
                net.deliver(0, stranger.from, &initiation);
                while let Some(reply) = net.wire.pop_front() {
                    assert_eq!((reply.kind(), reply.to), (3, stranger.from), "a stranger gets nothing but cookies");
                    assert_eq!(reply.way, Way::Stray);
                    stranger.take_cookie(&key, &reply.bytes);
                }
            }
            net.advance(Duration::from_secs(1) / u32::try_from(per_second).expect("few"));
        }
        costs.push(net.nodes[0].offers - before);
    }
    costs
}

#[test]
fn one_source_gets_its_burst_and_one_a_second() {
    let mut net = besieged();
    let costs = storm(&mut net, &mut [Stranger::new(1)], 200, 10);
    // What it may without a cookie, and what it may with one.
    assert!(costs[0] <= 2 * SOURCE_BURST as usize * OFFERS_EACH + OFFERS_EACH, "{costs:?}");
    assert!(costs[1..].iter().all(|cost| *cost <= OFFERS_EACH), "{costs:?}");
    assert!(costs.iter().all(|cost| *cost > 0), "a source that proves its address is not shut out: {costs:?}");
    assert!(net.nodes[0].tunnels.counters.limited > 1900);
    net.assert_talking(0, 1);
    net.assert_talking(2, 0);
}

#[test]
fn sources_in_number_that_do_not_prove_their_address_cost_cookies_only() {
    let mut net = besieged();
    let mut costs = Vec::new();
    for round in 0..10 {
        let mut strangers: Vec<_> = (0..50).map(|n| Stranger::new(n + 50 * (round % 5))).collect();
        costs.extend(storm(&mut net, &mut strangers, 1, 1));
    }
    assert!(costs[0] <= LOAD_INITIATIONS as usize * OFFERS_EACH, "{costs:?}");
    assert_eq!(costs[1..], [0; 9]);
    assert!(net.nodes[0].tunnels.counters.cookies > 450);
    net.assert_talking(0, 1);
}

#[test]
fn sources_in_number_that_prove_their_address_are_bounded_together() {
    let mut net = besieged();
    let mut strangers: Vec<_> = (0..40).map(Stranger::new).collect();
    let costs = storm(&mut net, &mut strangers, 5, 10);
    let once = LOAD_INITIATIONS as usize + SOURCES * (SOURCE_BURST as usize + 1);
    assert!(costs[0] <= once * OFFERS_EACH, "{costs:?}");
    assert!(
        costs[1..].iter().sum::<usize>() <= (9 * SOURCES + SOURCES * SOURCE_BURST as usize) * OFFERS_EACH,
        "{costs:?}"
    );
    assert!(costs[2..].iter().all(|cost| *cost <= SOURCES * OFFERS_EACH), "{costs:?}");
    net.assert_talking(0, 1);
}

#[test]
fn a_cookie_is_good_for_the_address_and_the_port_that_it_was_given_to() {
    let mut net = besieged();
    let mut strangers: Vec<_> = (0..20).map(Stranger::new).collect();
    storm(&mut net, &mut strangers, 2, 2);
    let key = net.nodes[0].key;
    let owner = &mut strangers[19];
    assert!(owner.cookie.is_some());
    let home = owner.from;
    let elsewhere = [SocketAddrV4::new(*home.ip(), home.port() + 1), SocketAddrV4::new(*address(99).ip(), home.port())];
    for from in elsewhere {
        let (initiation, before) = (owner.initiation(&key), net.nodes[0].offers);
        net.deliver(0, from, &initiation);
        assert_eq!(net.wire.pop_front().map(|reply| (reply.kind(), reply.to)), Some((3, from)));
        assert_eq!(net.nodes[0].offers, before, "from {from}");
    }
}

#[test]
fn a_source_just_below_the_load_is_bounded_without_cookies() {
    let mut net = besieged();
    let costs = storm(&mut net, &mut [Stranger::new(1)], u64::from(LOAD_INITIATIONS), 10);
    assert!(costs[2..].iter().all(|cost| *cost <= 2 * OFFERS_EACH), "{costs:?}");
}

/// Has node 3 shake hands with node 0 while strangers send so many initiations a second each. Returns how many milliseconds it took.
fn gets_through(net: &mut Network<4, 8>, strangers: &mut [Stranger], per_second: u32) -> u64 {
    storm(net, strangers, per_second.into(), 3);
    let (key, peer, began) = (net.nodes[0].key, net.nodes[3].address, net.now);
    net.seal(3, 0, &payload(42));
    while net.now < began + Duration::from_secs(30) {
        // The strangers first, always.
        let under_way = core::mem::take(&mut net.wire);
        for stranger in strangers.iter_mut() {
            let initiation = stranger.initiation(&key);
            net.deliver(0, stranger.from, &initiation);
        }
        net.wire = under_way;
        net.advance_but(Duration::from_secs(1) / per_second, |datagram| {
            datagram.to != peer && datagram.from == address(1)
        });
        if net.take_payloads(0, 3) == [payload(42)] {
            return (net.now - began).as_millis();
        }
    }
    panic!("node 3 does not get through");
}

#[test]
fn a_peer_gets_through_a_storm_with_its_cookie() {
    let mut net = besieged();
    let mut strangers: Vec<_> = (0..100).map(Stranger::new).collect();
    let took = gets_through(&mut net, &mut strangers, 1);
    assert!(took < 7_000, "its second attempt carries the cookie: {took} ms");
    let cookies: BTreeSet<_> =
        net.log.iter().filter(|d| d.kind() == 3 && d.to == net.nodes[3].address).map(|d| d.bytes.clone()).collect();
    assert_eq!(cookies.len(), 1, "it had to show one");
    net.assert_talking(0, 3);
}

#[test]
fn a_peer_whose_address_others_claim_gets_through() {
    // Few enough that they are no load, and more than one source may send.
    let mut net = besieged();
    let mut liar = Stranger::new(1);
    (liar.from, liar.is_there) = (SocketAddrV4::new(*net.nodes[3].address.ip(), 999), false);
    let took = gets_through(&mut net, &mut [liar], 5);
    assert!(took < 6_000, "{took} ms");
    assert!(
        net.log.iter().any(|datagram| datagram.kind() == 3 && datagram.to == address(4)),
        "it had to show a cookie"
    );
}

#[test]
fn a_peer_with_a_tunnel_gets_through_where_all_buckets_are_in_use() {
    let mut net = besieged();
    let mut strangers: Vec<_> = (0..SOURCES as u8).map(Stranger::new).collect();
    storm(&mut net, &mut strangers, 3, 5);
    // Node 1 has been started again: its session is gone, its tunnel at node 0 is not.
    net.restart(1, 2);
    net.seal(1, 0, &payload(5));
    net.settle();
    assert_eq!(net.take_payloads(0, 1), [[0; 0]; 0]);
    let key = net.nodes[0].key;
    let end = net.now + Duration::from_secs(7);
    while net.now < end {
        for stranger in &mut strangers {
            let initiation = stranger.initiation(&key);
            net.deliver(0, stranger.from, &initiation);
        }
        net.advance(Duration::from_millis(250));
    }
    assert_eq!(net.take_payloads(0, 1), [payload(5)]);
}

#[test]
fn an_initiation_without_the_first_mac_counts_for_nothing() {
    let mut net = besieged();
    let mut stranger = Stranger::new(1);
    for _ in 0..1000 {
        let initiation = stranger.initiation(&NodeKey([9; 32]));
        net.deliver(0, stranger.from, &initiation);
    }
    assert!(net.wire.is_empty());
    assert_eq!(net.nodes[0].offers, 0);
    assert_eq!(net.nodes[0].tunnels.counters.wrong_mac, 1000);
    net.seal(3, 0, &payload(1));
    net.settle();
    assert_eq!(net.take_payloads(0, 3), [payload(1)], "at once: it was no load");
}

#[test]
fn an_initiation_of_an_unknown_key_is_taken_when_its_node_is_introduced() {
    let mut net = Network::<4, 4>::new(3);
    let unknown = net.nodes[0].table.pop().expect("the last one");
    let from = (1..3).find(|node| net.nodes[*node].key == unknown.key).expect("one of them");
    net.seal(from, 0, &payload(1));
    net.settle();
    assert_eq!(net.nodes[0].tunnels.counters.unknown_key, 1);
    assert_eq!(net.log.len(), 1, "a stranger gets no answer");
    net.advance(Duration::from_millis(200));
    net.introduce(0, unknown);
    net.settle();
    assert_eq!(net.take_payloads(0, from), [payload(1)]);
    assert_eq!(net.nodes[0].tunnels.kept(), 0);
}

#[test]
fn kept_initiations_are_few_and_not_kept_long() {
    let mut net = Network::<4, 4>::new(5);
    let table = core::mem::take(&mut net.nodes[0].table);
    (1..5).for_each(|node| net.seal(node, 0, &payload(node as u8)));
    net.settle();
    assert_eq!(net.nodes[0].tunnels.counters.unknown_key, 4);
    assert_eq!(net.nodes[0].tunnels.kept(), 2);
    for peer in &table {
        net.introduce(0, *peer);
    }
    net.settle();
    let got: Vec<_> = net.nodes[0].inbox.iter().map(|delivery| delivery.payload.clone()).collect();
    assert_eq!(got, [payload(3), payload(4)], "the latest are kept");

    let mut net = Network::<4, 4>::new(2);
    let peer = net.nodes[0].table.pop().expect("one");
    net.seal(1, 0, &payload(1));
    net.settle();
    net.advance_but(Duration::from_secs(5), |_| true);
    net.introduce(0, peer);
    net.settle_but(|datagram| datagram.kind() == 1);
    assert!(net.log.iter().all(|datagram| datagram.kind() == 1), "it is too old: its sender repeats it");
}
