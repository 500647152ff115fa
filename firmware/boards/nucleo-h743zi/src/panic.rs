//! A panic, and a fault: the message is kept in memory that a reset does not touch, and the board starts again.

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

unsafe extern "C" {
    static mut _panic_dump_start: u32;
    static mut _panic_dump_end: u32;
}

/// Before it starts again after a panic, the board waits about a second, in clocks of the processor: whatever makes it panic at every start
/// must not wear out the store.
const PAUSE: u32 = 400_000_000;

/// The message of the panic that the last start ended in, if it did; once. It is logged here too, because this start may end in one before
/// the application says it.
pub fn last() -> Option<&'static str> {
    let message = panic_persist::get_panic_message_utf8();
    if let Some(message) = message {
        defmt::error!("started again after: {=str}", message);
    }
    message
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    cortex_m::interrupt::disable();
    panic_persist::report_panic_info(info);
    // The memory has a checksum per word, and holds back a word that was written in part, until the next: a reset would lose it (RM0433,
    // section 2.4). So every word is written whole.
    let (mut word, end) = (&raw mut _panic_dump_start, &raw mut _panic_dump_end);
    while word < end {
        // SAFETY: a word of the region that memory.x sets aside for the message, which nothing else uses.
        unsafe {
            word.write_volatile(word.read_volatile());
            word = word.add(1);
        }
    }
    cortex_m::asm::dsb();
    cortex_m::asm::delay(PAUSE);
    SCB::sys_reset()
}

/// A fault is a panic. A stack that has overflowed leaves none to run this on: then the watchdog resets the board, and nothing is told.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    panic!("hard fault at {:#010x}, called from {:#010x}", frame.pc(), frame.lr())
}
