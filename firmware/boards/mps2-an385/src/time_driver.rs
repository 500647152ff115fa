//! Time for embassy-time, from the CMSDK dual timer (Arm DDI 0479, section 4.6) at 25 MHz.
//!
//! Timer 1 runs freely, 32 bits wide, and is the clock: 25 counts are one tick of 1 µs. Timer 2 is the alarm: it runs once
//! for each thing that is due, and not at all in between. The clock wraps after 171 s; what counts its wraps is that the
//! alarm never lies further ahead than half of that. So a board with nothing due wakes once in 86 s.

use core::cell::RefCell;
use core::task::Waker;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::{Driver, TICK_HZ};
use embassy_time_queue_utils::Queue;

use crate::mmio::Block;
use crate::vectors::{Interrupt, enable};

/// The dual timer at 0x4000_2000: timer 1, and timer 2 0x20 above it.
// SAFETY: AN385 has the CMSDK dual timer there.
const TIMER: Block<0x40> = unsafe { Block::new(0x4000_2000) };

/// TIMER1LOAD: a write sets the count.
const CLOCK_LOAD: usize = 0x00;
/// TIMER1VALUE: counts down from 0xFFFF_FFFF.
const CLOCK_VALUE: usize = 0x04;
const CLOCK_CONTROL: usize = 0x08;
/// TIMER2LOAD: a write starts the count there.
const ALARM_LOAD: usize = 0x20;
const ALARM_CONTROL: usize = 0x28;
/// TIMER2INTCLR: any write takes the interrupt back.
const ALARM_INTCLR: usize = 0x2C;

/// TIMERxCONTROL: count and stop, instead of over and over.
const ONE_SHOT: u32 = 1 << 0;
/// 32 bits instead of 16.
const WIDE: u32 = 1 << 1;
/// Interrupt at zero.
const INTERRUPT: u32 = 1 << 5;
/// Count from LOAD instead of from all ones.
const FROM_LOAD: u32 = 1 << 6;
const ENABLE: u32 = 1 << 7;

const ALARM_MODE: u32 = ONE_SHOT | WIDE | INTERRUPT | FROM_LOAD;

/// Counts of the timers a second. The prescaler is off.
pub const CLOCK_HZ: u64 = 25_000_000;

const COUNTS_PER_TICK: u64 = CLOCK_HZ / TICK_HZ;

/// The longest alarm: half of what the clock can count, so that no wrap goes by unseen.
const LONGEST: u64 = 1 << 31;

struct State {
    running: bool,
    /// How often the clock has wrapped,
    wraps: u32,
    /// and what it showed last.
    last: u32,
    queue: Queue,
}

impl State {
    /// Counts since the start.
    fn counts(&mut self) -> u64 {
        if !self.running {
            return 0;
        }
        let shown = !TIMER.read(CLOCK_VALUE);
        if shown < self.last {
            self.wraps += 1;
        }
        self.last = shown;
        u64::from(self.wraps) << 32 | u64::from(shown)
    }

    /// Wakes what is due and sets the alarm to what is due next.
    fn serve(&mut self) {
        let now = self.counts() / COUNTS_PER_TICK;
        let due = self.queue.next_expiration(now);
        let counts = due.saturating_mul(COUNTS_PER_TICK).saturating_sub(self.counts()).clamp(1, LONGEST);
        // An alarm that is due by now rings after one count: the handler then wakes its task.
        TIMER.write(ALARM_CONTROL, ALARM_MODE);
        TIMER.write(ALARM_LOAD, counts as u32);
        TIMER.write(ALARM_INTCLR, 1);
        TIMER.write(ALARM_CONTROL, ALARM_MODE | ENABLE);
    }
}

struct DualTimer {
    state: Mutex<RefCell<State>>,
}

impl DualTimer {
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        critical_section::with(|cs: CriticalSection<'_>| f(&mut self.state.borrow_ref_mut(cs)))
    }
}

impl Driver for DualTimer {
    fn now(&self) -> u64 {
        self.with(|state| state.counts()) / COUNTS_PER_TICK
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        self.with(|state| {
            if state.queue.schedule_wake(at, waker) && state.running {
                state.serve();
            }
        });
    }
}

embassy_time_driver::time_driver_impl!(static DRIVER: DualTimer = DualTimer {
    state: Mutex::new(RefCell::new(State { running: false, wraps: 0, last: 0, queue: Queue::new() })),
});

/// Starts the clock at 0. Until then it stands at 0 and no alarm rings. A second call changes nothing.
pub(crate) fn start() {
    DRIVER.with(|state| {
        if state.running {
            return;
        }
        TIMER.write(CLOCK_CONTROL, WIDE);
        // All ones, so that the clock begins at 0.
        TIMER.write(CLOCK_LOAD, u32::MAX);
        TIMER.write(CLOCK_CONTROL, WIDE | ENABLE);
        state.running = true;
        state.serve();
    });
    enable(Interrupt::DualTimer);
}

/// Counts of the 25 MHz clock since the start, 40 ns each: for measurements finer than a tick. Never goes back.
pub fn counts() -> u64 {
    DRIVER.with(State::counts)
}

/// The alarm has rung.
#[unsafe(no_mangle)]
extern "C" fn DUALTIMER() {
    DRIVER.with(State::serve);
}
