//! An `embassy-net` driver for the SMSC LAN9118 Ethernet controller, interrupt line 13.
//!
//! One interrupt wakes the stack, which then takes frames without further ones until none is left; only then does the driver
//! allow the next. It takes at most [`BURST`] frames in one go, so that a storm does not keep the other tasks from running.
//! It receives what is sent to the chip's own address and broadcasts: IPv4 needs no multicast.

mod chip;
mod counters;
mod registers;

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

use self::chip::{Buffer, CHIP, Received};
pub use self::counters::{Counters, counters};
use self::registers::{INT_EN, INT_STS, PHY_INT, RSFL_INT, RXE_INT, TDFA_INT, TXE_INT};
use crate::vectors::{Interrupt, enable};

/// Bytes of the longest Ethernet frame: a header of 14 and an IP packet of 1,500, without the check sequence.
const FRAME: usize = 1514;
/// Bytes of the frame check sequence, which the chip receives along with the frame.
const FCS: usize = 4;

/// Frames that are taken before the other tasks get their turn.
pub const BURST: u8 = 16;

/// Frames that the RX FIFO of 10,560 bytes holds at least: what TCP may expect to arrive in one burst.
const WINDOW: usize = 6;

/// What always wakes the driver.
const EVENTS: u32 = RSFL_INT | PHY_INT | RXE_INT | TXE_INT;

static WAKER: AtomicWaker = AtomicWaker::new();

/// Why there is no Ethernet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, defmt::Format)]
pub enum InitError {
    /// The driver exists already.
    Taken,
    /// The chip or its PHY does not answer.
    NoAnswer,
    /// The chip has no address that a station can have.
    NoAddress,
}

/// The driver. Give it to `embassy_net::new`.
pub struct Lan9118 {
    address: [u8; 6],
    link: LinkState,
    /// Frames that may still be taken in this go.
    budget: u8,
    rx: &'static mut Buffer,
    tx: &'static mut Buffer,
}

impl Lan9118 {
    /// Brings the chip up with the MAC address that it has, and begins to negotiate the link.
    ///
    /// Errors: [`InitError::Taken`] at the second call; the others when the chip is not there or has no address.
    pub fn new() -> Result<Self, InitError> {
        // Static, because a driver is moved about before it comes to rest in a task: 3 KB of stack each time.
        static RX: ConstStaticCell<Buffer> = ConstStaticCell::new([0; size_of::<Buffer>()]);
        static TX: ConstStaticCell<Buffer> = ConstStaticCell::new([0; size_of::<Buffer>()]);
        let (rx, tx) = RX.try_take().zip(TX.try_take()).ok_or(InitError::Taken)?;
        let address = chip::start()?;
        enable(Interrupt::Ethernet);
        Ok(Self { address, link: LinkState::Down, budget: BURST, rx, tx })
    }

    /// The chip's MAC address.
    pub fn address(&self) -> [u8; 6] {
        self.address
    }

    /// Takes the next good frame into `self.rx` and returns its length, or sees to it that the task is woken.
    fn next_frame(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        // Armed once the FIFO was found empty; then one more look is due, for a frame may have come just before.
        let mut armed = false;
        loop {
            if self.budget == 0 {
                cx.waker().wake_by_ref();
                return None;
            }
            match chip::receive(self.rx) {
                Received::Empty if armed => return None,
                Received::Empty => {
                    if CHIP.read(INT_STS) & (RXE_INT | TXE_INT) != 0 {
                        self.restart();
                    }
                    arm(cx, EVENTS);
                    armed = true;
                    continue;
                }
                Received::Frame(length) => {
                    self.budget -= 1;
                    counters::RX_FRAMES.add(1);
                    return Some(length);
                }
                Received::Broken => counters::RX_ERRORS.add(1),
                Received::Oversize => counters::RX_OVERSIZE.add(1),
                Received::OutOfStep => self.restart(),
            }
            self.budget -= 1;
        }
    }

    /// Whether a frame of any length can be sent, or else sees to it that the task is woken.
    fn can_send(&mut self, cx: &mut Context<'_>) -> bool {
        counters::TX_ERRORS.add(chip::sent_with_errors());
        if chip::room_to_send() {
            return true;
        }
        counters::TX_FULL.add(1);
        arm(cx, EVENTS | TDFA_INT);
        // Room may have come up just before.
        chip::room_to_send()
    }

    /// Starts the chip anew. What it held is lost, as frames may be. If it does not answer, the link stays down.
    fn restart(&mut self) {
        counters::RESTARTS.add(1);
        self.link = LinkState::Down;
        if let Err(error) = chip::start() {
            defmt::error!("Ethernet does not start again: {}", error);
        }
    }
}

/// Lets the chip wake the task at `events`, of which the passing ones begin anew.
fn arm(cx: &Context<'_>, events: u32) {
    WAKER.register(cx.waker());
    CHIP.write(INT_STS, RSFL_INT | TDFA_INT);
    CHIP.write(INT_EN, events);
}

/// Silences the chip until the driver has looked at it.
#[unsafe(no_mangle)]
extern "C" fn ETHERNET() {
    CHIP.write(INT_EN, 0);
    WAKER.wake();
}

impl Driver for Lan9118 {
    type RxToken<'a> = Frame<'a>;
    type TxToken<'a> = Slot<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Frame<'_>, Slot<'_>)> {
        if !self.can_send(cx) {
            return None;
        }
        let length = self.next_frame(cx)?;
        Some((Frame(self.rx.get_mut(..length)?), Slot(self.tx)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Slot<'_>> {
        self.can_send(cx).then_some(Slot(self.tx))
    }

    /// The stack asks once in each of its turns, at the end: here the next turn gets its frames.
    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        self.budget = BURST;
        if CHIP.read(INT_STS) & PHY_INT != 0 {
            self.link = if chip::link() == Ok(true) { LinkState::Up } else { LinkState::Down };
        }
        self.link
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(WINDOW);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A frame that came in.
pub struct Frame<'a>(&'a mut [u8]);

impl RxToken for Frame<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// The place for a frame to send.
pub struct Slot<'a>(&'a mut Buffer);

impl TxToken for Slot<'_> {
    /// `length` is at most the `max_transmission_unit` of the driver.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let result = f(&mut self.0[..length]);
        chip::send(self.0, length);
        counters::TX_FRAMES.add(1);
        result
    }
}
