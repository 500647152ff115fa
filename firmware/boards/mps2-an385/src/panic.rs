//! The end of a run, and what the next one learns of it: panics, hard faults and the watchdog leave a message in RAM that the
//! reset does not touch, and restart the board through the watchdog.
//!
//! With the feature `exit-on-panic` they end QEMU with exit code 101 instead.

use core::cell::UnsafeCell;
use core::fmt::{Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use cortex_m_rt::{ExceptionFrame, exception};

use crate::checksum::crc32;
use crate::mmio::Block;
use crate::{stack, watchdog};

/// The longest message that is kept, in bytes. The end of a longer one is lost.
pub const LONGEST: usize = 200;

/// Tells a record from what RAM holds after power-up.
const MAGIC: u32 = 0x6465_6164;

#[derive(Clone, Copy)]
struct Record {
    magic: u32,
    /// Of the used part of `text`.
    crc: u32,
    length: usize,
    text: [u8; LONGEST],
}

impl Record {
    const EMPTY: Self = Self { magic: 0, crc: 0, length: 0, text: [0; LONGEST] };

    /// The message, when there is a whole one.
    fn message(&self) -> Option<&str> {
        let text = self.text.get(..self.length).filter(|text| self.magic == MAGIC && self.crc == crc32(text))?;
        core::str::from_utf8(text).ok()
    }
}

impl Write for Record {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for character in text.chars() {
            let end = self.length + character.len_utf8();
            let Some(room) = self.text.get_mut(self.length..end) else { return Ok(()) };
            character.encode_utf8(room);
            self.length = end;
        }
        Ok(())
    }
}

/// A place for a record that one context at a time uses.
struct Cell(UnsafeCell<Record>);

// SAFETY: `KEPT` is written by `die`, of which `DYING` lets one go on and which ends the program, and by `last_panic`, which
// runs without interrupts. `REPORTED` is written before its one reference is given out, which `TAKEN` sees to.
unsafe impl Sync for Cell {}

/// Outlives a reset: the start-up code leaves `.uninit` alone. So it may hold anything, which any value of a `Record` is.
#[unsafe(link_section = ".uninit.panic")]
static KEPT: Cell = Cell(UnsafeCell::new(Record::EMPTY));

/// The message of the last run, once it was asked for.
static REPORTED: Cell = Cell(UnsafeCell::new(Record::EMPTY));

static TAKEN: AtomicBool = AtomicBool::new(false);

static DYING: AtomicBool = AtomicBool::new(false);

/// Why the run before this one ended, when it ended by a panic, a fault or the watchdog. Says it once: further calls, and
/// the next run, get `None`.
pub fn last_panic() -> Option<&'static str> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    critical_section::with(|_| {
        // SAFETY: the only reference to `KEPT` while interrupts are masked; see `Cell`.
        let kept = unsafe { &mut *KEPT.0.get() };
        let record = core::mem::replace(kept, Record::EMPTY);
        // SAFETY: `TAKEN` was false, so that nobody has a reference to `REPORTED`, nor will get another one.
        let reported = unsafe { &mut *REPORTED.0.get() };
        *reported = record;
        reported.message()
    })
}

/// Keeps the message, logs it, and ends the run.
pub(crate) fn die(message: Arguments<'_>) -> ! {
    cortex_m::interrupt::disable();
    // Whoever dies while dying (in the logger, say) only ends the run: the first message is the one that matters.
    if !DYING.swap(true, Ordering::Relaxed) {
        // SAFETY: nobody else comes here, interrupts are masked, and nobody runs after this.
        let record = unsafe { &mut *KEPT.0.get() };
        *record = Record::EMPTY;
        // A record takes as much as it has room for and never fails.
        let _ = record.write_fmt(message);
        record.crc = record.text.get(..record.length).map_or(0, crc32);
        record.magic = MAGIC;
        if let Some(text) = record.message() {
            defmt::error!("{=str}", text);
        }
    }
    if cfg!(feature = "exit-on-panic") {
        semihosting::process::exit(101);
    }
    watchdog::bite()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => die(format_args!("panic: {} at {}:{}", info.message(), place.file(), place.line())),
        None => die(format_args!("panic: {}", info.message())),
    }
}

/// System control block: CFSR at 0xD28 and MMFAR at 0xD34 of 0xE000_E000.
// SAFETY: every Armv7-M has its system control block there.
const SCB: Block<0x100> = unsafe { Block::new(0xE000_ED00) };
const CFSR: usize = 0x28;
const MMFAR: usize = 0x34;
const BFAR: usize = 0x38;

/// CFSR: MMFAR holds the address that the MPU refused.
const MMARVALID: u32 = 1 << 7;
/// CFSR: BFAR holds the address that the bus refused.
const BFARVALID: u32 = 1 << 15;

/// Every fault ends here: the configurable ones are not enabled, so that they escalate.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    let sp = core::ptr::from_ref(frame) as usize;
    if stack::overflown(sp) {
        // The frame lies outside of RAM. Begin anew at the top of the stack: nobody goes back to what was there.
        stack::restart(overflow)
    }
    let cfsr = SCB.read(CFSR);
    let address = match cfsr {
        _ if cfsr & MMARVALID != 0 => SCB.read(MMFAR),
        _ if cfsr & BFARVALID != 0 => SCB.read(BFAR),
        _ => 0,
    };
    die(format_args!(
        "hard fault at pc {:#010x}, lr {:#010x}, cfsr {:#010x}, address {:#010x}",
        frame.pc(),
        frame.lr(),
        cfsr,
        address
    ))
}

/// What a fault with the stack pointer outside of the stack says.
extern "C" fn overflow() -> ! {
    die(format_args!("stack overflow: more than {} bytes", stack::size()))
}
