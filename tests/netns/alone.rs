//! `acorn up`: a network on one machine, which others may join later.

use crate::stage::{PROGRAM, at, binary, logs, until};
use acorn_tests::acorn::{Acorn, Service};
use acorn_tests::example::{answers, join, serve};
use acorn_tests::world::{Underlay, World};
use std::net::IpAddr;

const WEB: &str = "app.ns.web.ns";
const CLIENT: &str = "app.ns.client.ns";

#[test]
fn one_machine_is_a_network_and_a_second_one_joins_it() {
    let world = World::new().unwrap();
    let underlay = Underlay::new(&world).unwrap();
    let [first, second] = [("first", "192.168.50.1/24"), ("second", "192.168.50.2/24")].map(|(name, address)| {
        let machine = world.namespace(name).unwrap();
        underlay.connect(&machine, &[address]).unwrap();
        machine
    });
    let [web, near, far] = ["web", "near", "far"].map(|name| world.namespace(name).unwrap());

    let mut up = Acorn::start(&world, &first, &binary(), "up", "up", "[node]\nname = \"first\"\n").unwrap();
    up.run(["service", "create", "--name", WEB]).unwrap();
    up.run(["service", "create", "--name", CLIENT]).unwrap();
    until("the node to have its subnet from the root beside it", || {
        let line = ["instance", "attach", "--service", WEB, "--netns", "web"];
        up.run(line).map_err(|error| error.to_string())
    });
    up.run(["instance", "attach", "--service", CLIENT, "--netns", "near"]).unwrap();
    let _server = serve(&web, &PROGRAM, "web").unwrap();
    let service: Service = up.json(&["service", "show", WEB]).unwrap();
    let ips = [IpAddr::from(service.service_ip_list[0].ipv4), service.service_ip_list[0].ipv6.into()];
    let dials = |from, up: &Acorn| {
        for ip in ips {
            let names = answers(from, &PROGRAM, &at(ip, 80).to_string(), 3);
            assert_eq!(
                names.unwrap_or_else(|error| panic!("{error}\n{}\n{:?}", logs(&world), up.run(["drops"]))),
                ["web"; 3]
            );
        }
    };
    dials(&near, &up);
    dials(&first, &up);

    let mut node = join(&world, &up, &second, &binary(), None).unwrap();
    node.run(["instance", "attach", "--service", CLIENT, "--netns", "far"]).unwrap();
    dials(&far, &up);
    dials(&second, &up);
    dials(&near, &up);

    // Both at once come back from a kill, and both go without a trace.
    up.kill().unwrap();
    up.restart("up").unwrap();
    until("the web server to answer again", || answers(&far, &PROGRAM, &at(ips[0], 80).to_string(), 1));
    dials(&near, &up);
    dials(&far, &up);
    node.down().unwrap();
    up.down().unwrap();
    for machine in [&first, &second] {
        assert_eq!(machine.interfaces().unwrap(), ["eth0", "lo"]);
    }
    for container in [&web, &near, &far] {
        assert_eq!(container.interfaces().unwrap(), ["lo"]);
    }
}
