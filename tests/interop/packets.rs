//! What the proxy does with packets.

use acorn_core::packet::{Offload, Protocol, View};
use acorn_core::router::Verdict;
use acorn_core::stats::DropReason;
use acorn_core::time::Instant;

use super::node::{Node, datagram, end, ends, pair, ping, syn, syn_ack};

fn dropped(reason: DropReason) -> Result<Vec<u8>, Verdict> {
    Err(Verdict::Drop(reason))
}

/// `TestOutgoingProxy`. The vector dials `10.30.255.255`, the broadcast address of the service net, which Acorn gives to no service and
/// drops; here it is the address before.
#[test]
fn outgoing() {
    let client = [pair("10.30.255.253", "fdff::fd"), pair("10.19.1.1", "fc00::1")];
    let server = [pair("10.30.0.9", "fdff::9"), pair("10.19.2.12", "fd00::12")];
    let mut node = Node::new(client, pair("10.30.255.254", "fdff:2000::ff"), server);
    let sent = node.send(&syn(("10.19.1.1", 666), ("10.30.255.254", 80))).unwrap();
    assert_eq!(ends(&sent), (end("10.30.255.253", 666), end("10.19.2.12", 80)));
    let elsewhere = node.send(&syn(("10.19.1.1", 666), ("10.20.1.1", 80)));
    assert_eq!(elsewhere, dropped(DropReason::NotAService));
    let broadcast = node.send(&syn(("10.19.1.1", 666), ("10.30.255.255", 80)));
    assert_eq!(broadcast, dropped(DropReason::NotUnicast));
}

/// `TestOutgoingV6Proxy`.
#[test]
fn outgoing_v6() {
    let client = [pair("10.30.255.253", "fdff::fd"), pair("10.19.1.1", "fc00::1")];
    let server = [pair("10.30.0.9", "fdff::9"), pair("10.19.2.12", "fd00::12")];
    let mut node = Node::new(client, pair("10.30.255.254", "fdff:2000::ff"), server);
    let sent = node.send(&syn(("fc00::1", 666), ("fdff:2000::ff", 80))).unwrap();
    assert_eq!(ends(&sent), (end("fdff::fd", 666), end("fd00::12", 80)));
    let elsewhere = node.send(&syn(("fc00::1", 666), ("fd00::12", 80)));
    assert_eq!(elsewhere, dropped(DropReason::NotAService));
}

/// `TestIngoingProxy`. Where the original passes a packet without a flow on as it is, to a container or not, Acorn asks whose it is: for an
/// address that is not attached here it drops it.
#[test]
fn ingoing() {
    let client = [pair("10.30.0.50", "fdff::12"), pair("10.19.1.15", "fc00::15")];
    let server = [pair("10.30.0.5", "fdff::5"), pair("10.19.2.1", "fd00::12")];
    let mut node = Node::new(client, pair("10.30.255.254", "fdff:3000::ff"), server);
    node.send(&syn(("10.19.1.15", 777), ("10.30.255.254", 666))).unwrap();
    let seen = node.receive(Instant::ZERO, &syn_ack(("10.30.0.5", 666), ("10.19.1.15", 777))).unwrap();
    assert_eq!(ends(&seen), (end("10.30.255.254", 666), end("10.19.1.15", 777)));
    let other = node.receive(Instant::ZERO, &syn(("10.19.2.1", 666), ("10.19.1.12", 80)));
    assert_eq!(other, dropped(DropReason::NotOurs));
}

/// `TestIngoingV6Proxy`. The vector gives the own and the remote instance the same address, `fdff::12`; here they differ.
#[test]
fn ingoing_v6() {
    let client = [pair("10.30.0.50", "fdff::50"), pair("10.19.1.15", "fc00::15")];
    let server = [pair("10.30.0.5", "fdff::12"), pair("10.19.2.1", "fd00::12")];
    let mut node = Node::new(client, pair("10.30.255.254", "fdff:3000::ff"), server);
    node.send(&syn(("fc00::15", 777), ("fdff:3000::ff", 666))).unwrap();
    let seen = node.receive(Instant::ZERO, &syn_ack(("fdff::12", 666), ("fc00::15", 777))).unwrap();
    assert_eq!(ends(&seen), (end("fdff:3000::ff", 666), end("fc00::15", 777)));
    let other = node.receive(Instant::ZERO, &syn(("fc00::1", 666), ("fd00::12", 80)));
    assert_eq!(other, dropped(DropReason::NotOurs));
}

/// `TestIPv6NextHeader` and the sample packets beside it.
#[test]
fn sample_packets() {
    let samples = [
        "600219310028063ffc000000000000000000000000000203fdff1000000000000000000000000001b98400502a8697ed00000000a002ff322a8900000204056e0402080a7fb1168c0000000001030307",
        "4500003471ab40003f06b54e0a1e00130a120088a8fc0050866d4e41ec673059801001f6a3fd00000101080aac259946269fb537",
        "4500003cf20440003f0635810a1e00010a120006b5a2005071f2e51a00000000a002fd5c8ee50000020405820402080a3b625f570000000001030307",
    ];
    for sample in samples {
        let packet: Vec<u8> =
            (0..sample.len()).step_by(2).map(|at| u8::from_str_radix(&sample[at..at + 2], 16).unwrap()).collect();
        let view = View::parse(&packet, Offload::NONE).unwrap();
        assert_eq!(view.protocol(), Protocol::Tcp);
        assert_eq!(view.tcp().unwrap().dst_port, 80);
    }
}

fn measured() -> Node {
    let client = [pair("10.30.0.1", "fdff::1"), pair("10.18.0.2", "fc00::2")];
    let server = [pair("10.30.0.3", "fdff::3"), pair("10.18.0.130", "fc00::102")];
    Node::new(client, pair("10.30.0.2", "fdff:2000::1"), server)
}

/// Egress as measured: the bytes on the wire are those of the same packet between the instance IP and the chosen namespace IP.
#[test]
fn measured_egress() {
    let mut node = measured();
    let sent = node.send(&datagram(("10.18.0.2", 40_000), ("10.30.0.2", 9_999))).unwrap();
    assert_eq!(sent, datagram(("10.30.0.1", 40_000), ("10.18.0.130", 9_999)));
    let sent = node.send(&datagram(("fc00::2", 40_000), ("fdff:2000::1", 9_999))).unwrap();
    assert_eq!(sent, datagram(("fdff::1", 40_000), ("fc00::102", 9_999)));
}

/// The original drops all of these. Acorn asks for an address that it does not know and answers with ICMP if nobody has it, and carries
/// ping. IPv6 needs no configuration: the original carries it only with a prefix of `fc00::/7`.
#[test]
fn measured_egress_refusals() {
    let mut node = measured();
    let unknown = node.send(&datagram(("10.18.0.2", 40_000), ("10.30.0.77", 9_999)));
    assert!(matches!(unknown, Err(Verdict::Wait { .. })), "{unknown:?}");
    let stranger = node.send(&datagram(("10.18.0.9", 40_000), ("10.30.0.2", 9_999)));
    assert_eq!(stranger, dropped(DropReason::UnknownSource));
    let namespace_ip = node.send(&datagram(("10.18.0.2", 40_000), ("10.18.0.130", 9_999)));
    assert_eq!(namespace_ip, dropped(DropReason::NotAService));
    let sent = node.send(&ping("10.18.0.2", "10.30.0.2")).unwrap();
    assert_eq!(sent, ping("10.30.0.1", "10.18.0.130"));
}

/// Ingress as measured after that flow. The original also believes any other source with the right port; Acorn believes the node that an
/// address belongs to. Another port is another flow in both.
#[test]
fn measured_ingress() {
    let mut node = measured();
    node.send(&datagram(("10.18.0.2", 40_000), ("10.30.0.2", 9_999))).unwrap();
    let answer = datagram(("10.30.0.3", 9_999), ("10.18.0.2", 40_000));
    let seen = node.receive(Instant::ZERO, &answer).unwrap();
    assert_eq!(seen, datagram(("10.30.0.2", 9_999), ("10.18.0.2", 40_000)));
    let outside = node.receive(Instant::ZERO, &datagram(("8.8.8.8", 9_999), ("10.18.0.2", 40_000)));
    assert_eq!(outside, dropped(DropReason::SpoofedSource));
    let other_port = datagram(("10.30.0.3", 9_998), ("10.18.0.2", 40_000));
    assert_eq!(node.receive(Instant::ZERO, &other_port).unwrap(), other_port);
}

/// The original forgets a flow after 60 s without a packet from inside. Acorn keeps a UDP flow of which both sides have spoken for 5 minutes
/// from the last packet of either.
#[test]
fn measured_eviction() {
    let answer = datagram(("10.30.0.3", 9_999), ("10.18.0.2", 40_000));
    let from_service = datagram(("10.30.0.2", 9_999), ("10.18.0.2", 40_000));
    for (seconds, kept) in [(60, true), (61, true), (299, true), (300, false)] {
        let mut node = measured();
        node.send(&datagram(("10.18.0.2", 40_000), ("10.30.0.2", 9_999))).unwrap();
        node.receive(Instant::ZERO, &answer).unwrap();
        let seen = node.receive(Instant::from_secs(seconds), &answer).unwrap();
        assert_eq!(seen == from_service, kept, "{seconds} s");
    }
}
