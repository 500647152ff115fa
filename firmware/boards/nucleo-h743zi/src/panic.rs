//! A panic, and a fault: the message is kept in memory that a reset does not touch, and the board starts again.

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use cortex_m_rt::{ExceptionFrame, exception};

unsafe extern "C" {
    static mut _panic_dump_start: u32;
    static mut _panic_dump_end: u32;
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
    SCB::sys_reset()
}

/// A fault is a panic. A stack that has overflowed leaves none to run this on: then the watchdog resets the board, and nothing is told.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    panic!("hard fault at {:#010x}, called from {:#010x}", frame.pc(), frame.lr())
}
