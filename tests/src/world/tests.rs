//! These need root, or a kernel that lets users make namespaces, as every test with a [`World`] does.

use super::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn namespaces_on_the_underlay_reach_each_other_over_ipv4_and_ipv6() {
    let world = World::new().unwrap();
    let underlay = Underlay::new(&world).unwrap();
    let [a, b] = ["a", "b"].map(|name| world.namespace(name).unwrap());
    underlay.connect(&a, &["192.168.50.1/24", "fd50::1/64"]).unwrap();
    underlay.connect(&b, &["192.168.50.2/24", "fd50::2/64"]).unwrap();
    a.run(["ping", "-c1", "-W2", "192.168.50.2"]).unwrap();
    a.run(["ping", "-c1", "-W2", "fd50::2"]).unwrap();
    let error = a.run(["ping", "-c1", "-W1", "192.168.50.3"]).unwrap_err().to_string();
    assert!(error.contains("ping -c1 -W1 192.168.50.3") && error.contains("in a failed"), "{error}");
}

#[test]
fn a_world_ends_with_every_process_in_it() {
    let world = World::new().unwrap();
    let anchor = world.pid();
    let daemon = world.namespace("a").unwrap().spawn("sleeper", ["sleep", "infinity"]).unwrap();
    let sleeper = daemon.pid();
    assert!(Path::new(&format!("/proc/{sleeper}")).exists());
    daemon.release();
    drop(world);
    for pid in [anchor, sleeper] {
        let running = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(!running, "process {pid} outlived its world");
    }
}

#[test]
fn two_worlds_with_the_same_names_do_not_see_each_other() {
    let worlds = [World::new().unwrap(), World::new().unwrap()];
    for world in &worlds {
        let underlay = Underlay::new(world).unwrap();
        underlay.connect(&world.namespace("same").unwrap(), &["192.168.50.1/24"]).unwrap();
    }
    assert!(!Path::new("/run/netns/same").exists());
}

#[test]
fn a_daemon_is_stopped_by_signal_and_its_log_is_kept() {
    let world = World::new().unwrap();
    let namespace = world.namespace("a").unwrap();
    let script = "trap 'echo stopped; exit 3' TERM; echo started; while :; do sleep 0.01; done";
    let mut daemon = namespace.spawn("loop", ["sh", "-c", script]).unwrap();
    daemon.wait_for_log("started", SOON).unwrap();
    let status = daemon.stop(Signal::SIGTERM, SOON).unwrap();
    assert_eq!(status.code(), Some(3));
    assert_eq!(world.logs(5), [("loop".to_owned(), "started\nstopped".to_owned())]);
}

#[test]
fn a_daemon_that_ends_by_itself_is_noticed_with_its_last_words() {
    let world = World::new().unwrap();
    let mut daemon =
        world.namespace("a").unwrap().spawn("brief", ["sh", "-c", "sleep 0.2; echo farewell; exit 4"]).unwrap();
    let error = daemon.wait_for_log("never written", SOON).unwrap_err().to_string();
    assert!(error.contains("farewell") && error.contains('4'), "{error}");
}

#[test]
fn a_kept_world_lives_on_until_it_is_killed() {
    let world = World::new().unwrap();
    world.namespace("a").unwrap();
    let pid = world.keep().unwrap();
    let comm = format!("/proc/{pid}/comm");
    wait_until("the anchor to stay", SOON, || {
        let name = fs::read_to_string(&comm).map_err(io("reading the anchor's name"))?;
        Ok(if name.trim() == "sleep" { Look::Holds(()) } else { Look::NotYet(name) })
    })
    .unwrap();
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    wait_until("the kept world to end", SOON, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok(if stat.is_empty() || stat.contains(") Z ") { Look::Holds(()) } else { Look::NotYet(stat) })
    })
    .unwrap();
}
