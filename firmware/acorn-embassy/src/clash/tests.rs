//! The watch around a driver that the test plays: what the stack and the wire get to see.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use embassy_time::MockDriver;
use proptest::prelude::*;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr};

use super::arp::{FRAME_LEN, Message};
use super::*;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The clock of all tests. Who has it is the only one to move it.
pub(crate) struct Clock(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Clock {
    pub(crate) fn take() -> Self {
        static CLOCK: Mutex<()> = Mutex::new(());
        Self(CLOCK.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn advance(&self, by: Duration) {
        MockDriver::get().advance(by);
    }
}

/// A network card in memory.
struct Card {
    address: HardwareAddress,
    link: LinkState,
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    /// Frames that there is room for.
    room: usize,
}

impl Card {
    fn new() -> Self {
        let address = HardwareAddress::Ethernet(OWN);
        Self { address, link: LinkState::Up, received: VecDeque::new(), sent: Vec::new(), room: usize::MAX }
    }
}

struct Received(Vec<u8>);
struct Room<'a>(&'a mut Card);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.room -= 1;
        self.0.sent.push(frame);
        result
    }
}

impl Driver for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: &mut Context) -> Option<(Received, Room<'_>)> {
        if self.room == 0 {
            return None;
        }
        self.received.pop_front().map(|frame| (Received(frame), Room(self)))
    }

    fn transmit(&mut self, _: &mut Context) -> Option<Room<'_>> {
        (self.room > 0).then_some(Room(self))
    }

    fn link_state(&mut self, _: &mut Context) -> LinkState {
        self.link
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities.max_burst_size = Some(6);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.address
    }
}

#[derive(Default)]
struct Task(AtomicBool);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Task {
    fn take_wake(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }
}

/// Polls as embassy-net does: all that has been received, then an attempt to send, then the link. Returns what the stack received.
fn poll(watch: &mut ClashWatch<Card>, task: &Arc<Task>) -> Vec<Vec<u8>> {
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    let mut received = Vec::new();
    while let Some((rx, _)) = watch.receive(&mut cx) {
        received.push(rx.consume(|frame| frame.to_vec()));
    }
    let _ = watch.transmit(&mut cx);
    watch.link_state(&mut cx);
    received
}

/// One poll of a future.
fn poll_once<T>(future: impl Future<Output = T>, task: &Arc<Task>) -> Poll<T> {
    let waker = Waker::from(task.clone());
    pin!(future).poll(&mut Context::from_waker(&waker))
}

/// A watch that holds [`ADDRESS`], and has said what there is to say at first.
fn held<'c>(clashes: &'c Clashes, clock: &Clock) -> (ClashWatch<'c, Card>, Arc<Task>) {
    let (mut watch, task) = (ClashWatch::new(Card::new(), clashes), Arc::new(Task::default()));
    clashes.set_address(Some(ADDRESS));
    poll(&mut watch, &task);
    clock.advance(ANNOUNCE_INTERVAL);
    poll(&mut watch, &task);
    assert_eq!(watch.inner.sent.len(), 3);
    watch.inner.sent.clear();
    (watch, task)
}

fn arp(operation: ArpOperation, sender: [u8; 6], sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Vec<u8> {
    let sender = EthernetAddress(sender);
    let mut octets = vec![0; FRAME_LEN];
    let mut frame = EthernetFrame::new_unchecked(&mut octets[..]);
    EthernetRepr { src_addr: sender, dst_addr: EthernetAddress::BROADCAST, ethertype: EthernetProtocol::Arp }
        .emit(&mut frame);
    ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: sender,
        source_protocol_addr: sender_ip,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target_ip,
    }
    .emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    octets
}

/// Another node's announcement of this node's address.
fn clashing() -> Vec<u8> {
    arp(ArpOperation::Request, OTHER, ADDRESS, ADDRESS)
}

#[test]
fn the_messages_are_the_octets_of_the_rfc() {
    #[rustfmt::skip]
    let probe = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
        0, 1, 0x08, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1,
    ];
    assert_eq!(Message::Probe.frame(OWN, ADDRESS), probe);
    let mut announcement = probe;
    announcement[28..32].copy_from_slice(&ADDRESS.octets());
    assert_eq!(Message::Announcement.frame(OWN, ADDRESS), announcement);
    #[rustfmt::skip]
    let answer = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
        0, 1, 0x08, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0,
    ];
    assert_eq!(Message::Answer { to: OTHER }.frame(OWN, ADDRESS), answer);
}

#[test]
fn a_new_address_wakes_the_stack_and_goes_out_at_its_next_poll_and_after_two_seconds() {
    let (clashes, clock, task) = (Clashes::new(), Clock::take(), Arc::new(Task::default()));
    let mut watch = ClashWatch::new(Card::new(), &clashes);
    poll(&mut watch, &task);
    assert!(watch.inner.sent.is_empty());
    clashes.set_address(Some(ADDRESS));
    assert!(task.take_wake());
    poll(&mut watch, &task);
    let (probe, announcement) = (Message::Probe.frame(OWN, ADDRESS), Message::Announcement.frame(OWN, ADDRESS));
    assert_eq!(watch.inner.sent[..2], [probe.to_vec(), announcement.to_vec()]);
    clock.advance(ANNOUNCE_INTERVAL);
    assert!(task.take_wake(), "the timer has woken the stack's task");
    poll(&mut watch, &task);
    poll(&mut watch, &task);
    assert_eq!(watch.inner.sent[2..], [announcement.to_vec()]);
}

#[test]
fn a_driver_without_room_gets_the_frames_when_it_has_some() {
    let (clashes, _clock, task) = (Clashes::new(), Clock::take(), Arc::new(Task::default()));
    let mut watch = ClashWatch::new(Card::new(), &clashes);
    watch.inner.room = 0;
    clashes.set_address(Some(ADDRESS));
    poll(&mut watch, &task);
    assert!(watch.inner.sent.is_empty());
    watch.inner.room = 1;
    poll(&mut watch, &task);
    watch.inner.room = 1;
    poll(&mut watch, &task);
    assert_eq!(
        watch.inner.sent,
        [Message::Probe.frame(OWN, ADDRESS).to_vec(), Message::Announcement.frame(OWN, ADDRESS).to_vec()]
    );
}

#[test]
fn a_clash_is_counted_told_and_answered_in_the_poll_that_receives_it() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, task) = held(&clashes, &clock);
    let waiter = Arc::new(Task::default());
    assert_eq!(poll_once(clashes.wait(), &waiter), Poll::Pending);
    assert_eq!((clashes.clashes(), clashes.last()), (0, None));
    for operation in [ArpOperation::Request, ArpOperation::Reply] {
        watch.inner.received.push_back(arp(operation, OTHER, ADDRESS, Ipv4Addr::new(192, 0, 2, 9)));
    }
    assert_eq!(poll(&mut watch, &task).len(), 2);
    assert!(waiter.take_wake());
    let last = clashes.last().unwrap();
    assert_eq!((clashes.clashes(), last.address, last.other), (2, ADDRESS, OTHER));
    assert_eq!(watch.inner.sent, [Message::Announcement.frame(OWN, ADDRESS).to_vec()]);
    let Poll::Ready(notice) = poll_once(clashes.wait(), &waiter) else { panic!("no notice") };
    assert_eq!((notice.address, notice.other), (ADDRESS, OTHER));
    watch.inner.received.push_back(clashing());
    poll(&mut watch, &task);
    assert_eq!(clashes.clashes(), 3);
    assert_eq!(poll_once(clashes.wait(), &waiter), Poll::Pending, "one notice for all three");
}

#[test]
fn a_clash_that_goes_on_is_told_again_after_ten_seconds() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, task) = held(&clashes, &clock);
    for _ in 0..3 {
        watch.inner.received.push_back(clashing());
        poll(&mut watch, &task);
        assert!(poll_once(clashes.wait(), &task).is_ready());
        clock.advance(DEFEND_INTERVAL);
    }
    assert_eq!((clashes.clashes(), watch.inner.sent.len()), (3, 3));
}

#[test]
fn a_notice_about_an_address_that_has_been_given_up_is_not_handed_out() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, task) = held(&clashes, &clock);
    watch.inner.received.push_back(clashing());
    poll(&mut watch, &task);
    clashes.set_address(Some(Ipv4Addr::new(192, 0, 2, 7)));
    assert_eq!(poll_once(clashes.wait(), &task), Poll::Pending);
    assert_eq!(clashes.last().map(|clash| clash.address), Some(ADDRESS));
}

#[test]
fn a_probe_for_the_address_is_answered() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, task) = held(&clashes, &clock);
    watch.inner.received.push_back(arp(ArpOperation::Request, OTHER, Ipv4Addr::UNSPECIFIED, ADDRESS));
    poll(&mut watch, &task);
    assert_eq!(watch.inner.sent, [Message::Answer { to: OTHER }.frame(OWN, ADDRESS).to_vec()]);
    assert_eq!(clashes.clashes(), 0);
}

#[test]
fn what_is_not_arp_for_ipv4_over_ethernet_is_no_clash() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, task) = held(&clashes, &clock);
    // EtherType, hardware type, protocol type, both lengths, operation (inverse ARP, RFC 2390).
    for (at, value) in [(13, 0x00), (15, 6), (16, 0x86), (18, 8), (19, 16), (21, 8)] {
        let mut frame = clashing();
        frame[at] = value;
        watch.inner.received.push_back(frame);
    }
    watch.inner.received.extend((0..FRAME_LEN).map(|len| clashing()[..len].to_vec()));
    poll(&mut watch, &task);
    assert_eq!(clashes.clashes(), 0);
    watch.inner.received.push_back([clashing(), vec![0; 18]].concat());
    poll(&mut watch, &task);
    assert_eq!(clashes.clashes(), 1, "padding is no reason to look away");
}

#[test]
fn without_ethernet_addresses_the_watch_does_nothing() {
    let (clashes, task) = (Clashes::new(), Arc::new(Task::default()));
    let mut watch = ClashWatch::new(Card::new(), &clashes);
    watch.inner.address = HardwareAddress::Ip;
    clashes.set_address(Some(ADDRESS));
    watch.inner.received.push_back(clashing());
    assert_eq!(poll(&mut watch, &task), [clashing()]);
    assert_eq!((watch.inner.sent.len(), clashes.clashes()), (0, 0));
}

#[test]
fn what_the_driver_says_of_itself_is_passed_on() {
    let clashes = Clashes::new();
    let mut watch = ClashWatch::new(Card::new(), &clashes);
    let capabilities = watch.capabilities();
    assert_eq!((capabilities.max_transmission_unit, capabilities.max_burst_size), (1514, Some(6)));
    assert_eq!(watch.hardware_address(), HardwareAddress::Ethernet(OWN));
    let waker = Waker::noop();
    for link in [LinkState::Up, LinkState::Down] {
        watch.inner.link = link;
        assert!(watch.link_state(&mut Context::from_waker(waker)) == link);
    }
}

#[test]
fn embassy_net_runs_on_it_and_leaves_probes_to_the_watch() {
    let (clashes, clock) = (Clashes::new(), Clock::take());
    let (mut watch, _) = held(&clashes, &clock);
    let request = arp(ArpOperation::Request, OTHER, Ipv4Addr::new(192, 0, 2, 2), ADDRESS);
    let probe = arp(ArpOperation::Request, OTHER, Ipv4Addr::UNSPECIFIED, ADDRESS);
    // Not about its own address, or the stack would answer it too.
    let clash = arp(ArpOperation::Request, OTHER, ADDRESS, Ipv4Addr::new(192, 0, 2, 9));
    watch.inner.received.extend([request, probe, clash]);
    let config = embassy_net::StaticConfigV4 {
        address: embassy_net::Ipv4Cidr::new(ADDRESS, 24),
        gateway: None,
        dns_servers: Default::default(),
    };
    let mut resources = embassy_net::StackResources::<1>::new();
    let (_, mut runner) = embassy_net::new(&mut watch, embassy_net::Config::ipv4_static(config), &mut resources, 1);
    assert!(poll_once(runner.run(), &Arc::new(Task::default())).is_pending());
    let sent: Vec<Heard> = watch.inner.sent.iter().filter_map(|frame| Heard::in_frame(frame)).collect();
    assert!(sent.iter().all(|heard| (heard.sender, heard.sender_ip) == (OWN, ADDRESS)));
    let about: Vec<Ipv4Addr> = sent.iter().map(|heard| heard.target_ip).collect();
    let (to_request, to_probe, in_defence) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::UNSPECIFIED, ADDRESS);
    for (answer, count) in [(to_request, 1), (to_probe, 1), (in_defence, 1)] {
        assert_eq!(about.iter().filter(|target| **target == answer).count(), count, "{answer} of {about:?}");
    }
    assert_eq!(clashes.clashes(), 1);
}

proptest! {
    #[test]
    fn any_frame_reaches_the_stack_unchanged(
        frames in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            // Nearly right, and cut anywhere.
            (prop::collection::vec((0..FRAME_LEN, any::<u8>()), 0..3), 0..=FRAME_LEN).prop_map(|(changes, len)| {
                let mut frame = clashing();
                for (at, value) in changes {
                    frame[at] = value;
                }
                frame.truncate(len);
                frame
            }),
        ], 0..20),
    ) {
        let (clashes, clock) = (Clashes::new(), Clock::take());
        let (mut watch, task) = held(&clashes, &clock);
        watch.inner.received.extend(frames.iter().cloned());
        prop_assert_eq!(poll(&mut watch, &task), frames);
    }

    #[test]
    fn the_stacks_own_frames_reach_the_wire_unchanged(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let (clashes, clock) = (Clashes::new(), Clock::take());
        let (mut watch, _) = held(&clashes, &clock);
        let token = watch.transmit(&mut Context::from_waker(Waker::noop())).unwrap();
        token.consume(frame.len(), |buffer| buffer.copy_from_slice(&frame));
        prop_assert_eq!(&watch.inner.sent, &[frame]);
    }
}
