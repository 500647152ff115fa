//! Ends on purpose, in the way that `do=` names, and then tells what the next run learns of it. The second run ends QEMU, with
//! code 0 when it knows why the first one ended.
//!
//! Arguments: `state=PATH`, of a file that is not there yet; `do=panic`, `fault`, `overflow`, `hang` or `lock`.
#![no_std]
#![no_main]

use core::hint::black_box;

use embassy_time::Duration;
use mps2_an385::host::{self, State};
use mps2_an385::{entry, panic, stack, watchdog};

/// Long enough for everything that is not meant to hang.
const PATIENCE: Duration = Duration::from_millis(500);

#[entry]
fn main() -> ! {
    mps2_an385::init();
    let mut state = State::load().expect("the state is whole").unwrap_or_default();
    state.boots += 1;
    state.store().expect("the host takes the state");
    let mut random = [0; 16];
    host::entropy(&mut random).expect("the host has random bytes");
    defmt::info!("boot {}, stack {} of {} bytes", state.boots, stack::high_water(), stack::size());
    if state.boots > 1 {
        match panic::last_panic() {
            Some(message) if panic::last_panic().is_none() => {
                defmt::info!("the last run ended: {=str}", message);
                host::exit(0)
            }
            _ => host::exit(1),
        }
    }
    watchdog::start(PATIENCE);
    match host::arg("do") {
        Some("panic") => panic!("on purpose, with ä multi-byte character and {} numbers", black_box(2)),
        // SAFETY: there is nothing at this address: reading it is the fault that is asked for.
        Some("fault") => drop(unsafe { black_box(0xF000_0000 as *const u32).read_volatile() }),
        Some("overflow") => drop(dig(black_box(1))),
        Some("hang") => loop {
            cortex_m::asm::nop();
        },
        // Interrupts masked for ever: only what cannot be masked helps.
        Some("lock") => critical_section::with(|_| {
            loop {
                cortex_m::asm::nop();
            }
        }),
        _ => {}
    }
    host::exit(2)
}

/// Needs more stack than there is, whatever there is.
#[expect(unconditional_recursion, reason = "the point of it")]
fn dig(depth: u32) -> u32 {
    let room = black_box([depth; 64]);
    dig(depth + 1) + room.iter().sum::<u32>()
}
