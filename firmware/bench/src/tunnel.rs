//! What WireGuard costs: a handshake, step by step, and a payload each way.

use static_cell::StaticCell;
use wireguard_sans_io::testing::DeterministicRng;
use wireguard_sans_io::{Config, Encapsulated, Now, Received, StaticSecret, Tunnel};

use crate::marks;

/// Bytes of the payload that is sealed and opened.
const PAYLOAD: usize = 1200;

/// What WireGuard adds to a payload, and what one is padded to at the most, in bytes.
const ADDED: usize = 32 + 15;

/// One side's tunnel and what it writes.
struct End {
    tunnel: Tunnel,
    out: [u8; PAYLOAD + ADDED],
    rng: DeterministicRng,
}

/// Measures a handshake and a payload.
pub fn measure() {
    static ENDS: [StaticCell<End>; 2] = [const { StaticCell::new() }; 2];
    let secret = |byte| StaticSecret::from_bytes([byte; 32]);
    let end = |own, peer, cell: &'static StaticCell<End>| {
        cell.init_with(|| End {
            tunnel: Tunnel::new(Config::new(secret(own), secret(peer).public_key())).expect("the keys are good"),
            out: [0; PAYLOAD + ADDED],
            rng: DeterministicRng::new(own.into()),
        })
    };
    let [initiator, responder] = &ENDS;
    let (initiator, responder) = (end(1, 2, initiator), end(2, 1, responder));
    let (now, payload) = (Now::new(1, 1, 0), &[0x5a; PAYLOAD]);

    let initiation = marks::measure("handshake-initiation", 1, || initiator.seal(now, payload));
    let response = marks::measure("handshake-response", 1, || responder.open(now, initiation));
    let completed = marks::measure("handshake-completion", 1, || initiator.open(now, response));
    assert!(completed.is_empty(), "the response did not complete the handshake");
    // The first payload of a session confirms it; the second one is what all others are like.
    let first = initiator.seal(now, payload);
    assert!(responder.open(now, first) == payload, "the first payload was not opened");
    let sealed = marks::measure("seal-1200", 1, || initiator.seal(now, payload));
    let opened = marks::measure("open-1200", 1, || responder.open(now, sealed));
    assert!(opened == payload, "the payload was not opened");
}

impl End {
    /// The datagram that a payload, or the wish to send one, becomes.
    fn seal(&mut self, now: Now, payload: &[u8]) -> &[u8] {
        match self.tunnel.encapsulate(now, payload, &mut self.out, &mut self.rng) {
            Ok(Encapsulated::Transport(datagram) | Encapsulated::HandshakeInitiation(datagram)) => datagram,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// What a datagram becomes: an answer, a payload, or nothing when it completes a handshake.
    fn open(&mut self, now: Now, datagram: &[u8]) -> &[u8] {
        match self.tunnel.decapsulate(now, &[192, 0, 2, 1], false, datagram, &mut self.out, &mut self.rng) {
            Ok(Received::Reply(bytes) | Received::Data(bytes)) => bytes,
            Ok(Received::HandshakeComplete) => &[],
            Ok(other) => panic!("{other:?}"),
            Err(error) => panic!("{error:?}"),
        }
    }
}
