//! Clusters: who is let in as one, and what it may say of whom.

use acorn_core::sync::cluster::KeyStanding;

use super::joining::joining;
use super::*;
use crate::root::LAST_SEEN_STEP;

const KEY: u8 = 50;
const OTHER: u8 = 60;

/// A cluster with this key, in its first epoch.
fn cluster(rig: &mut Rig, key: u8) -> NodeId {
    rig.root.create_cluster_join_keys(rig.now, &[node_key(key + 1)], rig.unix() + 60).unwrap();
    let admitted = rig.hello(key + 1, &joining(key)).unwrap();
    assert_eq!(rig.hello(key, &hello(1)).unwrap().node, admitted.node);
    admitted.node
}

/// A `Hello` that comes through a cluster.
fn through(rig: &mut Rig, cluster: NodeId, key: u8, hello: &Hello) -> Result<Admission, Denied> {
    rig.root.hello_through(rig.now, cluster, sender(key), hello)
}

fn is_alive(rig: &Rig, node: NodeId) -> bool {
    rig.root.nodes().iter().find(|info| info.id == node).unwrap().alive
}

#[test]
fn a_join_key_admits_what_it_was_made_for_and_nothing_else() {
    let mut rig = Rig::new();
    let site = cluster(&mut rig, KEY);
    assert!(rig.root.is_cluster(site));
    rig.root.create_join_keys(rig.now, &[node_key(100)], UNIX + 60).unwrap();
    rig.root.create_cluster_join_keys(rig.now, &[node_key(101)], UNIX + 60).unwrap();

    let node = through(&mut rig, site, 100, &joining(1)).unwrap();
    assert!(!rig.root.is_cluster(node.node));
    assert_eq!(through(&mut rig, site, 101, &joining(2)), Err(Refusal::JoinKey.into()), "a cluster behind a cluster");
    assert_eq!(through(&mut rig, site, KEY, &hello(1)), Err(Refusal::JoinKey.into()), "itself");
    assert_eq!(rig.hello(101, &joining(1)), Err(Refusal::JoinKey.into()), "a node's key for a cluster");

    let standing = |rig: &Rig, key| rig.root.key_standing(rig.now, &node_key(key));
    assert_eq!(standing(&rig, 100), KeyStanding::Join);
    assert_eq!(standing(&rig, 101), KeyStanding::Unknown, "not for nodes");
    assert_eq!(standing(&rig, 1), KeyStanding::Node);
    assert_eq!(standing(&rig, 9), KeyStanding::Unknown);
    rig.pass(61);
    assert_eq!(standing(&rig, 100), KeyStanding::Unknown, "it has expired");
}

#[test]
fn a_cluster_takes_no_subnet_and_is_there_after_a_restart_with_its_nodes_behind_it() {
    let mut rig = Rig::new();
    let site = cluster(&mut rig, KEY);
    let node = rig.node(1);
    assert_eq!(rig.root.nodes().iter().find(|info| info.id == node).unwrap().subnet, rig.plan.worker_subnet(0));
    rig.root.set_alive(rig.now, node, false);
    through(&mut rig, site, 1, &hello(1)).unwrap();
    rig.restart();
    assert!(rig.root.is_cluster(site) && rig.root.is_behind(site, &node_key(1)));
    assert!(is_alive(&rig, node), "its cluster says when it is silent");
    rig.pass(60);
    assert!(is_alive(&rig, node), "also while the cluster is silent");
    assert!(!is_alive(&rig, site));
}

#[test]
fn a_cluster_cannot_take_a_node_that_is_heard_from_elsewhere() {
    let mut rig = Rig::new();
    let (here, there) = (cluster(&mut rig, KEY), cluster(&mut rig, OTHER));
    let node = rig.node(1);
    assert_eq!(through(&mut rig, here, 1, &hello(1)), Err(Denied::Pending), "the root hears it");
    assert!(!rig.root.is_behind(here, &node_key(1)));

    rig.root.set_alive(rig.now, node, false);
    assert_eq!(through(&mut rig, here, 1, &hello(2)).unwrap().node, node);
    assert!(is_alive(&rig, node) && rig.root.is_behind(here, &node_key(1)));
    assert_eq!(through(&mut rig, there, 1, &hello(2)), Err(Denied::Pending), "its cluster hears it");

    // What the root's own session and another cluster say of it counts for nothing.
    rig.root.set_alive(rig.now, node, false);
    rig.root.set_alive_through(rig.now, there, node, false);
    assert!(is_alive(&rig, node));
    rig.root.set_alive_through(rig.now, here, node, false);
    assert!(!is_alive(&rig, node));
    assert_eq!(through(&mut rig, there, 1, &hello(3)).unwrap().node, node);
    assert!(rig.root.is_behind(there, &node_key(1)) && !rig.root.is_behind(here, &node_key(1)));

    // It proves its key itself: whom it speaks to it is with.
    assert_eq!(rig.hello(1, &hello(4)).unwrap().node, node);
    assert!(!rig.root.is_behind(there, &node_key(1)));
}

#[test]
fn a_silent_cluster_is_forgotten_after_the_retention() {
    let mut rig = Rig::new();
    let site = cluster(&mut rig, KEY);
    rig.pass(RootSettings::default().retention.as_secs() + LAST_SEEN_STEP.as_secs() + 1);
    assert!(!rig.root.is_cluster(site));
    assert!(rig.root.known_keys().all(|known| known.key != node_key(KEY)));
}
