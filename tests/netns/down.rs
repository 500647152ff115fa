//! `acorn down` leaves a machine and its containers exactly as they were before the first start.

use crate::footprint::Footprint;
use crate::stage::{PROGRAM, S, at, binary};
use acorn_tests::example::{self, Machines, answers, serve};
use acorn_tests::world::{Namespace, World};
use serde_json::Value;

#[test]
fn down_leaves_interfaces_routes_and_settings_as_they_were() {
    let world = World::new().unwrap();
    let machines = Machines::new(&world).unwrap();
    let places = [&machines.root, &machines.w1, &machines.w2, &machines.s1, &machines.s2, &machines.client];
    // One machine forwards already, for reasons of its own: that must stay.
    switch_on(&machines.w2, "/proc/sys/net/ipv4/conf/eth0/forwarding");
    switch_on(&machines.w2, "/proc/sys/net/ipv6/conf/eth0/forwarding");
    let before = places.map(Footprint::of);

    let mut root = example::start_root(&world, &machines, &binary()).unwrap();
    let mut w1 = example::join(&world, &root, &machines.w1, &binary(), Some(example::SUBNET)).unwrap();
    let mut w2 = example::join(&world, &root, &machines.w2, &binary(), None).unwrap();
    example::create_service(&world, &root).unwrap();
    example::attach(&root, &w1, &w2).unwrap();
    let servers = [(&machines.s1, "S1"), (&machines.s2, "S2")].map(|(s, name)| serve(s, &PROGRAM, name).unwrap());
    assert_eq!(answers(&machines.client, &PROGRAM, &at(S, 80).to_string(), 4).unwrap().len(), 4);
    drop(servers);
    assert_ne!(before[1], Footprint::of(&machines.w1), "a look that sees nothing proves nothing");

    w1.down().unwrap();
    before[1].assert_same(&machines.w1);
    before[3].assert_same(&machines.s1);
    before[4].assert_same(&machines.s2);
    let shown = root.json::<Value>(&["service", "show", example::SERVICE]).unwrap();
    assert_eq!(shown["instances"], Value::Array(Vec::new()), "the root knows that they are gone");

    // The network stays joined: a new start needs no token, has the same subnet, and attaches again.
    w1.restart("w1").unwrap();
    let status: Value = w1.json(&["status"]).unwrap();
    assert_eq!(status["subnet"], example::SUBNET);
    w1.run(["instance", "attach", "--service", example::SERVICE, "--netns", "s1"]).unwrap();
    // After a kill, which leaves the attachment, down has more to clear away than it made itself.
    w1.kill().unwrap();
    w1.restart("w1").unwrap();
    w1.down().unwrap();

    // And when there is no root to tell any more.
    root.kill().unwrap();
    w2.down().unwrap();
    places.iter().zip(&before).for_each(|(place, before)| before.assert_same(place));
}

fn switch_on(machine: &Namespace, path: &str) {
    machine.run(["sh", "-c", &format!("echo 1 > {path}")]).unwrap();
}
