//! What a node refuses to start with.

use acorn_core::Endpoint;
use embassy_net::StackResources;
use wireguard_sans_io::testing::{DeterministicRng, FailingRng};

use super::*;

type Small = Resources<2, 4, 8, 8, 2>;

fn manager(n: u8) -> ManagerRecord {
    let endpoint = std::net::SocketAddr::from(([192, 0, 2, n], 50103));
    ManagerRecord { key: public_key(&[n; 32]), endpoint: Endpoint::from(endpoint) }
}

fn identity() -> Identity {
    Identity { key: [1; 32], join: None, has_joined: false, boot: 1 }
}

/// Starts a node. Returns the error, if there is one.
fn start(change: impl FnOnce(&mut Config<'_>), entropy: &mut dyn EntropySource) -> Option<StartError> {
    let mut state = channel::State::<1514, 1, 1>::new();
    let (_lower, device) = channel::new(&mut state, HardwareAddress::Ethernet([2; 6]));
    let mut sockets = StackResources::<{ underlay_sockets(2) }>::new();
    let (stack, _runner) = embassy_net::new(device, embassy_net::Config::default(), &mut sockets, 1);
    let mut resources = Box::new(Small::new());
    let managers = [manager(2)];
    let mut config =
        Config { identity: identity(), name: "board", managers: &managers, port: 50103, plan: AddressPlan::DEFAULT };
    change(&mut config);
    new(&mut resources, config, stack, entropy).err()
}

fn error(change: impl FnOnce(&mut Config<'_>)) -> Option<StartError> {
    start(change, &mut DeterministicRng::new(1))
}

#[test]
fn a_node_starts_with_as_many_sockets_as_it_says() {
    assert_eq!(error(|_| {}), None);
    assert_eq!(error(|config| config.identity.join = Some([7; 32])), None);
    assert_eq!(error(|config| config.identity.boot = 1 << 24), None);
    assert_eq!(error(|config| config.port = 1), None);
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(error(|config| config.managers = &[]), Some(StartError::NoManager));
    assert_eq!(error(|config| config.identity.boot = 0), Some(StartError::Boot));
    assert_eq!(error(|config| config.identity.boot = (1 << 24) + 1), Some(StartError::Boot));
    assert_eq!(error(|config| config.port = 0), Some(StartError::Underlay));
    assert_eq!(start(|_| {}, &mut FailingRng), Some(StartError::NoEntropy));
}

#[test]
fn a_long_name_is_cut_between_two_letters() {
    assert_eq!(cut("board"), "board");
    assert_eq!(cut(&"x".repeat(100)).len(), NODE_NAME_MAX);
    let wide = cut(&"ä".repeat(100));
    assert!(wide.len() >= NODE_NAME_MAX - 1 && wide.chars().all(|letter| letter == 'ä'));
}

#[test]
fn the_public_key_is_that_of_the_tunnels() {
    let mut tunnels = Box::new(Tunnels::<1, 1>::new());
    assert_eq!(tunnels.start(StaticSecret::from_bytes([9; 32]), None, 1), public_key(&[9; 32]));
    // RFC 7748, section 6.1: Alice's keys.
    let private = *b"\x77\x07\x6d\x0a\x73\x18\xa5\x7d\x3c\x16\xc1\x72\x51\xb2\x66\x45\xdf\x4c\x2f\x87\xeb\xc0\x99\x2a\xb1\x77\xfb\xa5\x1d\xb9\x2c\x2a";
    let public = *b"\x85\x20\xf0\x09\x89\x30\xa7\x54\x74\x8b\x7d\xdc\xb4\x3e\xf7\x5a\x0d\xbf\x3a\x0d\x26\x38\x1a\xf4\xeb\xa4\xa9\x8e\xaa\x9b\x4e\x6a";
    assert_eq!(public_key(&private), NodeKey(public));
}
