//! The edge node on the MPS2 AN385 board as QEMU emulates it: what the tests and the demo run.
//!
//! It has no random number generator and no storage: entropy and state come from the machine that runs QEMU.

#![no_std]
#![no_main]

mod host_parts;

use acorn_node::{Board, ClashWatch, Clashes, after_panic, decode, refuse, run, underlay_config};
use embassy_executor::Spawner;
use embassy_net::StackResources;
use host_parts::{HostEntropy, Lamp, Readings, StateFile, Watch};
use mps2_an385::executor::Executor;
use mps2_an385::lan9118::Lan9118;
use mps2_an385::leds::Led;
use mps2_an385::{host, panic, watchdog};
use static_cell::{ConstStaticCell, StaticCell};

/// How long the application may hang before the board is reset.
const WATCHDOG: embassy_time::Duration = embassy_time::Duration::from_secs(16);

static EXECUTOR: StaticCell<Executor> = StaticCell::new();
static UNDERLAY: StaticCell<StackResources<{ acorn_node::UNDERLAY_SOCKETS }>> = StaticCell::new();
static CLASHES: StaticCell<Clashes> = StaticCell::new();
static ENTROPY: ConstStaticCell<HostEntropy> = ConstStaticCell::new(HostEntropy);
static LAMP: ConstStaticCell<Lamp> = ConstStaticCell::new(Lamp(Led::User0));
static WATCH: ConstStaticCell<Watch> = ConstStaticCell::new(Watch);
static STATE: StaticCell<StateFile> = StaticCell::new();

#[mps2_an385::entry]
fn main() -> ! {
    mps2_an385::init();
    watchdog::start(WATCHDOG);
    EXECUTOR.init(Executor::new()).run(|spawner| spawner.spawn(defmt::unwrap!(start(spawner))))
}

#[embassy_executor::task]
async fn start(spawner: Spawner) -> ! {
    let (indicator, watchdog, entropy) = (LAMP.take(), WATCH.take(), ENTROPY.take());
    let last_panic = panic::last_panic();
    after_panic(last_panic).await;
    // Counted before anything is sent: the time stamps of this start are of its number.
    let store = STATE.init(StateFile::open());
    let provisioning = match decode(host::provisioning()) {
        Ok(provisioning) => provisioning,
        Err(problem) => refuse(&problem, indicator, watchdog).await,
    };
    let clashes: &'static Clashes = CLASHES.init(Clashes::new());
    let driver = ClashWatch::new(defmt::unwrap!(Lan9118::new()), clashes);
    let mut seed = [0; 8];
    defmt::unwrap!(host::entropy(&mut seed));
    let (underlay, net) = embassy_net::new(
        driver,
        underlay_config(&provisioning),
        UNDERLAY.init(StackResources::new()),
        u64::from_le_bytes(seed),
    );
    spawner.spawn(defmt::unwrap!(underlay_net(net)));
    let boot = store.boot();
    let meter = &Readings;
    let board = Board { underlay, provisioning, boot, entropy, store, indicator, watchdog, meter, clashes, last_panic };
    run(spawner, board).await
}

#[embassy_executor::task]
async fn underlay_net(mut runner: embassy_net::Runner<'static, ClashWatch<'static, Lan9118>>) -> ! {
    runner.run().await
}
