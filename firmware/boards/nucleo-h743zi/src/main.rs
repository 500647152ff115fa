//! The edge node on a Nucleo-H743ZI. Clocks and pins, and what the application wants of a board.

#![no_std]
#![no_main]

mod clocks;
mod flash;
mod noise;
mod panic;

use acorn_core::provision::PROVISIONING_MAX;
use acorn_node::{Board, ClashWatch, Clashes, EntropySource, Indicator, NoMeter, UNDERLAY_SOCKETS, Watchdog};
use board_support::noise::Random;
use board_support::store::FlashStore;
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_stm32::eth::{Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{ETH, ETH_SMA, IWDG1};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{bind_interrupts, eth, uid};
use flash::Flash;
use noise::Rng;
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Interrupts {
    ETH => eth::InterruptHandler;
});

type Driver = ClashWatch<'static, Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>>;

/// How long the application may be silent, in microseconds. It feeds the watchdog every 4 s; to erase both sectors of the store takes 8 s at
/// most.
const SILENCE: u32 = 20_000_000;

static QUEUES: ConstStaticCell<PacketQueue<8, 8>> = ConstStaticCell::new(PacketQueue::new());

#[embassy_executor::main]
async fn main(spawner: Spawner) -> ! {
    let peripherals = embassy_stm32::init(clocks::config());
    clocks::cache_instructions();
    let mut watchdog = Dog(IndependentWatchdog::new(peripherals.IWDG1, SILENCE));
    watchdog.0.unleash();
    let last_panic = panic::last();
    let mut lamp = Lamp(Output::new(peripherals.PB0, Level::Low, Speed::Low));

    let mut flash = Flash::new(peripherals.FLASH);
    let mut blob = [0; PROVISIONING_MAX];
    let decoded = flash.provisioning(&mut blob).map(|()| acorn_node::decode(&blob));
    let provisioning = match decoded {
        Ok(Ok(provisioning)) => provisioning,
        Ok(Err(problem)) => acorn_node::refuse(&problem, &mut lamp, &mut watchdog).await,
        Err(error) => panic!("the flash can't be read: {error:?}"),
    };

    static ENTROPY: StaticCell<Random<Rng>> = StaticCell::new();
    let entropy = ENTROPY.init(Random::new(Rng::new(peripherals.RNG)));
    let mut seed = [0; 8];
    if entropy.fill(&mut seed).is_err() {
        panic!("the random number generator does not work");
    }

    let ethernet = Ethernet::new(
        QUEUES.take(),
        peripherals.ETH,
        Interrupts,
        peripherals.PA1,
        peripherals.PA7,
        peripherals.PC4,
        peripherals.PC5,
        peripherals.PG13,
        peripherals.PB13,
        peripherals.PG11,
        board_support::mac::address(&uid::uid()),
        peripherals.ETH_SMA,
        peripherals.PA2,
        peripherals.PC1,
    );
    // As late as it can be, and before anything is sent: a board that fails above, at every start, does not wear out its flash.
    let store = match FlashStore::open(flash, flash::STORE, &blob).await {
        Ok(store) => store,
        Err(error) => panic!("the store can't be used: {error:?}"),
    };
    static CLASHES: StaticCell<Clashes> = StaticCell::new();
    let clashes = CLASHES.init(Clashes::new());
    static SOCKETS: StaticCell<StackResources<UNDERLAY_SOCKETS>> = StaticCell::new();
    let (underlay, runner) = embassy_net::new(
        ClashWatch::new(ethernet, clashes),
        acorn_node::underlay_config(&provisioning),
        SOCKETS.init(StackResources::new()),
        u64::from_le_bytes(seed),
    );
    spawner.spawn(defmt::unwrap!(run_underlay(runner)));

    static STORE: StaticCell<FlashStore<Flash>> = StaticCell::new();
    static LAMP: StaticCell<Lamp> = StaticCell::new();
    static DOG: StaticCell<Dog> = StaticCell::new();
    let boot = store.boot();
    let board = Board {
        underlay,
        provisioning,
        boot,
        entropy,
        store: STORE.init(store),
        indicator: LAMP.init(lamp),
        watchdog: DOG.init(watchdog),
        meter: &NoMeter,
        clashes,
        last_panic,
    };
    acorn_node::run(spawner, board).await
}

#[embassy_executor::task]
async fn run_underlay(mut runner: embassy_net::Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// The green lamp, LD1.
struct Lamp(Output<'static>);

impl Indicator for Lamp {
    fn set(&mut self, on: bool) {
        self.0.set_level(on.into());
    }
}

/// The independent watchdog: it runs on an oscillator of its own.
struct Dog(IndependentWatchdog<'static, IWDG1>);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.pet();
    }
}
