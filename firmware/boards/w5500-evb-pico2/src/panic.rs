//! A panic, and a fault: the message is kept in memory that a reset does not touch, and the board starts again.

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};
use embassy_rp::peripherals::WATCHDOG;
use embassy_rp::watchdog::Watchdog;

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    cortex_m::interrupt::disable();
    panic_persist::report_panic_info(info);
    // SAFETY: the program ends here, whoever else has the watchdog.
    let mut watchdog = Watchdog::new(unsafe { WATCHDOG::steal() });
    // Through the watchdog, which resets everything but the memory: the reset of the processor alone would leave the peripherals as they
    // are, the pins of the W5500 among them.
    watchdog.trigger_reset();
    loop {
        cortex_m::asm::nop();
    }
}

/// A fault is a panic. A stack that has overflowed (the processor knows its limit) leaves none to run this on: then the watchdog resets the
/// board, and nothing is told.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    panic!("hard fault at {:#010x}, called from {:#010x}", frame.pc(), frame.lr())
}
