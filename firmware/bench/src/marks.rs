//! What the emulator notices: it counts the instructions from the one function to the other, which it knows by name.

use core::fmt::Display;
use core::hint::black_box;

use semihosting::println;

/// Does something `times` times over, all of it in `what`, and tells about it afterwards.
pub fn measure<T>(name: impl Display, times: usize, what: impl FnOnce() -> T) -> T {
    acorn_count_begins();
    let result = black_box(what());
    acorn_count_ends();
    println!("{name} {times}");
    result
}

// The bodies differ, so that the two functions do not become one.

// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acorn_count_begins() {
    black_box(1);
}

// SAFETY: as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acorn_count_ends() {
    black_box(2);
}
