//! Who is not of the network gets no answer at all, whatever it sends; and who is may not speak for others.

use crate::impostor::{Impostor, udp_packet};
use crate::stage::{Stage, drops, instance, sockets, until};
use acorn::identity::{HandshakeClock, Identity, NodeKey};
use acorn_tests::acorn::Acorn;
use acorn_tests::example::MACHINES;
use acorn_tests::world::Namespace;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than an answer takes by far, and than a node asks its manager about a key.
const SILENCE: Duration = Duration::from_secs(2);
/// Datagrams that are sent before their count is looked at, so that the receiver's buffer keeps them all.
const BATCH: usize = 64;

#[test]
fn damaged_datagrams_are_counted_harm_nobody_and_get_no_answer() {
    let stage = Stage::new();
    let stranger = stranger(&stage);
    let socket = sockets(&stranger).udp(false, 0).unwrap();
    for (daemon, machine) in [(&stage.root, 0), (&stage.w1, 1)] {
        let to = endpoint(machine);
        let damaged = damaged_datagrams();
        for batch in damaged.chunks(BATCH) {
            let before = tunnel_drops(daemon);
            for datagram in batch {
                socket.send_to(datagram, to).unwrap();
            }
            let sent = batch.len() as u64;
            until("every datagram to be counted as dropped", || match tunnel_drops(daemon) - before {
                counted if counted >= sent => Ok(()),
                counted => Err(format!("{counted} of {sent}")),
            });
        }
    }
    assert_silence(&socket);
    // Everybody is alive and at work.
    stage.answers_again(4);
    stage.root.run(["node", "ls"]).unwrap();
}

#[test]
fn a_faultless_handshake_with_an_unknown_key_gets_no_answer() {
    let stage = Stage::new();
    let stranger = stranger(&stage);
    let identity = Identity::generate().unwrap();
    for (daemon, machine) in [(&stage.root, 0), (&stage.w1, 1)] {
        let before = unknown_keys(daemon);
        let mut impostor = Impostor::new(&stranger, &identity, since_1970());
        let peer = impostor.peer(key(daemon), endpoint(machine));
        impostor.send(peer, b"let me in");
        assert!(!impostor.is_answered(peer, SILENCE), "{machine}");
        until("the key to be counted as unknown", || match unknown_keys(daemon) - before {
            0 => Err("not yet"),
            _ => Ok(()),
        });
    }
    stage.answers_again(2);
}

#[test]
fn a_node_that_speaks_for_others_is_not_believed() {
    let mut stage = Stage::new();
    stage.answers_again(2);
    let w1 = key(&stage.w1);
    let client: Value = stage.root.json(&["service", "show", "app.ns.client.ns"]).unwrap();
    let client: Ipv4Addr = client["instances"][0]["instance_ip"].as_str().unwrap().parse().unwrap();
    let (s1, s2) = (instance(&stage.service, 1), instance(&stage.service, 2));
    let (to, own, others) = (s1.namespace_ip.unwrap(), client, s2.instance_ip);

    // The test takes over w2: its address, its port and its key.
    stage.w2.kill().unwrap();
    let state = |file: &str| stage.world.outside(&format!("w2-state/{file}"));
    let identity = Identity::load(&state("key")).unwrap();
    let clock = HandshakeClock::start(&state("handshake-clock"), since_1970()).unwrap();
    let mut impostor = Impostor::new(&stage.machines.w2, &identity, clock.start_time());
    let peer = impostor.peer(w1, endpoint(1));
    let server = sockets(&stage.machines.s1).udp(false, 7000).unwrap();

    impostor.send(peer, &udp_packet(others, to, 7000, b"as another"));
    assert!(impostor.is_answered(peer, SILENCE), "w1 knows the key of w2");
    for (reason, payload) in [
        ("spoofed_source", udp_packet(others, to, 7000, b"as another again")),
        ("spoofed_source", udp_packet(s1.instance_ip, to, 7000, b"as the receiver itself")),
        ("unknown_service", udp_packet(Ipv4Addr::new(10, 30, 77, 77), to, 7000, b"as nobody")),
        ("not_ours", udp_packet(own, Ipv4Addr::new(10, 18, 30, 100), 7000, b"to nobody")),
        ("malformed", vec![0x45; 12]),
        ("not_a_manager", vec![0x01; 32]),
    ] {
        let before = drops(&stage.w1, reason);
        impostor.send(peer, &payload);
        until(&format!("{payload:?} to be dropped as {reason}"), || match drops(&stage.w1, reason) - before {
            0 => Err("it is not counted so"),
            _ => Ok(()),
        });
    }
    // Only what it says for itself arrives.
    impostor.send(peer, &udp_packet(own, to, 7000, b"as myself"));
    let mut buffer = [0; 64];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"as myself");
    assert_eq!(from.ip(), own);
}

/// Empty, short, long, random and cut ones, of every length up to 200 and with every first byte.
fn damaged_datagrams() -> Vec<Vec<u8>> {
    // Weyl's sequence: as good as random here, and the same in every run.
    let mut state = 0_u32;
    let mut noise = move |len: usize| -> Vec<u8> {
        let byte = |_| {
            state = state.wrapping_add(0x9e37_79b9);
            (state ^ (state >> 15)).to_be_bytes()[0]
        };
        (0..len).map(byte).collect()
    };
    let mut all: Vec<Vec<u8>> = (0..=255).map(|first| vec![first]).collect();
    all.extend((0..=200).map(&mut noise));
    // WireGuard's messages begin with their type and three zeros; 148, 92, 64 and 32 bytes are right or shortest.
    for kind in 1..=4 {
        for len in (4..=200).step_by(3).chain([32, 64, 92, 148]) {
            let mut message = noise(len);
            message[..4].copy_from_slice(&[kind, 0, 0, 0]);
            all.push(message);
        }
    }
    // An IP packet in the clear.
    all.push(udp_packet(Ipv4Addr::new(10, 30, 0, 2), Ipv4Addr::new(10, 18, 30, 65), 80, b"plain"));
    all
}

/// A machine on the underlay that belongs to nobody.
fn stranger(stage: &Stage) -> Namespace {
    let stranger = stage.world.namespace("stranger").unwrap();
    stage.machines.underlay.connect(&stranger, &["192.168.50.99/24"]).unwrap();
    stranger
}

fn endpoint(machine: usize) -> SocketAddr {
    format!("{}:50103", MACHINES[machine].1).parse().unwrap()
}

#[track_caller]
fn assert_silence(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = [0; 2048];
    match socket.recv_from(&mut buffer) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        Ok((len, from)) => panic!("{from} answered {:?}", &buffer[..len]),
    }
}

fn key(daemon: &Acorn) -> NodeKey {
    let status: Value = daemon.json(&["status"]).unwrap();
    status["node_key"].as_str().unwrap().parse().unwrap()
}

fn tunnel_drops(daemon: &Acorn) -> u64 {
    sum(daemon, "tunnel_drop_")
}

fn unknown_keys(daemon: &Acorn) -> u64 {
    sum(daemon, "tunnel_unknown_keys_kept")
}

fn sum(daemon: &Acorn, prefix: &str) -> u64 {
    let status: Value = daemon.json(&["status"]).unwrap();
    let counters = status["counters"].as_object().unwrap().iter();
    let named = counters.filter(|(name, _)| name.starts_with(prefix));
    named.filter_map(|(_, count)| count.as_u64()).sum()
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
