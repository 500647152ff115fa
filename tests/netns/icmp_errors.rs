//! ICMP errors reach the application that they are about, as if there were no overlay.

use crate::datagrams::{complaint, set_hops};
use crate::stage::{S, S_V6, Stage, at, sockets};
use std::io::ErrorKind;
use std::net::IpAddr;

/// Where traceroute begins (traceroute(8)); nobody listens there.
const TRACEROUTE: u16 = 33_434;

#[test]
fn a_closed_udp_port_of_an_instance_is_refused_at_once() {
    let stage = Stage::new();
    for service_ip in [S, S_V6] {
        let socket = sockets(&stage.machines.client).udp(service_ip.is_ipv6(), 0).unwrap();
        socket.connect(at(service_ip, 81)).unwrap();
        for _ in 0..3 {
            socket.send(b"anybody there?").unwrap();
            let error = socket.recv(&mut [0; 64]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{service_ip}: {error}");
        }
    }
}

#[test]
fn traceroute_to_a_service_ip_ends_at_the_service_and_every_hop_answers() {
    let stage = Stage::new();
    for service_ip in [S, S_V6] {
        let (exceeded, unreachable) = if service_ip.is_ipv4() { ((11, 0), (3, 3)) } else { ((3, 0), (1, 4)) };
        let mut hops = Vec::new();
        loop {
            let number = hops.len() as u16 + 1;
            assert!(number < 10, "{hops:?}");
            let socket = sockets(&stage.machines.client).udp(service_ip.is_ipv6(), 0).unwrap();
            set_hops(&socket, number.into());
            socket.send_to(b"how far?", at(service_ip, TRACEROUTE + number)).unwrap();
            let heard = complaint(&socket);
            hops.push(heard);
            if (heard.kind, heard.code) == unreachable {
                break;
            }
            assert_eq!((heard.kind, heard.code), exceeded, "{hops:?}");
        }
        // The client's machine, the instance's machine, the service.
        assert_eq!(hops.len(), 3, "{hops:?}");
        assert_eq!(hops[2].from, service_ip);
        assert!(hops[..2].iter().all(|hop| hop.from != service_ip), "{hops:?}");
    }
}

#[test]
fn a_ping_that_does_not_get_far_enough_hears_it() {
    let stage = Stage::new();
    for (service_ip, says) in [(S, "Time to live exceeded"), (S_V6, "Time exceeded")] {
        for hops in ["1", "2"] {
            let output = ping(&stage, service_ip, hops);
            assert!(output.contains(says), "{hops} hops to {service_ip}: {output}");
        }
        assert!(ping(&stage, service_ip, "3").contains(" 1 received"));
    }
}

fn ping(stage: &Stage, to: IpAddr, hops: &str) -> String {
    let line = ["ping", "-n", "-c", "1", "-W", "5", "-t", hops, &to.to_string()];
    let output = stage.machines.client.output(&line).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}
