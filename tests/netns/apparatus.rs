//! The apparatus itself, without Acorn: applications reach each other over a plain underlay, and a capture of that shows
//! everything that a capture of the tunnel must not show.

use acorn_tests::capture::Capture;
use acorn_tests::example::{answers, serve, transfer};
use acorn_tests::traffic::MARKER;
use acorn_tests::world::{BRIDGE, Underlay, World};

const PROGRAM: [&str; 1] = [env!("CARGO_BIN_EXE_acorn-traffic")];

#[test]
fn a_capture_of_plain_traffic_names_it_and_finds_its_text() {
    let world = World::new().unwrap();
    let underlay = Underlay::new(&world).unwrap();
    let [server, client] = ["server", "client"].map(|name| world.namespace(name).unwrap());
    underlay.connect(&server, &["192.168.50.1/24", "2001:db8:50::1/64"]).unwrap();
    underlay.connect(&client, &["192.168.50.2/24", "2001:db8:50::2/64"]).unwrap();
    let _server = serve(&server, &PROGRAM, "S1").unwrap();

    let capture = Capture::start(&world, underlay.wire(), "wire-capture", BRIDGE, &PROGRAM).unwrap();
    assert_eq!(answers(&client, &PROGRAM, "192.168.50.1:80", 3).unwrap(), ["S1"; 3]);
    assert_eq!(answers(&client, &PROGRAM, "[2001:db8:50::1]:80", 2).unwrap(), ["S1"; 2]);
    assert!(transfer(&client, &PROGRAM, "192.168.50.1", 4).unwrap() > 0.0);
    let seen = capture.finish(MARKER).unwrap();

    assert_eq!(seen.acorn, 0, "{seen:?}");
    assert!(seen.readable >= 5, "{seen:?}");
    assert!(seen.link > 0, "{seen:?}");
    let answers_seen = |family: &str| {
        seen.other.iter().any(|(kind, count)| kind.starts_with(&format!("{family} TCP 80 to ")) && *count > 0)
    };
    assert!(answers_seen("IPv4") && answers_seen("IPv6"), "{seen:?}");
}

#[test]
fn a_request_that_nobody_answers_is_an_error_that_names_the_address() {
    let world = World::new().unwrap();
    let container = world.namespace("lonely").unwrap();
    let error = answers(&container, &PROGRAM, "10.30.0.1:80", 1).unwrap_err().to_string();
    assert!(error.contains("GET http://10.30.0.1:80/") && error.contains("unreachable"), "{error}");
}
