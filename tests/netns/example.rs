//! The reference example: its addresses, its round robin, and what of it can be seen on the wire.

use crate::stage::{PROGRAM, S, S_V6, Stage, at, instance};
use acorn_tests::acorn::Instance;
use acorn_tests::capture::Capture;
use acorn_tests::example::{CLIENT, MACHINES, SERVICE, answers, transfer};
use acorn_tests::traffic::MARKER;
use acorn_tests::world::{BRIDGE, Namespace};
use serde_json::{Value, json};
use std::net::IpAddr;

#[test]
fn its_addresses_are_exactly_those_of_the_design() {
    let stage = Stage::new();
    let shown: Value = stage.root.json(&["service", "show", SERVICE]).unwrap();
    assert_eq!(
        shown["service_ip_list"],
        json!([{"IpType": "RR", "Address": "10.30.0.1", "Address_v6": "fdff:2000::1"}])
    );
    let expected = [(1, "10.30.0.2", "fdff::1", "10.18.30.65", 1), (2, "10.30.0.3", "fdff::2", "10.18.30.66", 2)];
    assert_eq!(stage.service.instances.len(), expected.len());
    for (number, instance_ip, instance_ip_v6, namespace_ip, offset) in expected {
        let Instance { namespace_ip_v6, node_name, alive, .. } = instance(&stage.service, number);
        let seen = instance(&stage.service, number);
        assert_eq!(seen.instance_ip.to_string(), instance_ip);
        assert_eq!(seen.instance_ip_v6.to_string(), instance_ip_v6);
        assert_eq!(seen.namespace_ip.unwrap().to_string(), namespace_ip);
        assert_eq!(node_name.as_deref(), Some("w1"));
        assert!(*alive);
        // Offsets in a /120 are the last byte of the address.
        assert_eq!(namespace_ip_v6.unwrap().octets()[15], offset);
    }

    for (container, number) in [(&stage.machines.s1, 1), (&stage.machines.s2, 2)] {
        let seen = instance(&stage.service, number);
        let (ipv4, ipv6) = (seen.namespace_ip.unwrap(), seen.namespace_ip_v6.unwrap());
        assert_eq!(
            global_addresses(container),
            [IpAddr::from(ipv4), IpAddr::from(ipv6)],
            "the container has its namespace IPs and no other address"
        );
    }
    let client: Value = stage.root.json(&["service", "show", CLIENT]).unwrap();
    assert_eq!(client["instances"][0]["node_name"], "w2");
    let nodes: Value = stage.root.json(&["node", "ls"]).unwrap();
    let w1 = nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "w1");
    assert_eq!(w1.unwrap()["subnet"], "10.18.30.64/26");
}

#[test]
fn s1_and_s2_answer_by_exact_turns_and_by_their_own_addresses_over_ipv4_and_ipv6() {
    let stage = Stage::new();
    let client = &stage.machines.client;
    for service_ip in [S, S_V6] {
        let names = answers(client, &PROGRAM, &at(service_ip, 80).to_string(), 20).unwrap();
        assert_eq!(names.len(), 20);
        assert!(
            names.windows(2).all(|pair| pair[0] != pair[1]) && names.iter().all(|name| name == "S1" || name == "S2"),
            "{service_ip}: {names:?}"
        );
        ping(client, service_ip);
    }
    for (number, name) in [(1, "S1"), (2, "S2")] {
        let seen = instance(&stage.service, number);
        for ip in [IpAddr::from(seen.instance_ip), IpAddr::from(seen.instance_ip_v6)] {
            let names = answers(client, &PROGRAM, &at(ip, 80).to_string(), 3).unwrap();
            assert_eq!(names, [name; 3], "{ip}");
            ping(client, ip);
        }
    }
}

#[test]
fn the_wire_carries_udp_50103_only_and_no_word_of_plain_text() {
    let stage = Stage::new();
    let client = &stage.machines.client;
    let wire = stage.machines.underlay.wire();
    let wire = Capture::start(&stage.world, wire, "wire-capture", BRIDGE, &PROGRAM).unwrap();
    let inside = Capture::start(&stage.world, client, "client-capture", "any", &PROGRAM).unwrap();
    for service_ip in [S, S_V6] {
        answers(client, &PROGRAM, &at(service_ip, 80).to_string(), 4).unwrap();
        ping(client, service_ip);
    }
    let inside = inside.finish(MARKER).unwrap();
    for host in [S.to_string(), format!("[{S_V6}]")] {
        assert!(transfer(client, &PROGRAM, &host, 8).unwrap() > 0.0);
    }
    // Other networks' addresses stay what they were: nothing is tunnelled that need not be.
    stage.machines.w1.run(["ping", "-n", "-c1", "-W2", MACHINES[2].1]).unwrap();
    let wire = wire.finish(MARKER).unwrap();

    assert!(inside.readable > 0, "the search finds nothing anywhere: {inside:?}");
    assert_eq!(wire.readable, 0, "{wire:?}");
    assert!(wire.acorn_bytes > 16 << 20, "{wire:?}");
    let other: Vec<_> = wire.other.keys().map(String::as_str).collect();
    assert_eq!(other, ["IPv4 ICMP type 0", "IPv4 ICMP type 8"], "only that ping: {wire:?}");
}

/// Every echo request is answered, the first one included.
fn ping(from: &Namespace, to: IpAddr) {
    let output = from.run(["ping", "-n", "-c", "3", "-i", "0.1", "-W", "2", &to.to_string()]).unwrap();
    assert!(output.contains(" 3 received"), "{output}");
}

fn global_addresses(container: &Namespace) -> Vec<IpAddr> {
    let listing = container.run(["ip", "-json", "address", "show", "scope", "global"]).unwrap();
    let links: Vec<Value> = serde_json::from_str(&listing).unwrap();
    let of_link = |link: &Value| link["addr_info"].as_array().cloned().unwrap_or_default();
    let infos = links.iter().flat_map(of_link);
    infos.filter_map(|info| info["local"].as_str()?.parse().ok()).collect()
}
