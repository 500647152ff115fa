use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::vec;
use std::vec::Vec;

use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use embassy_net_driver_channel::driver::{Driver, RxToken, TxToken};
use embedded_hal_async::spi::{ErrorType, Operation};

use super::*;

/// As much of a W5500 as the driver can see: registers, buffers of 16 KiB that wrap around, and one interrupt bit for any number of frames.
struct Model {
    common: [u8; 64],
    socket: [u8; 64],
    rx: Vec<u8>,
    tx: Vec<u8>,
    rx_write: u16,
    /// The receive pointer as of the last command: the register alone frees nothing.
    rx_read: u16,
    open: bool,
    openings: usize,
    sent: VecDeque<Vec<u8>>,
    tx_read: u16,
    dropped: usize,
}

#[derive(Clone)]
struct Bus(Rc<RefCell<Model>>);

impl Bus {
    fn new() -> Self {
        let mut common = [0; 64];
        common[0x39] = 4;
        let (rx, tx) = (vec![0; 0x4000], vec![0; 0x4000]);
        let model = Model {
            common,
            socket: [0; 64],
            rx,
            tx,
            rx_write: 0,
            rx_read: 0,
            open: false,
            openings: 0,
            sent: VecDeque::new(),
            tx_read: 0,
            dropped: 0,
        };
        Self(Rc::new(RefCell::new(model)))
    }

    /// A frame arrives, with `length` in front of it.
    fn arrives_as(&self, length: u16, frame: &[u8]) {
        let mut model = self.0.borrow_mut();
        if !model.open || usize::from(model.waiting()) + 2 + frame.len() > 0x4000 {
            model.dropped += 1;
            return;
        }
        for &byte in length.to_be_bytes().iter().chain(frame) {
            let at = usize::from(model.rx_write) % 0x4000;
            model.rx[at] = byte;
            model.rx_write = model.rx_write.wrapping_add(1);
        }
        model.socket[0x02] |= 0x04;
    }

    fn arrives(&self, frame: &[u8]) {
        self.arrives_as(frame.len() as u16 + 2, frame);
    }
}

impl Model {
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.socket[at], self.socket[at + 1]])
    }

    fn waiting(&self) -> u16 {
        self.rx_write.wrapping_sub(self.rx_read)
    }

    fn read(&self, block: u8, at: u16) -> u8 {
        match (block, at) {
            (0, _) => self.common[usize::from(at)],
            (1, 0x20 | 0x21) => 0x4000u16.to_be_bytes()[usize::from(at - 0x20)],
            (1, 0x26 | 0x27) => self.waiting().to_be_bytes()[usize::from(at - 0x26)],
            (1, _) => self.socket[usize::from(at)],
            (3, _) => self.rx[usize::from(at) % 0x4000],
            _ => panic!("nothing reads block {block}"),
        }
    }

    fn write(&mut self, block: u8, at: u16, byte: u8) {
        match (block, at) {
            (0, 0) => assert_eq!(byte, 0x80),
            (0, _) => self.common[usize::from(at)] = byte,
            (1, 0x01) => self.command(byte),
            (1, 0x02) => self.socket[0x02] &= !byte,
            (1, _) => self.socket[usize::from(at)] = byte,
            (2, _) => self.tx[usize::from(at) % 0x4000] = byte,
            (5..=29, 0x1e | 0x1f) if block % 4 == 1 => assert_eq!(byte, 0),
            _ => panic!("nothing writes block {block} at {at:#x}"),
        }
    }

    fn command(&mut self, command: u8) {
        match command {
            0x01 => {
                assert_eq!(self.socket[0] & 0x0f, 4, "MACRAW");
                assert!(!self.open, "opened twice");
                self.open = true;
                self.openings += 1;
                self.socket[0x24..0x2a].fill(0);
                (self.rx_write, self.rx_read, self.tx_read) = (0, 0, 0);
            }
            0x10 => self.open = false,
            0x20 => {
                let end = self.word(0x24);
                let mut frame = Vec::new();
                while self.tx_read != end {
                    frame.push(self.tx[usize::from(self.tx_read) % 0x4000]);
                    self.tx_read = self.tx_read.wrapping_add(1);
                }
                self.sent.push_back(frame);
            }
            0x40 => self.rx_read = self.word(0x28),
            other => panic!("command {other:#x}"),
        }
    }
}

impl ErrorType for Bus {
    type Error = Infallible;
}

impl SpiDevice for Bus {
    async fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
        let &mut [Operation::Write(&[high, low, control]), ref mut data] = operations else { panic!("no header") };
        let start = u16::from_be_bytes([high, low]);
        match data {
            Operation::Read(data) => {
                assert_eq!(control & 0b111, 0);
                for (n, byte) in data.iter_mut().enumerate() {
                    *byte = self.0.borrow().read(control >> 3, start.wrapping_add(n as u16));
                }
            }
            Operation::Write(data) => {
                assert_eq!(control & 0b111, 0b100);
                for (n, &byte) in data.iter().enumerate() {
                    self.0.borrow_mut().write(control >> 3, start.wrapping_add(n as u16), byte);
                }
            }
            _ => panic!("neither a read nor a write"),
        }
        Ok(())
    }
}

/// The interrupt pin, which is low while the model's bit is set.
struct Pin(Bus);

impl embedded_hal::digital::ErrorType for Pin {
    type Error = Infallible;
}

impl Wait for Pin {
    async fn wait_for_low(&mut self) -> Result<(), Infallible> {
        poll_fn(|_| if self.0.0.borrow().socket[0x02] & 0x04 != 0 { Poll::Ready(Ok(())) } else { Poll::Pending }).await
    }

    async fn wait_for_high(&mut self) -> Result<(), Infallible> {
        unimplemented!()
    }

    async fn wait_for_rising_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!()
    }

    async fn wait_for_falling_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!()
    }

    async fn wait_for_any_edge(&mut self) -> Result<(), Infallible> {
        unimplemented!()
    }
}

fn frame(n: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (n * 31 + at * 7) as u8).collect()
}

/// Takes what the driver gives to the stack.
fn take(device: &mut Device, cx: &mut std::task::Context) -> Option<Vec<u8>> {
    device.receive(cx).map(|(token, _)| token.consume(|bytes| bytes.to_vec()))
}

/// Runs the driver, with `step` in the place of the stack, until `step` is done or has said 10,000 times that it is not.
fn drive(bus: &Bus, mut step: impl FnMut(&mut Device, &mut std::task::Context) -> bool) {
    let queues: &'static mut Queues<2, 2> = std::boxed::Box::leak(std::boxed::Box::new(Queues::new()));
    let chip = block_on(Chip::start(bus.clone(), [2, 0, 0, 0, 0, 1])).unwrap();
    let (runner, mut device) = channel::new(queues, HardwareAddress::Ethernet([2, 0, 0, 0, 0, 1]));
    let (state, received, to_send) = runner.split();
    let runner = Runner { chip, interrupt: Pin(bus.clone()), state, received, to_send };
    let mut polls = 0;
    let stack = poll_fn(|cx| {
        polls += 1;
        assert!(polls < 10_000, "the driver hangs");
        if step(&mut device, cx) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    });
    let run = pin!(runner.run());
    let Either::First(()) = block_on(select(pin!(stack), run));
}

#[test]
fn every_frame_of_a_burst_arrives_whole_and_in_order() {
    let bus = Bus::new();
    let expected: Vec<Vec<u8>> = (0..300).map(|n| frame(n, 14 + n * 5)).collect();
    let (mut to_come, mut got) = (expected.iter(), Vec::new());
    drive(&bus, |device, cx| {
        // Ten at once, for one interrupt, whenever all that were before are through.
        if got.len() % 10 == 0 && bus.0.borrow().waiting() == 0 && bus.0.borrow().open {
            to_come.by_ref().take(10).for_each(|frame| bus.arrives(frame));
        }
        got.extend(take(device, cx));
        got.len() == expected.len()
    });
    assert_eq!(got, expected);
    assert_eq!((bus.0.borrow().dropped, bus.0.borrow().openings), (0, 1));
}

#[test]
fn a_full_buffer_is_emptied() {
    let bus = Bus::new();
    let mut got = 0;
    let mut filled = false;
    drive(&bus, |device, cx| {
        if !filled {
            (0..400).for_each(|n| bus.arrives(&frame(n, 60)));
            filled = true;
        }
        got += usize::from(take(device, cx).is_some());
        got == 0x4000 / 62
    });
    assert!(bus.0.borrow().dropped > 0);
}

#[test]
fn a_length_that_can_not_be_costs_the_buffer_and_nothing_more() {
    for length in [0, 1, 2, 15, 1517, 1600, 0x4000, 0xffff] {
        let bus = Bus::new();
        let (mut damaged, mut got) = (false, Vec::new());
        drive(&bus, |device, cx| {
            if !damaged {
                bus.arrives_as(length, &frame(1, 60));
                damaged = true;
            } else if bus.0.borrow().waiting() == 0 && got.is_empty() {
                bus.arrives(&frame(2, 60));
            }
            got.extend(take(device, cx));
            !got.is_empty()
        });
        assert_eq!(got[0], frame(2, 60), "{length}");
    }
}

#[test]
fn frames_are_sent_whole_while_others_arrive() {
    let bus = Bus::new();
    let mut sent = 0;
    drive(&bus, |device, cx| {
        bus.arrives(&frame(sent, 1514));
        take(device, cx);
        if sent < 100
            && let Some(token) = device.transmit(cx)
        {
            let frame = frame(sent, 14 + sent * 15);
            token.consume(frame.len(), |bytes| bytes.copy_from_slice(&frame));
            sent += 1;
        }
        bus.0.borrow().sent.len() == 100
    });
    for (n, sent) in bus.0.borrow().sent.iter().enumerate() {
        assert_eq!(*sent, frame(n, 14 + n * 15));
    }
}

#[test]
fn another_chip_is_refused() {
    let bus = Bus::new();
    bus.0.borrow_mut().common[0x39] = 0xff;
    assert_eq!(block_on(Chip::start(bus, [0; 6])).err(), Some(StartError::NotW5500(0xff)));
}
