//! Boards that were told nonsense, or find nobody who answers: they say what is wrong, and go on as soon as it is put right.

use crate::stage::*;
use crate::stranger::Storm;
use acorn::identity::{Identity, NodeKey};
use acorn::tunnel::{Local, MAX_PAYLOAD, Opened, Sealed, Tunnels, sealed_len};
use acorn_core::provision::{DEFAULT_PORT, PROVISIONING_MAX, Provisioning, ProvisioningError, SecretKey, Underlay};
use acorn_core::sync::message::{ManagerRecord, PROTOCOL_VERSION};
use acorn_tests::board::{self, Board, Plan, Programs};
use acorn_tests::example;
use acorn_tests::sockets::Sockets;
use acorn_tests::world::{self, Namespace, World};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a board says of a manager that does not answer.
const SILENCE: &str = "the manager does not answer: is it up, and is the token unused and not expired?";
/// A board says every 30 s why it can't start.
const SAID_AGAIN: Duration = Duration::from_secs(60);
/// A board tries its keys in turn, 12 s each, and the library repeats a handshake after 5 s.
const JOINED_AT_LAST: Duration = Duration::from_secs(60);
/// A call that nobody answers is given up after 10 s.
const FAILED_TWICE: Duration = Duration::from_secs(45);

#[test]
fn a_board_without_a_blob_that_it_can_use_says_so_and_stays() {
    let world = World::new().unwrap();
    let underlay = world::Underlay::new(&world).unwrap();
    let programs = Programs::from_environment().unwrap();
    let whole = blob(&Identity::generate().unwrap(), NodeKey([9; 32]));
    let changed = |place: usize, by: u8| {
        let mut blob = whole.clone();
        blob[place] ^= by;
        blob
    };
    let mut boards = Vec::new();
    for (number, (name, blob, trouble)) in (1..).zip([
        ("empty", vec![0; PROVISIONING_MAX], ProvisioningError::Missing),
        ("damaged", changed(whole.len() / 2, 0x10), ProvisioningError::Damaged),
        ("foreign", changed(4, 1 ^ 7), ProvisioningError::Version { found: 7 }),
    ]) {
        fs::write(world.outside(&format!("{name}.bin")), blob).unwrap();
        let plan = Plan { name, number, address: "", serve: None, call: None };
        boards.push((Board::start(&world, &underlay, &programs, &plan).unwrap(), trouble));
    }
    for (board, trouble) in &mut boards {
        let line = format!("this board can't start: {trouble}");
        let again = board.wait_for(&line, 2, SAID_AGAIN).unwrap();
        // Its watchdog bites after 16 s: the clock that the lines begin with would have begun anew.
        let first = board.log().lines().find(|said| said.contains(&line)).map(uptime).unwrap();
        assert!(uptime(&again) - first > 25.0, "{}", board.log());
        assert_eq!(board.count("can't start"), 2, "{}", board.log());
    }
}

#[test]
fn a_board_waits_for_its_manager_its_service_and_its_collector() {
    let mut stage = Stage::without_boards();
    let (late, lonely) = ("farm.prod.late.prod", "farm.prod.lonely.prod");
    stage.root.run(["service", "create", "--name", lonely]).unwrap();
    let collector: acorn_tests::acorn::Service = stage.root.json(&["service", "show", lonely]).unwrap();
    let call = format!("{}:80", collector.round_robin().unwrap().ipv4);
    let plan = Plan { serve: Some(late), call: Some((&call, 1)), ..BOARD_1 };
    board::provision(&stage.world, &stage.root, ENDPOINT, &plan).unwrap();

    stage.root.kill().unwrap();
    let mut board = Board::start(&stage.world, &stage.underlay, &stage.programs, &plan).unwrap();
    board.wait_for(SILENCE, 1, PATIENCE).unwrap();
    // It does not know whether the manager knows it already, so it tries with both keys.
    board.wait_for("trying the node's own key", 1, PATIENCE).unwrap();
    stage.root.restart("root-again").unwrap();
    board.wait_for("INFO  joined", 1, JOINED_AT_LAST).unwrap();

    board.wait_for("there is no service of this name: create it at the root", 2, PATIENCE).unwrap();
    assert_eq!(board.count("attached as instance"), 0, "{}", board.log());
    stage.root.run(["service", "create", "--name", late]).unwrap();
    board.wait_for("attached as instance 0", 1, PATIENCE).unwrap();

    board.wait_for("failed so far", 1, PATIENCE).unwrap();
    assert_eq!(board.count("answered by"), 0, "{}", board.log());
    let container = stage.world.namespace("lonely").unwrap();
    stage.linux.run(["instance", "attach", "--service", lonely, "--netns", "lonely"]).unwrap();
    stage.servers.push(example::serve(&container, &PROGRAM, "lonely").unwrap());
    board.wait_for("answered by lonely", 3, PATIENCE).unwrap();
    assert_eq!(board.count(", start 1"), 1, "{}", board.log());
    assert_eq!(board.count(", start 2"), 0, "{}", board.log());
}

#[test]
fn a_token_that_admits_nobody_is_told_of_and_a_new_one_helps() {
    let mut stage = Stage::with(&[BOARD_1]);
    // The second board calls what no service has.
    let used = Plan { call: Some(("10.30.200.200:80", 1)), ..BOARD_2 };
    let expired = Plan { name: "board3", number: 3, address: "192.168.50.23/24", ..BOARD_2 };
    provision(&stage, &used, "board1.token");
    let token: Value = stage.root.json(&["token", "create", "--endpoint", ENDPOINT, "--expires", "5"]).unwrap();
    stage.world.write("board3.token", token["tokens"][0].as_str().unwrap()).unwrap();
    let ends = provision(&stage, &expired, "board3.token");
    // The root's clock may be a second behind.
    until("the token to expire", || match (ends + 2).saturating_sub(since_1970().as_secs()) {
        0 => Ok(()),
        left => Err(format!("{left} s are left")),
    });
    for plan in [&used, &expired] {
        stage.boards.push(Board::start(&stage.world, &stage.underlay, &stage.programs, plan).unwrap());
    }
    for place in [1, 2] {
        // The root is silent about a token that it has forgotten, and refuses one that it has not forgotten yet. Both lines name the token.
        stage.boards[place].wait_for("token", 1, PATIENCE).unwrap();
        stage.boards[place].wait_for("trying the node's own key", 1, PATIENCE).unwrap();
        assert_eq!(stage.boards[place].count("joined"), 0, "{}", stage.boards[place].log());
    }
    // What an operator does then.
    for (place, plan) in [(1, &used), (2, &expired)] {
        stage.boards[place].power_off().unwrap();
        fs::remove_file(stage.world.outside(&format!("{}.bin", plan.name))).unwrap();
        board::provision(&stage.world, &stage.root, ENDPOINT, plan).unwrap();
        stage.boards[place].power_on().unwrap();
    }
    let instances = [1, 2].map(|place| stage.attached(place));
    // What nothing answers at is logged, and the next call is made, and it keeps it from nothing else.
    stage.boards[1].wait_for("failed so far", 2, FAILED_TWICE).unwrap();
    for instance in instances {
        assert_eq!(stage.reading_at_last(instance)["standing"], "joined");
    }
}

#[test]
fn a_manager_of_a_newer_protocol_is_told_of() {
    let world = World::new().unwrap();
    let underlay = world::Underlay::new(&world).unwrap();
    let machine = world.namespace("root").unwrap();
    underlay.connect(&machine, &["192.168.50.1/24"]).unwrap();
    let (manager, board) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    fs::write(world.outside("board1.bin"), blob(&board, manager.public())).unwrap();
    let mut newer = NewerManager::new(&machine, &manager, &board.public());
    let _answers = Storm::begin(Duration::ZERO, move || newer.answer());
    let programs = Programs::from_environment().unwrap();
    let mut board = Board::start(&world, &underlay, &programs, &BOARD_1).unwrap();
    let line = format!(
        "the manager speaks another protocol version: use the same release at both ends (it speaks version {})",
        PROTOCOL_VERSION + 1
    );
    board.wait_for(&line, 1, PATIENCE).unwrap();
    assert_eq!(board.count("joined"), 0, "{}", board.log());
}

/// A manager of the version to come: whatever it is told, it answers in its own.
struct NewerManager {
    tunnels: Tunnels,
    socket: UdpSocket,
    datagram: Vec<u8>,
    payload: Vec<u8>,
}

impl NewerManager {
    fn new(machine: &Namespace, identity: &Identity, board: &NodeKey) -> NewerManager {
        let seed: [u8; 32] = *Identity::generate().unwrap().public().as_bytes();
        let mut tunnels = Tunnels::new(identity, seed.into(), Instant::now(), since_1970());
        tunnels.add_peer(*board, None, Local::Own, Instant::now()).unwrap();
        let socket = Sockets::of(machine, &PROGRAM).udp(false, DEFAULT_PORT).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let room = sealed_len(MAX_PAYLOAD);
        NewerManager { tunnels, socket, datagram: vec![0; room], payload: vec![0; room] }
    }

    /// Takes in what comes within 100 ms.
    fn answer(&mut self) {
        let now = Instant::now();
        match self.socket.recv_from(&mut self.datagram) {
            Ok((len, from)) => {
                let opened = self.tunnels.open(from, &self.datagram[..len], &mut self.payload, now);
                if let Opened::Data { peer, .. } = opened {
                    let message = [PROTOCOL_VERSION + 1, 1, 2, 3];
                    if let Sealed::Datagram { to, len } =
                        self.tunnels.seal(peer, &message, &mut self.datagram, now).unwrap()
                    {
                        self.socket.send_to(&self.datagram[..len], to).unwrap();
                    }
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        self.tunnels.handle_timeout(now);
        while let Some(transmit) = self.tunnels.poll_transmit(&mut self.datagram, now) {
            self.socket.send_to(&self.datagram[..transmit.len], transmit.to).unwrap();
        }
    }
}

/// The blob of the first board, for a manager that knows its key already.
fn blob(board: &Identity, manager: NodeKey) -> Vec<u8> {
    let endpoint: SocketAddr = ENDPOINT.parse().unwrap();
    let provisioning = Provisioning {
        key: SecretKey::from(*board.private().as_bytes()),
        name: "board1".try_into().unwrap(),
        underlay: Underlay::Static { address: [192, 168, 50, 21].into(), prefix: 24, gateway: None },
        managers: [ManagerRecord { key: manager, endpoint: endpoint.into() }].into_iter().collect(),
        join: None,
        port: DEFAULT_PORT,
        serve: None,
        call: None,
    };
    provisioning.encode(&mut [0; PROVISIONING_MAX]).unwrap().to_vec()
}

/// Writes the blob of a board with a token that is there already. Returns when the token ends, in seconds since 1970.
fn provision(stage: &Stage, plan: &Plan<'_>, token: &str) -> u64 {
    let (token, output) = (stage.world.inside(token), stage.world.inside(&format!("{}.bin", plan.name)));
    let mut line = vec!["firmware", "provision", "--token-file", &token, "--name", plan.name];
    line.extend(["--ip", plan.address, "--output", &output]);
    let provisioned: Value = stage.root.json(&line).unwrap();
    provisioned["token_expires"].as_u64().unwrap()
}

/// The seconds since its start that a board put before a line of its log.
fn uptime(line: &str) -> f64 {
    let digits = line.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_else(|_| panic!("no time before {line:?}"))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
