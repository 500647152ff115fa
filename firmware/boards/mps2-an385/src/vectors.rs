//! The interrupt vectors of the AN385 image, and the lines that this crate uses.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;

/// Interrupt lines that have a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Interrupt {
    /// Either half of the CMSDK dual timer.
    DualTimer = 10,
    /// The LAN9118.
    Ethernet = 13,
}

// SAFETY: the numbers are the positions of the lines in the vector table of AN385, below its 32.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// Lets an interrupt through. Its handler must be linked in.
pub(crate) fn enable(interrupt: Interrupt) {
    // SAFETY: callers have set up what the handler touches, and none holds a critical section that a mask stands for.
    unsafe { NVIC::unmask(interrupt) }
}

unsafe extern "C" {
    fn DUALTIMER();
    fn ETHERNET();
    fn DefaultHandler();
}

/// What the processor takes its handlers from. Lines without one end in the default handler, where the watchdog ends them.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
static __INTERRUPTS: [unsafe extern "C" fn(); 32] = {
    let mut vectors: [unsafe extern "C" fn(); 32] = [DefaultHandler; 32];
    vectors[Interrupt::DualTimer as usize] = DUALTIMER;
    vectors[Interrupt::Ethernet as usize] = ETHERNET;
    vectors
};
