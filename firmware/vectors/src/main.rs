//! The core and the cryptography under its tunnels, compiled for a Cortex-M3, held against what they do on a host and against the known
//! answers of the RFCs and Wycheproof: see `acorn_vectors`.
//!
//! Needs no network. Tells each group's vectors and each failure, and ends QEMU with 0 when all groups had vectors and none has failed,
//! with 1 otherwise:
//!
//! ```text
//! qemu-system-arm -M mps2-an385 -nographic -monitor none -serial none -semihosting-config enable=on,target=native -kernel vectors
//! ```
#![no_std]
#![no_main]

use acorn_vectors::cryptography::{self, CHACHA20_POLY1305, WireGuardSansIo, X25519, XCHACHA20_POLY1305};
use acorn_vectors::router::{self, CHUNK_MAX, Replay, Room};
use acorn_vectors::{Tally, Unreadable};
use defmt::{Debug2Format, Display2Format};
use mps2_an385::{entry, host, panic, stack};
use static_cell::ConstStaticCell;

/// The most failures of a group that are told: what comes after is hardly news.
const TOLD: u32 = 20;

#[entry]
fn main() -> ! {
    mps2_an385::init();
    // A panic restarts the board.
    if let Some(message) = panic::last_panic() {
        defmt::error!("a vector has ended the run: {=str}", message);
        host::exit(1);
    }
    let tallies = [
        ("router", route()),
        ("X25519", compute("X25519", X25519)),
        ("ChaCha20-Poly1305", compute("ChaCha20-Poly1305", CHACHA20_POLY1305)),
        ("XChaCha20-Poly1305", compute("XChaCha20-Poly1305", XCHACHA20_POLY1305)),
    ];
    for (group, tally) in tallies {
        defmt::info!("{=str}: {=u32} vectors, {=u32} failed", group, tally.ran, tally.failed);
    }
    defmt::info!("stack {=usize} of {=usize} bytes", stack::high_water(), stack::size());
    host::exit(u8::from(!tallies.iter().all(|(_, tally)| tally.is_good() && tally.not_offered == 0)))
}

/// The router and all below it.
fn route() -> Tally {
    static REPLAY: ConstStaticCell<Replay> = ConstStaticCell::new(Replay::new());
    static ROOM: ConstStaticCell<Room> = ConstStaticCell::new([0; CHUNK_MAX]);
    let mut told = 0;
    router::judge(REPLAY.take(), ROOM.take(), router::FILE, |failure| {
        told += 1;
        if told <= TOLD {
            defmt::error!(
                "router, run {=u32}, step {=u32}: {}",
                failure.run,
                failure.step,
                Debug2Format(&failure.what)
            );
        }
    })
}

/// The cryptography.
fn compute(group: &str, file: &[u8]) -> Tally {
    let mut told = 0;
    cryptography::judge::<WireGuardSansIo>(file, |failure| {
        told += 1;
        if told <= TOLD {
            match failure.origin {
                Some(origin) => {
                    defmt::error!("{=str}, {}: {}", group, Display2Format(&origin), Display2Format(&failure.flaw));
                }
                None => defmt::error!("{=str}, vector {=u32}: {}", group, failure.case, Display2Format(&Unreadable)),
            }
        }
    })
}
