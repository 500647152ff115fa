//! What goes wrong around boards that are members: cables, managers, peers, packets and power come and go. The boards get over it by
//! themselves.

use crate::stage::*;
use acorn_tests::board::{Board, Plan};
use acorn_tests::example;
use acorn_tests::world::INTERFACE;
use serde_json::Value;
use std::fmt::Display;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long the cable is out.
const CABLE_OUT: Duration = Duration::from_secs(20);
/// How long a board takes at most to notice that its manager is gone: its lease of 60 s.
const LEASE_OVER: Duration = Duration::from_secs(75);
/// How soon a board's peers speak to it again after its reset.
const SPEAKING_AGAIN: Duration = Duration::from_secs(5);
/// How long an idle board is watched.
const WATCHED: Duration = Duration::from_secs(35);
/// How often an idle board may wake up in a second.
const WAKEUPS_PER_S: f64 = 2.0;
/// Bytes of a board's stack that nothing here may touch.
const STACK_MARGIN: u64 = 8 * 1024;

/// What boards log.
const STARTED: &str = ", start ";
const JOINED: &str = " joined";
const ATTACHED: &str = "attached as instance";
const ALONE: &str = "joined, but the manager does not answer now";
const NO_UNDERLAY: &str = "no link or no address on the underlay";
const ANSWERED: &str = "answered by";
const FAILED: &str = "failed so far";
const CLASH: &str = "uses this board's underlay address";
const PANICKED: &str = "the last start ended in a panic";

#[test]
fn a_cable_that_was_out_for_20_s_is_forgotten() {
    let mut stage = Stage::with(&[BOARD_1]);
    let address = stage.attached(0);
    let before = stage.reading_at_last(address);
    let (answered, joined) = (stage.boards[0].count(ANSWERED), joined(&stage.boards[0]));

    stage.boards[0].set_link(false).unwrap();
    stage.boards[0].wait_for(NO_UNDERLAY, 1, PATIENCE).unwrap();
    throughout(CABLE_OUT, || match stage.reading(address) {
        Ok(reading) => Err(format!("an answer without a cable: {reading}")),
        Err(_) => Ok(()),
    });
    stage.boards[0].set_link(true).unwrap();

    let after = stage.reading_at_last(address);
    assert_eq!(after["boot"], before["boot"]);
    assert!(counter(&after, "uptime_s") >= counter(&before, "uptime_s") + CABLE_OUT.as_secs(), "{after}");
    joined_again(&stage.boards[0], joined);
    stage.boards[0].wait_for(ANSWERED, answered + 4, PATIENCE).unwrap();
    assert_eq!(stage.boards[0].count(ATTACHED), 1, "its instance was lost");
    has_room(&stage, 0, address);
}

#[test]
fn a_dead_root_is_not_missed_and_boards_are_members_again_when_it_is_back() {
    let mut stage = Stage::with(&[BOARD_1, BOARD_2]);
    let (first, second) = (stage.attached(0), stage.attached(1));
    let lines = [line(&stage.boards[0], ATTACHED), line(&stage.boards[1], ATTACHED)];
    stage.boards[0].wait_for(ANSWERED, 1, PATIENCE).unwrap();
    stage.reading_at_last(first);
    stage.reading_at_last(TELEMETRY_IP);
    example::answers(&stage.client, &PROGRAM, &format!("{COLLECTOR_IP}:80"), 2).unwrap();

    // Away for a moment, which nobody notices.
    stage.root.kill().unwrap();
    goes_on(&mut stage, first);
    stage.root.restart("root").unwrap();
    goes_on(&mut stage, first);
    until("the root to know the boards again", || {
        let nodes = stage.nodes().nodes;
        if nodes.len() == 3 && nodes.iter().all(|node| node.alive) { Ok(()) } else { Err(format!("{nodes:?}")) }
    });

    // Away for longer than a board's lease. A board that starts meanwhile waits for it.
    let before = [joined(&stage.boards[0]), joined(&stage.boards[1])];
    stage.root.kill().unwrap();
    stage.boards[1].reset().unwrap();
    stage.boards[1].wait_for(STARTED, 2, PATIENCE).unwrap();
    stage.boards[1].wait_for(ALONE, 1, PATIENCE).unwrap();
    // What nobody has asked for in ten seconds is forgotten, so it is asked for all the time.
    let began = Instant::now();
    while stage.boards[0].count(ALONE) == 0 {
        assert!(began.elapsed() < LEASE_OVER, "{}", stage.boards[0].log());
        goes_on(&mut stage, first);
    }
    assert_eq!([joined(&stage.boards[0]), joined(&stage.boards[1])], before);
    goes_on(&mut stage, first);

    stage.root.restart("root").unwrap();
    for (place, address) in [first, second].into_iter().enumerate() {
        joined_again(&stage.boards[place], before[place]);
        stage.boards[place].wait_for(ATTACHED, 1 + place, PATIENCE).unwrap();
        assert_eq!(line(&stage.boards[place], ATTACHED), lines[place]);
        stage.reading_at_last(address);
        has_room(&stage, place, address);
    }
    assert_eq!(stage.boards[0].count(ATTACHED), 1, "its instance was lost");
    goes_on(&mut stage, first);
}

#[test]
fn peers_speak_to_a_board_again_within_5_s_of_its_reset() {
    let mut stage = Stage::with(&[BOARD_1]);
    let address = stage.attached(0);
    let attached = line(&stage.boards[0], ATTACHED);
    let call = format!("{address}:80");
    stage.add(&Plan { call: Some((&call, 1)), ..BOARD_2 });
    // It posts, and a page is not posted to: its answer is a refusal.
    let answered = "the answer is a refusal";
    stage.boards[1].wait_for(answered, 1, PATIENCE).unwrap();

    for (start, is_cut_off) in [(2, false), (3, true)] {
        // Its peers have known it for longer than a handshake may be repeated in: WireGuard paces those 5 s apart.
        until("the tunnels to be older than 5 s", || match stage.reading(address) {
            Ok(reading) if counter(&reading, "uptime_s") > 6 && counter(&reading, "boot") == start - 1 => Ok(()),
            other => Err(format!("{other:?}")),
        });
        if is_cut_off {
            stage.boards[0].power_off().unwrap();
            stage.boards[0].power_on().unwrap();
        } else {
            stage.boards[0].reset().unwrap();
        }
        let began = Instant::now();
        let from_linux = until("the board to answer Linux after its reset", || match stage.reading(address) {
            Ok(reading) if counter(&reading, "boot") == start => Ok(began.elapsed()),
            other => Err(format!("{other:?}")),
        });
        // What the other board has heard by now may be of the time before.
        let heard = stage.boards[1].count(answered);
        stage.boards[1].wait_for(answered, heard + 1, PATIENCE).unwrap();
        let from_board = began.elapsed();
        eprintln!(
            "start {start}: Linux was answered after {from_linux:?}, the other board after {from_board:?} at most"
        );
        assert!(from_linux.max(from_board) <= SPEAKING_AGAIN, "{from_linux:?} {from_board:?}");
        assert_eq!(line(&stage.boards[0], ATTACHED), attached);
        assert_eq!(stage.boards[0].count(ATTACHED) as u64, start);
    }
    assert_eq!(stage.boards[1].count(STARTED), 1);
    has_room(&stage, 0, address);
    has_room(&stage, 1, stage_address(&stage, 1));
}

#[test]
fn a_board_that_panicked_starts_anew_and_says_why() {
    let mut stage = Stage::with(&[BOARD_1]);
    let address = stage.attached(0);
    // Nothing from a network makes the firmware panic. A storage that holds nonsense does: it can't start without its counter.
    let state = stage.world.outside("board1.state");
    let whole = until("the board to have stored that it was taken in", || match fs::read(&state) {
        Ok(bytes) if bytes.get(8) == Some(&1) => Ok(bytes),
        other => Err(format!("{other:?}")),
    });
    fs::write(&state, "nonsense").unwrap();
    stage.boards[0].reset().unwrap();
    stage.boards[0].wait_for("Corrupt", 2, PATIENCE).unwrap();
    fs::write(&state, whole).unwrap();

    let told = stage.boards[0].wait_for(PANICKED, 1, PATIENCE).unwrap();
    assert!(told.contains("panic: "), "{told}");
    let reading = stage.reading_at_last(address);
    assert_eq!(counter(&reading, "boot"), 2, "starts that came to nothing are not counted");
    assert_eq!(stage.boards[0].count(PANICKED), 1, "said once");
}

#[test]
fn a_lossy_underlay_slows_a_board_down_and_no_more() {
    let mut stage = Stage::without_boards();
    let wire = stage.underlay.wire().clone();
    // Of all frames between the machines, whoever sends them, one in five is lost.
    let rules = "table bridge lossy { chain frames { type filter hook forward priority 0; numgen random mod 100 < 20 drop; }; }";
    wire.run(["nft", rules]).unwrap();
    stage.add(&BOARD_1);
    let address = stage.attached(0);
    stage.boards[0].power_off().unwrap();
    stage.boards[0].power_on().unwrap();
    stage.boards[0].wait_for(ATTACHED, 2, PATIENCE).unwrap();

    // A handshake that loses a message is repeated after 5 s.
    until("a whole reading", || whole_reading(&stage, address));
    let at = address.to_string();
    let pings = ["ping", "-c", "50", "-i", "0.1", "-W", "2", "-q", &at];
    let told = String::from_utf8_lossy(&stage.client.output(&pings).unwrap().stdout).into_owned();
    let lost = told.split("% packet loss").next().and_then(|text| text.rsplit(' ').next()?.parse::<f64>().ok());
    // Of 100, 64 come back on the average.
    assert!(lost.is_some_and(|lost| (10.0..70.0).contains(&lost)), "{told}");
    // A connection may fail, but what ends well is whole.
    for _ in 0..8 {
        until("a whole reading", || whole_reading(&stage, address));
    }
    stage.boards[0].wait_for(ANSWERED, 8, PATIENCE).unwrap();
    assert_eq!(stage.boards[0].count(STARTED), 2);

    wire.run(["nft", "delete table bridge lossy"]).unwrap();
    stage.client.run(["ping", "-c", "10", "-i", "0.1", "-W", "2", &at]).unwrap();
    has_room(&stage, 0, address);
}

#[test]
fn a_board_calls_who_is_left_when_a_node_dies_and_all_when_it_is_back() {
    let mut stage = Stage::without_boards();
    let other = stage.world.namespace("other").unwrap();
    stage.underlay.connect(&other, &["192.168.50.12/24"]).unwrap();
    let binary = acorn_tests::acorn::binary().unwrap();
    let other = example::join_over(&stage.world, &stage.root, &other, &binary, None, ENDPOINT, "").unwrap();
    let container = stage.world.namespace("c3").unwrap();
    other.run(["instance", "attach", "--service", COLLECTOR, "--netns", "c3"]).unwrap();
    stage.servers.push(example::serve(&container, &PROGRAM, "c3").unwrap());
    stage.add(&BOARD_1);
    let all = ["c1", "c2", "c3"];
    answered_by(&mut stage, &all);

    stage.linux.kill().unwrap();
    answered_by(&mut stage, &["c3"]);
    stage.linux.restart("linux").unwrap();
    answered_by(&mut stage, &all);
    assert_eq!((stage.boards[0].count(STARTED), stage.boards[0].count(ATTACHED)), (1, 1));
    let address = stage.attached(0);
    has_room(&stage, 0, address);
}

#[test]
fn a_machine_that_takes_a_boards_underlay_address_is_told_of_and_gets_over() {
    let mut stage = Stage::with(&[BOARD_1]);
    let address = stage.attached(0);
    // Two seconds after its start it holds its address for good. Who is older than that yields to it, and is not yielded to.
    until("the board to hold its address", || match stage.reading(address) {
        Ok(reading) if counter(&reading, "uptime_s") >= 3 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let intruder = stage.world.namespace("intruder").unwrap();
    stage.underlay.connect(&intruder, &[BOARD_1.address]).unwrap();
    let intrude = |is_there: bool| {
        intruder.run(["ip", "link", "set", "dev", INTERFACE, if is_there { "up" } else { "down" }]).unwrap();
    };
    // It speaks, and so the root takes it for the board. The board objects, and the root knows better.
    intruder.output(&["ping", "-c", "1", "-W", "1", "192.168.50.1"]).unwrap();
    stage.boards[0].wait_for(CLASH, 1, PATIENCE).unwrap();
    until("the root to know the board's hardware address again", || {
        let known = stage.root.namespace().run(["ip", "neighbour", "show", "192.168.50.21"]);
        let known = known.map_err(|error| error.to_string())?;
        if known.contains("02:00:00:00:78:01") { Ok(()) } else { Err(known) }
    });
    intrude(false);
    stage.reading_at_last(address);
    assert_eq!((stage.boards[0].count(STARTED), stage.boards[0].count(ATTACHED)), (1, 1));

    // Who has the address already keeps it; the board says so and is a member once it is free.
    stage.boards[0].power_off().unwrap();
    intrude(true);
    let told = stage.boards[0].count(CLASH);
    stage.boards[0].power_on().unwrap();
    let line = stage.boards[0].wait_for(CLASH, told + 1, PATIENCE).unwrap();
    assert!(line.contains("192.168.50.21"), "{line}");
    intrude(false);
    let reading = stage.reading_at_last(address);
    assert_eq!((counter(&reading, "boot"), counter(&reading, "clashes") > 0), (2, true), "{reading}");
    has_room(&stage, 0, address);
}

#[test]
fn an_idle_board_sleeps() {
    let mut stage = Stage::with(&[Plan { serve: None, call: None, ..BOARD_1 }]);
    let address = stage.attached(0);
    let before = stage.reading_at_last(address);
    let log = stage.boards[0].log();
    // Nothing may be asked of the board meanwhile, and nothing is waited for: this is a rate over a time. What the two readings cost is
    // counted in.
    throughout(WATCHED, || if stage.boards[0].log() == log { Ok(()) } else { Err("it logs although nothing happens") });
    let after = stage.reading_at_last(address);
    let passed = counter(&after, "uptime_s") - counter(&before, "uptime_s");
    let wakeups = counter(&after, "wakeups") - counter(&before, "wakeups");
    let rate = wakeups as f64 / passed as f64;
    eprintln!("an idle board woke up {wakeups} times in {passed} s: {rate:.2} a second");
    assert!(passed >= 30 && rate <= WAKEUPS_PER_S, "{rate}: {before} {after}");
}

/// Calls of the board's and calls from Linux, to boards and to Linux, over new connections, are answered.
fn goes_on(stage: &mut Stage, address: IpAddr) {
    let (answered, failed) = (stage.boards[0].count(ANSWERED), stage.boards[0].count(FAILED));
    for to in [address, TELEMETRY_IP] {
        stage.reading_at_last(to);
    }
    example::answers(&stage.client, &PROGRAM, &format!("{COLLECTOR_IP}:80"), 2).unwrap();
    stage.boards[0].wait_for(ANSWERED, answered + 2, PATIENCE).unwrap();
    assert_eq!(stage.boards[0].count(FAILED), failed, "{}", stage.boards[0].log());
}

/// Waits until the board's last calls were answered by all of these and by nobody else.
fn answered_by(stage: &mut Stage, names: &[&str]) {
    let calls = 2 * names.len();
    until(&format!("{names:?} alone to answer"), || {
        let log = stage.boards[0].log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("collector call")).collect();
        let last = &lines[lines.len().saturating_sub(calls)..];
        let counts = names.iter().map(|name| {
            let answer = format!("{ANSWERED} {name} ");
            last.iter().filter(|line| line.contains(&answer)).count()
        });
        if counts.eq(names.iter().map(|_| 2)) { Ok(()) } else { Err(last.join("\n")) }
    });
}

/// A reading over a lossy way: the connection may fail and is made again, but it must not end with less than a reading.
fn whole_reading(stage: &Stage, address: IpAddr) -> Result<Value, String> {
    let mut connection =
        stage.sockets().connect(SocketAddr::new(address, READINGS)).map_err(|error| error.to_string())?;
    connection.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut line = String::new();
    connection.read_to_string(&mut line).map_err(|error| error.to_string())?;
    assert!(line.ends_with("}\n"), "ended well with {line:?}");
    Ok(serde_json::from_str(&line).unwrap())
}

/// How often a board has said that it is a member whose manager answers.
fn joined(board: &Board) -> usize {
    board.log().lines().filter(|line| line.ends_with(JOINED)).count()
}

/// Waits until it has said it once more.
fn joined_again(board: &Board, before: usize) {
    until("the board to be a member again", || if joined(board) > before { Ok(()) } else { Err(board.log()) });
}

/// The last line of a board's log with this text, without its time.
fn line(board: &Board, text: &str) -> String {
    let log = board.log();
    let last = log.lines().rfind(|line| line.contains(text)).unwrap_or_default();
    last[last.find(text).unwrap_or(0)..].to_owned()
}

/// The address in the line that a board logged when it was attached.
fn stage_address(stage: &Stage, place: usize) -> IpAddr {
    instance_ip(&line(&stage.boards[place], ATTACHED))
}

/// The board's stack has come through this with room to spare.
fn has_room(stage: &Stage, place: usize, address: IpAddr) {
    let reading = stage.reading_at_last(address);
    let (used, size) = (counter(&reading, "stack_used"), counter(&reading, "stack_size"));
    eprintln!("{} has used {used} of {size} bytes of its stack", stage.boards[place].name());
    assert!(used > 0 && used + STACK_MARGIN <= size, "{reading}");
}

/// Holds a condition against a whole stretch of time.
fn throughout<E: Display>(time: Duration, mut holds: impl FnMut() -> Result<(), E>) {
    let began = Instant::now();
    while began.elapsed() < time {
        if let Err(seen) = holds() {
            panic!("after {:?}: {seen}", began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
