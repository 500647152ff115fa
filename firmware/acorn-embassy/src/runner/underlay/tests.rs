//! The node's port on a stack whose wire the test plays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Waker;
use std::vec::Vec;

use embassy_net::udp::PacketMetadata;
use embassy_net::{Config, Ipv4Cidr, StackResources, StaticConfigV4};
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Ipv4Packet,
    UdpPacket,
};

use super::*;
use crate::clash::tests::Clock;
use crate::resources::{LANE_BYTES, SENT};
use crate::tunnels::DATAGRAM_MAX;

const OWN: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const PORT: u16 = 50103;

#[derive(Default)]
struct Wire {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// ARP requests so far.
    asked: usize,
}

#[derive(Clone, Default)]
struct Card(Rc<RefCell<Wire>>);

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

impl TxToken for Card {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.borrow_mut().sent.push(frame);
        result
    }
}

impl Driver for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Card;

    fn receive(&mut self, _: &mut Context) -> Option<(Received, Card)> {
        let frame = self.0.borrow_mut().received.pop_front()?;
        Some((Received(frame), self.clone()))
    }

    fn transmit(&mut self, _: &mut Context) -> Option<Card> {
        Some(self.clone())
    }

    fn link_state(&mut self, _: &mut Context) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(OWN.0)
    }
}

fn peer(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, number), PORT)
}

impl Card {
    /// Answers ARP requests for these peers. Returns the UDP datagrams that have left: to whom, and how many bytes.
    fn play(&self, there: &[u8]) -> Vec<(u8, usize)> {
        let wire = &mut *self.0.borrow_mut();
        let mut datagrams = Vec::new();
        for frame in core::mem::take(&mut wire.sent) {
            let frame = EthernetFrame::new_checked(&frame[..]).expect("a frame");
            match frame.ethertype() {
                EthernetProtocol::Arp => {
                    let arp = ArpRepr::parse(&ArpPacket::new_checked(frame.payload()).expect("ARP")).expect("ARP");
                    let ArpRepr::EthernetIpv4 {
                        operation: ArpOperation::Request,
                        target_protocol_addr,
                        source_protocol_addr,
                        ..
                    } = arp
                    else {
                        continue;
                    };
                    wire.asked += 1;
                    let number = target_protocol_addr.octets()[3];
                    if there.contains(&number) {
                        wire.received.push_back(answer(number, source_protocol_addr));
                    }
                }
                EthernetProtocol::Ipv4 => {
                    let packet = Ipv4Packet::new_checked(frame.payload()).expect("IPv4");
                    if let Ok(datagram) = UdpPacket::new_checked(packet.payload()) {
                        assert_eq!((datagram.src_port(), datagram.dst_port()), (PORT, PORT));
                        datagrams.push((packet.dst_addr().octets()[3], datagram.payload().len()));
                    }
                }
                _ => {}
            }
        }
        datagrams
    }
}

/// The answer of a peer to an ARP request.
fn answer(number: u8, to: Ipv4Addr) -> Vec<u8> {
    let address = EthernetAddress([2, 0, 0, 0, 1, number]);
    let arp = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: address,
        source_protocol_addr: *peer(number).ip(),
        target_hardware_addr: OWN,
        target_protocol_addr: to,
    };
    let ethernet = EthernetRepr { src_addr: address, dst_addr: OWN, ethertype: EthernetProtocol::Arp };
    let mut frame = vec![0; 14 + arp.buffer_len()];
    let mut view = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.emit(&mut view);
    arp.emit(&mut ArpPacket::new_unchecked(view.payload_mut()));
    frame
}

/// A port, and the stack under it.
struct Port<'a> {
    clock: &'a Clock,
    card: Card,
    running: Pin<&'a mut dyn Future<Output = ()>>,
    underlay: Underlay<'a, 2>,
}

impl Port<'_> {
    /// Lets the stack run, with these peers there. Returns what has left: to whom, and how many bytes.
    fn run(&mut self, there: &[u8]) -> Vec<(u8, usize)> {
        // A request, its answer, and what waited for it.
        let run = |_| {
            assert!(self.running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            self.card.play(there)
        };
        (0..4).flat_map(run).collect()
    }

    /// Sends a datagram. Returns what has left, as [`Self::run`] does.
    fn send(&mut self, to: u8, len: usize, way: Way, there: &[u8]) -> Vec<(u8, usize)> {
        let transmit = Transmit { to: peer(to), len, way };
        {
            let mut sending = pin!(self.underlay.send(transmit, &[0; DATAGRAM_MAX]));
            assert!(sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        self.run(there)
    }

    /// Lets a second pass, and what is done now and then be done. Returns what has left.
    fn wait(&mut self, there: &[u8]) -> Vec<(u8, usize)> {
        self.clock.advance(Duration::from_secs(1));
        self.underlay.tidy(Instant::now());
        self.run(there)
    }
}

fn with_port(play: impl FnOnce(&mut Port<'_>)) {
    let clock = Clock::take();
    let card = Card::default();
    let mut resources = StackResources::<8>::new();
    let address =
        StaticConfigV4 { address: Ipv4Cidr::new(*peer(1).ip(), 24), gateway: None, dns_servers: heapless::Vec::new() };
    let (stack, mut runner) = embassy_net::new(card.clone(), Config::ipv4_static(address), &mut resources, 1);
    let mut running = pin!(async move {
        runner.run().await;
    });
    assert!(running.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let meta = || vec![PacketMetadata::EMPTY; 8].leak();
    let socket = |room: usize| UdpSocket::new(stack, meta(), &mut [], meta(), vec![0; room].leak());
    let live = socket(SENT * DATAGRAM_MAX);
    let lanes = (0..2).map(|_| socket(LANE_BYTES)).collect();
    let underlay = Underlay::new(stack, PORT, live, lanes, socket(DATAGRAM_MAX));
    assert!(underlay.is_up());
    play(&mut Port { clock: &clock, card, running, underlay });
}

#[test]
fn datagrams_of_every_kind_and_length_leave() {
    for way in [Way::Live, Way::Unsure(1), Way::Stray] {
        with_port(|port| {
            for len in [32, 92, 148, LANE_BYTES, LANE_BYTES + 1, 1_200, DATAGRAM_MAX] {
                assert_eq!(port.send(2, len, way, &[2]), [(2, len)], "{way:?}");
            }
            assert_eq!(port.underlay.dropped, 0);
        });
    }
}

#[test]
fn a_peer_that_is_not_there_holds_others_up_for_seconds_at_most() {
    with_port(|port| {
        let there = [2, 3, 4];
        for _ in 0..3 {
            assert_eq!(port.send(9, 148, Way::Unsure(9), &there), []);
        }
        let mut left = port.send(2, DATAGRAM_MAX, Way::Live, &there);
        left.extend(port.send(3, 148, Way::Unsure(3), &there));
        left.extend(port.send(4, 92, Way::Stray, &there));
        // The stack sends one ARP request a second.
        (0..5).for_each(|_| left.extend(port.wait(&there)));
        left.sort_unstable();
        assert_eq!(left, [(2, DATAGRAM_MAX), (3, 148), (4, 92)]);
    });
}

#[test]
fn nobody_is_asked_for_a_peer_that_is_not_there_after_a_while() {
    with_port(|port| {
        for (to, way) in [(8, Way::Unsure(8)), (9, Way::Unsure(9)), (7, Way::Stray)] {
            assert_eq!(port.send(to, 148, way, &[]), []);
        }
        // One after the other is given up.
        (0..7).for_each(|_| assert_eq!(port.wait(&[]), []));
        assert_eq!(port.underlay.poll_timeout(), None);
        let asked = port.card.0.borrow().asked;
        assert!(asked > 0, "it was asked for");
        (0..20).for_each(|_| assert_eq!(port.wait(&[]), []));
        assert_eq!(port.card.0.borrow().asked, asked);
        // It is asked for again when there is something to send again.
        assert_eq!(port.send(9, 148, Way::Unsure(9), &[9]), [(9, 148)]);
    });
}

#[test]
fn a_lane_serves_the_peer_that_needs_it_last() {
    with_port(|port| {
        // Two lanes, three peers: what waits for the first of them gives way.
        assert_eq!(port.send(9, 148, Way::Unsure(9), &[]), []);
        assert_eq!(port.send(2, 148, Way::Unsure(2), &[]), []);
        assert_eq!(port.send(3, 148, Way::Unsure(3), &[]), []);
        let there = [2, 3, 9];
        let mut left = Vec::new();
        port.clock.advance(Duration::from_secs(1));
        left.extend(port.run(&there));
        port.clock.advance(Duration::from_secs(1));
        left.extend(port.run(&there));
        left.sort_unstable();
        assert_eq!(left, [(2, 148), (3, 148)]);
    });
}
