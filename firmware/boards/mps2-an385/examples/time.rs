//! Holds the clock and the alarms against the board's own 100 Hz counter, for longer than the timer below them takes to wrap
//! three times. Ends QEMU with code 0 when they agree. With `-icount shift=6,sleep=off` that takes seconds.
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_futures::join::join3;
use embassy_time::{Duration, Instant, Timer};
use mps2_an385::executor::{Executor, wakeups};
use mps2_an385::{entry, host};
use static_cell::StaticCell;

/// How long: three wraps of 2^32 counts of 40 ns, and more.
const RUN: Duration = Duration::from_secs(600);

/// How late an alarm may be heard: the other tasks' turns and a log line.
const LATE: Duration = Duration::from_micros(500);

/// FPGAIO_CLK100HZ.
const CLK100HZ: *const u32 = 0x4002_8014 as *const u32;

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    mps2_an385::init();
    EXECUTOR.init_with(Executor::new).run(|spawner| spawner.spawn(compare(spawner).expect("spawned once")))
}

#[embassy_executor::task]
async fn compare(_spawner: Spawner) {
    let begin = hundredths();
    let periods = [1_700, 333_333, 97_000_000].map(Duration::from_micros);
    let [fast, slow, rare] = periods.map(ticker);
    join3(fast, slow, rare).await;
    let measured = u64::from(hundredths().wrapping_sub(begin)) * 10;
    let now = Instant::now().as_millis();
    defmt::info!("{} ms by the clock, {} ms by the counter, {} wake-ups", now, measured, wakeups());

    // With nothing due only the wrap of the clock may wake the board.
    let before = wakeups();
    Timer::after(RUN).await;
    let idle = wakeups() - before;
    let total = u64::from(hundredths().wrapping_sub(begin)) * 10;
    let clock = Instant::now().as_millis();
    defmt::info!("{} ms by the clock, {} ms by the counter, {} wake-ups when idle", clock, total, idle);
    let agree = now.abs_diff(measured) <= 20 && clock.abs_diff(total) <= 20;
    host::exit(u8::from(!agree || idle > 1 + 600 / 85))
}

/// Sleeps one period after the other, and ends QEMU with code 1 when an alarm comes early or late.
async fn ticker(period: Duration) {
    let mut due = Instant::now();
    let mut last = due;
    while due < Instant::from_ticks(RUN.as_ticks()) {
        due += period;
        Timer::at(due).await;
        let now = Instant::now();
        if now < due || now < last || now > due + LATE {
            defmt::error!("due at {}, heard at {}", due, now);
            host::exit(1);
        }
        last = now;
    }
}

fn hundredths() -> u32 {
    // SAFETY: the counter is a register that AN385 has, and reading it changes nothing.
    unsafe { CLK100HZ.read_volatile() }
}
