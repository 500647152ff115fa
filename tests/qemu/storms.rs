//! Who does not belong to the network sends a board whatever it likes, and much of it: the board goes on with its work.

use crate::stage::*;
use crate::stranger::*;
use acorn::identity::NodeKey;
use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use nix::sys::socket::{MsgFlags, SockaddrIn, recvfrom, sendto};
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// A storm: so many datagrams with a pause behind them. The board's chip takes in six at once.
const GUST: usize = 6;
const PAUSE: Duration = Duration::from_millis(1);
/// The same for initiations, of which each costs a hash at least, and mostly an answer.
const LONG_PAUSE: Duration = Duration::from_millis(3);
/// How long a storm blows, in seconds of the board.
const STORM_S: u64 = 4;
/// What is sent as fast as it goes, more than the board can even look at.
const FLOOD: usize = 50_000;

#[test]
fn a_storm_of_garbage_harms_nobody() {
    let stage = Stage::with(&[BOARD_1]);
    let before = calm(&stage);
    let stranger = Stranger::of(&stage);
    let (socket, garbage) = (stranger.socket(), garbage());
    let mut all = garbage.clone().into_iter().cycle();
    let storm = Storm::begin(PAUSE, move || {
        for datagram in all.by_ref().take(GUST) {
            socket.send_to(&datagram, BOARD_1_ENDPOINT).unwrap();
        }
    });
    let meanwhile = ask_in_a_storm(&stage);
    drop(storm);
    for counted in ["malformed", "rejected", "wrong_mac"] {
        assert!(counter(&meanwhile, counted) > counter(&before, counted), "{counted}: {meanwhile}");
    }
    // As fast as it goes: now nobody can be heard, but it ends.
    let socket = stranger.socket();
    for datagram in garbage.iter().cycle().take(FLOOD) {
        socket.send_to(datagram, BOARD_1_ENDPOINT).unwrap();
    }
    nothing_is_lost(&stage, &before);
}

#[test]
fn a_storm_of_faultless_initiations_costs_no_session() {
    let stage = Stage::with(&[BOARD_1]);
    let before = calm(&stage);
    let board = key(&stage, "board1");
    let stranger = Stranger::of(&stage);
    let initiations: Vec<Vec<u8>> = (0..32).map(|number| Initiator::new(&board, number).initiation()).collect();

    // From one address: it gets its burst, and from then on a cookie for each.
    let (socket, mut all) = (stranger.socket(), initiations.clone().into_iter().cycle());
    let storm = Storm::begin(LONG_PAUSE, move || {
        for initiation in all.by_ref().take(GUST) {
            socket.send_to(&initiation, BOARD_1_ENDPOINT).unwrap();
        }
    });
    let meanwhile = ask_in_a_storm(&stage);
    for counted in ["cookies", "unknown_key"] {
        assert!(counter(&meanwhile, counted) > 0, "{counted}: {meanwhile}");
    }
    // Who does show the cookie has proven its address, and comes up to the bound of that.
    let (socket, mut initiator) = (stranger.socket(), Initiator::new(&board, 77));
    until("an address that proved itself to be held back", || {
        prove_and_press(&socket, &mut initiator);
        let reading = stage.reading_at_last(TELEMETRY_IP);
        if counter(&reading, "limited") > 0 { Ok(()) } else { Err(reading.to_string()) }
    });
    drop(storm);

    // From each datagram another address: none of them uses up its burst.
    let (socket, mut all) = (stranger.socket(), further_addresses().zip(initiations.into_iter().cycle()));
    let storm = Storm::begin(LONG_PAUSE, move || {
        for (source, initiation) in all.by_ref().take(GUST) {
            send_from(&socket, source, &initiation, BOARD_1_ENDPOINT);
        }
    });
    let last = ask_in_a_storm(&stage);
    drop(storm);
    let cookies = counter(&last, "cookies") - counter(&meanwhile, "cookies");
    assert!(cookies > 0, "{last}");
    // What was let through to the arithmetic: the bursts, and what a second may have before it is a storm.
    let offered = counter(&last, "unknown_key");
    assert!(offered < counter(&last, "uptime_s") * 8 && offered < counter(&last, "cookies") / 10, "{last}");
    nothing_is_lost(&stage, &before);
}

#[test]
fn a_datagram_of_every_length_breaks_nothing() {
    let stage = Stage::with(&[BOARD_1]);
    let before = calm(&stage);
    let (stranger, mut noise) = (Stranger::of(&stage), Noise::new(3));
    let (socket, asking) = (stranger.socket(), stage.sockets().udp(false, 0).unwrap());
    for len in 0..=1600 {
        let mut data = vec![0; len];
        socket.send_to(&data, BOARD_1_ENDPOINT).unwrap();
        if let Some(first) = data.first_mut() {
            *first = 4;
        }
        socket.send_to(&data, BOARD_1_ENDPOINT).unwrap();
        socket.send_to(&noise.bytes(len), BOARD_1_ENDPOINT).unwrap();
        // It has looked at all three when it answers.
        until(&format!("an answer after {len} bytes"), || asked(&asking, b"?"));
    }
    let after = nothing_is_lost(&stage, &before);
    // What Ethernet carries in one piece is looked at, and is nothing; the rest comes in pieces, which a board does not put together.
    let seen = ["malformed", "rejected"].map(|name| counter(&after, name) - counter(&before, name));
    assert!(seen.iter().sum::<u64>() > 3 * 1400, "{after}");

    // From one who may: UDP of every length is answered as long as it fits the board's buffer for questions.
    for len in 0..=1412 {
        let question = noise.bytes(len);
        if len <= 64 {
            until(&format!("an answer to {len} bytes"), || asked(&asking, &question));
        } else {
            asking.send_to(&question, SocketAddr::new(TELEMETRY_IP, READINGS)).unwrap();
            if len & 3 == 0 {
                until(&format!("an answer after {len} bytes"), || asked(&asking, b"?"));
            }
        }
    }
    nothing_is_lost(&stage, &before);

    // And an echo of every length comes back as it went.
    let raw = stage.sockets().raw(false, 1).unwrap();
    for len in 0..=1400 {
        let data = noise.bytes(len);
        until(&format!("an echo of {len} bytes"), || echoed(&raw, &data));
    }
    nothing_is_lost(&stage, &before);
}

/// A reading once everything is set up. What it counts is what a storm must not change.
fn calm(stage: &Stage) -> Value {
    ping(stage);
    stage.reading_at_last(TELEMETRY_IP)
}

/// Asks the board again and again, over ICMP and TCP. The last reading.
fn ask_in_a_storm(stage: &Stage) -> Value {
    let mut first = None;
    loop {
        ping(stage);
        let reading = stage.reading_at_last(TELEMETRY_IP);
        assert_eq!(reading["standing"], "joined", "{reading}");
        let uptime = counter(&reading, "uptime_s");
        if uptime > *first.get_or_insert(uptime) + STORM_S {
            return reading;
        }
    }
}

/// Waits for one echo. Some are lost in a storm; one of 25 has to come back within 5 s.
fn ping(stage: &Stage) {
    stage.client.run(["ping", "-c", "1", "-i", "0.2", "-w", "5", &TELEMETRY_IP.to_string()]).unwrap();
}

/// The board is the same as before, in the same start, and its sessions are too. A last reading.
fn nothing_is_lost(stage: &Stage, before: &Value) -> Value {
    let after = stage.reading_at_last(TELEMETRY_IP);
    assert_eq!((&after["standing"], &after["boot"]), (&"joined".into(), &before["boot"]), "{after}");
    assert!(counter(&after, "uptime_s") >= counter(before, "uptime_s"), "{after}");
    assert!(counter(&after, "tunnels") >= counter(before, "tunnels"), "{after}");
    assert_eq!(counter(&after, "peers_evicted"), 0, "{after}");
    let log = stage.boards[0].log();
    for trouble in ["panic", "does not answer", "lost"] {
        assert!(!log.contains(trouble), "{log}");
    }
    after
}

/// Random bytes of random lengths. Every other one begins like a message of WireGuard's, some of them of the right length.
fn garbage() -> Vec<Vec<u8>> {
    let mut noise = Noise::new(1);
    let datagram = |number: usize| {
        let kind = noise.below(4);
        let len = if number.is_multiple_of(4) { [148, 92, 64, 32][kind] } else { noise.below(1473) };
        let mut datagram = noise.bytes(len);
        if let (0, Some(head)) = (number & 1, datagram.first_chunk_mut()) {
            *head = [1 + kind as u8, 0, 0, 0];
        }
        datagram
    };
    (0..256).map(datagram).collect()
}

/// Gets a cookie, if one comes, and shows it in far more initiations than a source is granted.
fn prove_and_press(socket: &UdpSocket, initiator: &mut Initiator) {
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(&initiator.initiation(), BOARD_1_ENDPOINT).unwrap();
    let mut answer = [0; 256];
    match socket.recv(&mut answer) {
        Ok(len) if initiator.is_given_cookie(&answer[..len]) => {
            for _ in 0..16 {
                socket.send_to(&initiator.initiation(), BOARD_1_ENDPOINT).unwrap();
            }
        }
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
    }
}

/// Asks for a reading over UDP.
pub fn asked(socket: &UdpSocket, question: &[u8]) -> Result<(), String> {
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.send_to(question, SocketAddr::new(TELEMETRY_IP, READINGS)).unwrap();
    let mut reading = [0; 1500];
    let len = socket.recv(&mut reading).map_err(|error| error.to_string())?;
    serde_json::from_slice::<Value>(&reading[..len]).map(drop).map_err(|error| error.to_string())
}

/// Sends the board an echo request (RFC 792), and takes the reply.
fn echoed(raw: &OwnedFd, data: &[u8]) -> Result<(), String> {
    let (IpAddr::V4(board), number) = (TELEMETRY_IP, data.len() as u16) else { unreachable!("it is an IPv4 address") };
    let header = IcmpEchoHeader { id: 7, seq: number };
    let mut request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(header), data).to_bytes().to_vec();
    request.extend(data);
    let to = SockaddrIn::from(SocketAddrV4::new(board, 0));
    sendto(raw.as_raw_fd(), &request, &to, MsgFlags::empty()).map_err(|error| error.to_string())?;
    let mut packet = [0; 2048];
    loop {
        let received = recvfrom::<SockaddrIn>(raw.as_raw_fd(), &mut packet);
        let (len, _) = received.map_err(|error| error.to_string())?;
        // A raw socket hears everything of its protocol, with the IPv4 header before it.
        let Ok((icmp, echo)) = Icmpv4Header::from_slice(&packet[20..len]) else { continue };
        if icmp.icmp_type == Icmpv4Type::EchoReply(header) {
            return if echo == data { Ok(()) } else { Err(format!("{echo:?} for {data:?}")) };
        }
    }
}

/// The key of a node.
fn key(stage: &Stage, name: &str) -> NodeKey {
    let nodes: Value = stage.root.json(&["node", "ls"]).unwrap();
    let node = nodes["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == name);
    node.and_then(|node| node["key"].as_str()).expect("the node is listed").parse().unwrap()
}
