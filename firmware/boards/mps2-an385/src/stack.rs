//! The main stack: how much of it was used, and what stops it from growing too far.
//!
//! It lies at the very bottom of the RAM (see `memory.x`). The start-up code paints it; a region of the MPU without access,
//! 32 KiB just below, turns a stack that is too small into a fault that says so. That costs no RAM, and catches every
//! frame smaller than the region.

use core::arch::asm;

use cortex_m_rt::STACK_PAINT_VALUE;

use crate::mmio::Block;

unsafe extern "C" {
    // Bounds of the stack, from `memory.x`; it grows from `_stack_start` down to `_stack_end`. Only their addresses mean
    // anything.
    static _stack_start: u32;
    static _stack_end: u32;
}

fn top() -> usize {
    &raw const _stack_start as usize
}

fn bottom() -> usize {
    &raw const _stack_end as usize
}

/// Bytes that the stack has in all.
pub fn size() -> usize {
    top() - bottom()
}

/// Bytes of the stack that were used at most so far, interrupt handlers included, as far as the paint tells: what was
/// reserved but never written does not show. Reads the unused part of the stack once.
pub fn high_water() -> usize {
    let mut word = &raw const _stack_end;
    while (word as usize) < top() {
        // SAFETY: between the bounds of the stack there is RAM, which the start-up code has painted. Volatile, because what
        // lies there is the compiler's own.
        if unsafe { word.read_volatile() } != STACK_PAINT_VALUE {
            break;
        }
        word = word.wrapping_add(1);
    }
    top() - word as usize
}

/// The memory protection unit (Armv7-M ARM, B3.5) at 0xE000_ED90.
// SAFETY: the Cortex-M3 of AN385 has an MPU there.
const MPU: Block<0x14> = unsafe { Block::new(0xE000_ED90) };

const CTRL: usize = 0x04;
const RBAR: usize = 0x0C;
const RASR: usize = 0x10;

/// MPU_CTRL: on; what no region covers stays as it is; off in the hard fault handler, which uses the stack that overflowed.
const ON_WITH_DEFAULT_MAP: u32 = 0b101;
/// MPU_RBAR: the number in its low bits counts, here region 0.
const VALID_REGION_0: u32 = 1 << 4;
/// MPU_RASR: never executed, no access (AP = 0), 2^(14 + 1) bytes, enabled.
const NO_ACCESS_32_KIB: u32 = 1 << 28 | 14 << 1 | 1;
const GUARD_BYTES: usize = 32 * 1024;

/// Puts the guard below the stack.
pub(crate) fn guard() {
    MPU.write(RBAR, (bottom() - GUARD_BYTES) as u32 | VALID_REGION_0);
    MPU.write(RASR, NO_ACCESS_32_KIB);
    MPU.write(CTRL, ON_WITH_DEFAULT_MAP);
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
}

/// Whether a stack pointer has left the stack.
pub(crate) fn overflown(sp: usize) -> bool {
    sp < bottom()
}

/// Goes on in `f` with an empty stack.
pub(crate) fn restart(f: extern "C" fn() -> !) -> ! {
    // SAFETY: nothing that was on the stack is used again, because neither this nor `f` returns. Only called from handlers,
    // whose stack is the main one.
    unsafe { asm!("msr msp, {top}", "bx {f}", top = in(reg) top(), f = in(reg) f, options(noreturn)) }
}
