//! A panic, and a fault: the message is kept in memory that a reset does not touch, and the board starts again.

use core::panic::PanicInfo;

use cortex_m_rt::{ExceptionFrame, exception};
use embassy_rp::peripherals::WATCHDOG;
use embassy_rp::watchdog::Watchdog;

/// Before it starts again after a panic, the board waits about a second, in clocks of the processor: whatever makes it panic at every start
/// must not wear out the store.
const PAUSE: u32 = 150_000_000;

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
    cortex_m::asm::delay(PAUSE);
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
