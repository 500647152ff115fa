//! Join keys, registered keys, and what the tunnels are told.

use std::collections::BTreeMap;

use super::super::{KeyError, KeyEvent};
use super::*;

pub(super) fn joining(key: u8) -> Hello {
    Hello { joining: Some(node_key(key)), ..hello(1) }
}

/// What the tunnels know when they follow the events.
#[derive(Default)]
struct Peers(BTreeMap<NodeKey, (Endpoint, bool)>);

impl Peers {
    fn follow(&mut self, root: &mut Root) {
        while let Some(event) = root.poll_key_event() {
            match event {
                KeyEvent::Add { key, endpoint, join } => self.0.insert(key, (endpoint, join)),
                KeyEvent::Remove { key } => self.0.remove(&key),
            };
        }
        let known: BTreeMap<_, _> = root.known_keys().map(|known| (known.key, (known.endpoint, known.join))).collect();
        assert_eq!(self.0, known);
    }
}

#[test]
fn a_join_key_admits_one_node_and_is_used_up_when_that_speaks_for_itself() {
    let mut rig = Rig::new();
    let mut peers = Peers::default();
    rig.root.create_join_keys(rig.now, &[node_key(100)], UNIX + 60).unwrap();
    peers.follow(&mut rig.root);
    assert_eq!(peers.0[&node_key(100)], (Endpoint::UNKNOWN, true));
    let admitted = rig.hello(100, &joining(1)).unwrap();
    peers.follow(&mut rig.root);
    assert_eq!(peers.0[&node_key(1)], (endpoint(100), false));
    // The answer was lost; a second node tries the same key.
    assert_eq!(rig.hello(100, &joining(1)).unwrap(), admitted);
    assert_eq!(rig.hello(100, &joining(2)), Err(Refusal::JoinKey.into()));
    rig.restart();
    assert_eq!(rig.hello(100, &joining(1)).unwrap(), admitted);
    assert_eq!(rig.hello(100, &joining(2)), Err(Refusal::JoinKey.into()));
    assert!(!rig.root.nodes()[0].alive, "it has not spoken for itself");
    let own_key = rig.hello(1, &hello(1)).unwrap();
    assert_eq!((own_key.node, own_key.subnet), (admitted.node, admitted.subnet));
    assert!(rig.root.nodes()[0].alive);
    peers.follow(&mut rig.root);
    assert_eq!(peers.0.keys().collect::<Vec<_>>(), [&node_key(1)]);
    assert_eq!(rig.hello(100, &joining(1)), Err(Refusal::JoinKey.into()));
    assert_eq!(rig.root.nodes().len(), 1);
}

#[test]
fn a_join_key_that_is_unknown_or_has_expired_admits_nobody() {
    let mut rig = Rig::new();
    assert_eq!(rig.hello(100, &joining(1)), Err(Refusal::JoinKey.into()));
    rig.root.create_join_keys(rig.now, &[node_key(100), node_key(101)], UNIX + 60).unwrap();
    assert_eq!(rig.hello(100, &hello(1)), Err(Refusal::NotANode.into()), "a join key is no node");
    rig.now = Instant::from_secs(59);
    rig.hello(101, &joining(2)).unwrap();
    rig.now = Instant::from_secs(60);
    assert_eq!(rig.hello(100, &joining(1)), Err(Refusal::JoinKey.into()));
    let mut peers = Peers::default();
    rig.pass(0);
    peers.follow(&mut rig.root);
    assert_eq!(peers.0.keys().collect::<Vec<_>>(), [&node_key(2)]);
    rig.hello(2, &hello(1)).unwrap();
}

#[test]
fn a_stranger_is_no_node() {
    let mut rig = Rig::new();
    assert_eq!(rig.hello(9, &hello(1)), Err(Refusal::NotANode.into()));
    assert_eq!(rig.attach(NodeId(9), AttachKind::Host, 1), Err(Refusal::NotANode.into()));
    let instance = InstanceId::default();
    assert_eq!(rig.root.detach(rig.now, NodeId(9), &gone(instance)), Err(Refusal::NotANode.into()));
}

#[test]
fn whoever_joins_with_the_key_of_a_node_does_not_change_that_node() {
    let mut rig = Rig::new();
    rig.node(1);
    let before = rig.root.nodes();
    rig.root.create_join_keys(rig.now, &[node_key(100)], UNIX + 60).unwrap();
    let forged = Hello {
        name: "evil".try_into().unwrap(),
        endpoint: endpoint(66),
        epoch: 9,
        subnet: Some("10.18.9.0".parse().unwrap()),
        ..joining(1)
    };
    rig.hello(100, &forged).unwrap();
    assert_eq!(rig.root.nodes(), before);
    assert_eq!(rig.root.node(NodeId(1)).unwrap().epoch, 1);
    // Nor can it become the manager, a join key or nobody.
    for key in [250, 100, 0] {
        assert_eq!(rig.hello(100, &joining(key)), Err(Refusal::JoinKey.into()), "{key}");
    }
}

#[test]
fn keys_that_are_in_use_are_not_made_join_keys() {
    let mut rig = Rig::new();
    rig.node(1);
    rig.root.register_node_key(rig.now, node_key(2)).unwrap();
    rig.root.create_join_keys(rig.now, &[node_key(100)], UNIX + 60).unwrap();
    for key in [0, 1, 2, 100, 250] {
        let keys = [node_key(50), node_key(key)];
        let refused = rig.root.create_join_keys(rig.now, &keys, UNIX + 60);
        assert!(matches!(refused, Err(KeyError::InUse(used)) if used == node_key(key)), "{key}");
    }
    let twice = rig.root.create_join_keys(rig.now, &[node_key(50), node_key(50)], UNIX + 60);
    assert!(matches!(twice, Err(KeyError::InUse(_))));
    assert!(matches!(rig.root.create_join_keys(rig.now, &[node_key(50)], UNIX), Err(KeyError::Expired)));
    assert!(matches!(rig.root.register_node_key(rig.now, node_key(100)), Err(KeyError::InUse(_))));
    assert_eq!(rig.root.known_keys().filter(|known| known.join).count(), 1);
}

#[test]
fn the_endpoint_is_the_one_that_the_node_says_or_else_the_one_that_is_seen() {
    let mut rig = Rig::new();
    let mut peers = Peers::default();
    let node = rig.node(1);
    peers.follow(&mut rig.root);
    assert_eq!(rig.root.node(node).unwrap().endpoint, endpoint(1));
    rig.hello(1, &Hello { endpoint: endpoint(77), ..hello(1) }).unwrap();
    peers.follow(&mut rig.root);
    assert_eq!(peers.0[&node_key(1)], (endpoint(77), false));
    rig.restart();
    assert_eq!(rig.root.node(node).unwrap().endpoint, endpoint(77));
}

#[test]
fn the_managers_own_node_is_no_peer_of_its_own_tunnels() {
    let mut rig = Rig::new();
    rig.node(250);
    assert_eq!(rig.root.poll_key_event(), None);
    assert_eq!(rig.root.known_keys().count(), 0);
    assert_eq!(rig.root.nodes().len(), 1);
}

#[test]
fn two_nodes_may_have_one_name() {
    let mut rig = Rig::new();
    assert_ne!(rig.node(1), rig.node(2));
    assert_eq!(rig.root.nodes()[0].name, rig.root.nodes()[1].name);
}

#[test]
fn a_lease_is_the_managers_or_the_nodes_within_bounds() {
    let mut rig = Rig::new();
    rig.node(1);
    for (asked, given) in [(0, 10_000), (60_000, 60_000), (1, 1_000), (u32::MAX, 3_600_000)] {
        let admission = rig.hello(1, &Hello { lease_ms: asked, ..hello(1) }).unwrap();
        assert_eq!(admission.lease_ms, given);
        assert_eq!(admission.managers.as_slice(), [own()]);
    }
}
