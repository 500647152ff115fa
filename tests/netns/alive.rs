//! What has to live on although nothing is said for long.

use crate::stage::{PROGRAM, S, S_V6, Stage, at, instance, sockets, until};
use acorn_tests::example::{SERVICE, answers, serve};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// Longer than a NAT or a state table of poor manners would remember, and than most of WireGuard's timers.
const IDLE: Duration = Duration::from_secs(100);

#[test]
fn an_idle_tcp_connection_is_alive_after_100_seconds() {
    let stage = Stage::new();
    let client = sockets(&stage.machines.client);
    let s1 = instance(&stage.service, 1).instance_ip;
    let mut connections = [S, S_V6, s1.into()].map(|ip| client.connect(at(ip, 5001)).unwrap());
    let until = Instant::now() + IDLE;
    for connection in &mut connections {
        connection.write_all(b"before").unwrap();
    }
    for connection in &mut connections {
        let left = until.saturating_duration_since(Instant::now());
        connection.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        // Neither bytes nor an end, nor a reset.
        let silence = connection.read(&mut [0]).unwrap_err();
        assert_eq!(silence.kind(), ErrorKind::WouldBlock, "{silence}");
    }
    assert!(Instant::now() >= until);
    for connection in &mut connections {
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        connection.write_all(b" and after").unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut counted = String::new();
        connection.read_to_string(&mut counted).unwrap();
        assert_eq!(counted.trim(), "before and after".len().to_string());
    }
}

#[test]
fn a_node_that_forgot_another_one_is_reached_by_it_at_once() {
    let stage = Stage::new();
    let (near, _) = stage.attached(&stage.w1, "app.ns.near.ns", "near");
    let (far, attached) = stage.attached(&stage.w2, "app.ns.far.ns", "far");
    let _server = serve(&far, &PROGRAM, "far").unwrap();
    stage.answers_again(2);
    // 10 s after its last flow, which ended 10 s after its last packet, the client's node forgets S and whose it is.
    until("the client's node to forget S", || {
        let table: Value = stage.w2.json(&["table"]).map_err(|error| error.to_string())?;
        let services = table["services"].as_array().cloned().unwrap_or_default();
        let known = services.iter().any(|service| service["name"] == SERVICE);
        if known { Err(table.to_string()) } else { Ok(()) }
    });
    // The other end may still have a session with it. A dial in the other direction must not get lost in that.
    let dialled = Instant::now();
    let address = at(attached.instance_ip, 80).to_string();
    assert_eq!(answers(&near, &PROGRAM, &address, 1).unwrap(), ["far"]);
    assert!(dialled.elapsed() < Duration::from_secs(3), "{:?}", dialled.elapsed());
}
