//! The CMSDK APB watchdog (Arm DDI 0479, section 4.7) at 25 MHz: restarts the board when nobody feeds it.
//!
//! It counts down from its load value. At the first zero it raises the NMI, whose handler records that it has bitten and
//! lets it reset the board at once; should not even the handler run, the second zero, one time-out later, resets all the
//! same. QEMU acts out the reset by its own setting, which is to restart the machine (`-action watchdog=reset`).

use embassy_time::Duration;

use crate::mmio::Block;
use crate::panic::die;
use crate::time_driver::CLOCK_HZ;

/// The watchdog at 0x4000_8000.
// SAFETY: AN385 has the CMSDK watchdog there.
const WATCHDOG: Block<0xC04> = unsafe { Block::new(0x4000_8000) };

/// WDOGLOAD: a write starts the count there.
const LOAD: usize = 0x000;
const CONTROL: usize = 0x008;
/// WDOGINTCLR: any write takes the interrupt back and starts the count at LOAD again.
const INTCLR: usize = 0x00C;
const LOCK: usize = 0xC00;

/// WDOGCONTROL: the first zero interrupts, the second resets.
const INTERRUPT_AND_RESET: u32 = 0b11;
/// WDOGLOCK: what opens the other registers for writing; anything else closes them.
const UNLOCK: u32 = 0x1ACC_E551;

/// The longest time-out: what 32 bits of 40 ns hold.
pub const LONGEST: Duration = Duration::from_secs(171);

/// Starts the watchdog: from now on it must be fed at least once in every `timeout`. Longer ones than [`LONGEST`] are cut to
/// it. Nothing stops it any more.
pub fn start(timeout: Duration) {
    let ticks = timeout.clamp(Duration::from_micros(1), LONGEST).as_ticks();
    load((ticks * (CLOCK_HZ / embassy_time::TICK_HZ)) as u32);
}

/// Begins the time-out anew. Harmless before [`start`].
pub fn feed() {
    unlocked(|| WATCHDOG.write(INTCLR, 1));
}

/// Lets the watchdog reset the board within a millisecond, whether or not it was started.
pub(crate) fn bite() -> ! {
    load((CLOCK_HZ / 2_000) as u32);
    loop {
        cortex_m::asm::nop();
    }
}

fn load(counts: u32) {
    unlocked(|| {
        WATCHDOG.write(LOAD, counts);
        WATCHDOG.write(CONTROL, INTERRUPT_AND_RESET);
    });
}

/// Opens the registers for `f` only, so that a stray write does not stop the watchdog.
fn unlocked(f: impl FnOnce()) {
    critical_section::with(|_| {
        WATCHDOG.write(LOCK, UNLOCK);
        f();
        WATCHDOG.write(LOCK, 0);
    });
}

/// The first zero.
#[cortex_m_rt::exception]
unsafe fn NonMaskableInt() -> ! {
    die(format_args!("watchdog: not fed in time"))
}
