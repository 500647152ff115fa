//! A thread-mode executor that sleeps with WFI, and counts how often it was woken.
//!
//! Embassy's own sleeps with WFE, which QEMU treats as a no-op: an idle board would cost a whole core of the host.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use embassy_executor::{Spawner, raw};

/// Whether a task waits to be polled.
static PENDING: AtomicBool = AtomicBool::new(false);

static WAKEUPS: AtomicU32 = AtomicU32::new(0);

/// How often the processor has come out of its sleep since the start. Wraps at 2^32.
pub fn wakeups() -> u32 {
    WAKEUPS.load(Ordering::Relaxed)
}

/// The executor: all of its tasks run in thread mode, interrupted by nothing but interrupt handlers.
pub struct Executor {
    inner: raw::Executor,
    not_send: PhantomData<*mut ()>,
}

impl Executor {
    /// An executor without tasks. There is one pending flag, so that a program has one executor.
    #[expect(clippy::new_without_default, reason = "the only one of a program is made in one place, by name")]
    pub fn new() -> Self {
        Self { inner: raw::Executor::new(core::ptr::null_mut()), not_send: PhantomData }
    }

    /// Calls `init`, which spawns the first tasks, and runs what is spawned for ever.
    pub fn run(&'static mut self, init: impl FnOnce(Spawner)) -> ! {
        init(self.inner.spawner());
        loop {
            PENDING.store(false, Ordering::Relaxed);
            // SAFETY: this is the only caller of `poll` on this executor, and the pender below does not call it.
            unsafe { self.inner.poll() };
            sleep();
        }
    }
}

/// Sleeps until an interrupt has made a task ready.
///
/// The flag is looked at and WFI executed with interrupts masked: one that comes in between is held pending, and a pending
/// interrupt ends WFI whether or not PRIMASK masks it (Armv7-M ARM, B1.5.19). So no wake-up is lost. Its handler runs when
/// the critical section ends.
fn sleep() {
    while !PENDING.load(Ordering::Relaxed) {
        critical_section::with(|_| {
            if !PENDING.load(Ordering::Relaxed) {
                cortex_m::asm::wfi();
                WAKEUPS.store(WAKEUPS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
        });
    }
}

/// What the raw executor calls when a task becomes ready.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    PENDING.store(true, Ordering::Relaxed);
}
