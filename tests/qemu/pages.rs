//! Clients that a board's page must not be held up by: it has one connection at a time.

use crate::stage::*;
use acorn_tests::sockets::Sockets;
use etherparse::TcpHeader;
use nix::sys::socket::{MsgFlags, SockaddrIn, recvfrom, sendto};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

const PAGE: u16 = 80;
/// A port of the client whose connections nobody finishes.
const HALF_OPEN: u16 = 45_000;

#[test]
fn a_page_is_served_whatever_the_client_before_did() {
    let stage = Stage::with(&[BOARD_1]);
    served(&stage, "nobody");
    // More than there is room for: refused, and read no further.
    let mut long = connect(&stage);
    let request = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(10_000));
    // It is cut off while it is still being sent.
    let _ = long.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    served(&stage, "a request of 10 kB");

    half_open(&stage);
    served(&stage, "a connection that was never finished");

    let silent = connect(&stage);
    served(&stage, "a client that says nothing");
    drop(silent);

    // A letter now and then keeps a connection alive, but not for longer than a request may take.
    let mut slow = connect(&stage);
    let letters = "GET / HTTP/1.1\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
    let said = letters.take(200).take_while(|letter| {
        std::thread::sleep(Duration::from_millis(100));
        slow.write_all(&[*letter]).is_ok()
    });
    assert!(said.count() < 200, "a request may take 20 s");
    served(&stage, "a slow client");
    assert_eq!(stage.reading_at_last(TELEMETRY_IP)["boot"], 1);
}

/// Waits until the board serves its page.
fn served(stage: &Stage, after: &str) {
    until(&format!("the page after {after}"), || {
        let mut client = stage.sockets().connect(SocketAddr::new(TELEMETRY_IP, PAGE)).map_err(|e| e.to_string())?;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").map_err(|e| e.to_string())?;
        let page = std::io::read_to_string(client).map_err(|e| e.to_string())?;
        if page.contains("<title>board1</title>") { Ok(()) } else { Err(page) }
    });
}

fn connect(stage: &Stage) -> TcpStream {
    until("a connection", || stage.sockets().connect(SocketAddr::new(TELEMETRY_IP, PAGE)))
}

/// Sends a SYN and leaves it at that: the client's kernel, which knows of no such connection, is kept from saying so.
fn half_open(stage: &Stage) {
    let port = HALF_OPEN.to_string();
    stage.client.run(["ip", "rule", "add", "ipproto", "tcp", "sport", &port, "blackhole", "pref", "1"]).unwrap();
    let sockets = Sockets::of(&stage.client, &PROGRAM);
    let asking = sockets.udp(false, 0).unwrap();
    asking.connect(SocketAddr::new(TELEMETRY_IP, PAGE)).unwrap();
    let (IpAddr::V4(from), IpAddr::V4(to)) = (asking.local_addr().unwrap().ip(), TELEMETRY_IP) else { unreachable!() };
    let mut syn = TcpHeader::new(HALF_OPEN, PAGE, 1, 1024);
    syn.syn = true;
    syn.checksum = syn.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).unwrap();
    let raw = sockets.raw(false, 6).unwrap();
    let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
    sendto(raw.as_raw_fd(), &syn.to_bytes(), &to, MsgFlags::empty()).unwrap();
    // It answers, and waits for the rest from now on. A raw socket receives the IPv4 header too.
    let mut answer = [0; 128];
    let (len, _) = recvfrom::<SockaddrIn>(raw.as_raw_fd(), &mut answer).unwrap();
    assert_eq!(answer[..len].get(20 + 13), Some(&0x12), "SYN and ACK: {:?}", &answer[..len]);
}
