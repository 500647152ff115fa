//! The edge node on a W5500-EVB-Pico2. Pins, and what the application wants of a board.

#![no_std]
#![no_main]

mod flash;
mod noise;
mod panic;

use acorn_node::{Board, ClashWatch, Clashes, EntropySource, Indicator, NoMeter, UNDERLAY_SOCKETS};
use board_support::noise::Random;
use board_support::store::FlashStore;
use board_support::w5500::{self, Queues};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Spi};
use embassy_rp::{bind_interrupts, dma, otp};
use embassy_time::{Delay, Duration};
use embedded_hal_bus::spi::ExclusiveDevice;
use flash::Flash;
use noise::Trng;
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Interrupts {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

type Bus = ExclusiveDevice<Spi<'static, SPI0, spi::Async>, Output<'static>, Delay>;
type Driver = ClashWatch<'static, w5500::Device>;

/// The clock of the bus to the W5500. The chip bears 80 MHz, and guarantees 33.3 (datasheet section 5.5.4).
const BUS_CLOCK: u32 = 30_000_000;
/// How long the application may be silent: it feeds the watchdog every 4 s. At most 16.7 s (RP2350 datasheet, section 12.9).
const SILENCE: Duration = Duration::from_secs(16);

static QUEUES: ConstStaticCell<Queues<8, 8>> = ConstStaticCell::new(Queues::new());

#[embassy_executor::main]
async fn main(spawner: Spawner) -> ! {
    let peripherals = embassy_rp::init(Default::default());
    let mut watchdog = Dog(embassy_rp::watchdog::Watchdog::new(peripherals.WATCHDOG));
    watchdog.0.pause_on_debug(true);
    watchdog.0.start(SILENCE);
    let last_panic = panic::last();
    let mut lamp = Lamp(Output::new(peripherals.PIN_25, Level::Low));

    let blob = flash::provisioning();
    let provisioning = match acorn_node::decode(blob) {
        Ok(provisioning) => provisioning,
        Err(problem) => acorn_node::refuse(&problem, &mut lamp, &mut watchdog).await,
    };

    static ENTROPY: StaticCell<Random<Trng>> = StaticCell::new();
    let entropy = ENTROPY.init(Random::new(Trng::new(peripherals.TRNG)));
    let mut seed = [0; 8];
    if entropy.fill(&mut seed).is_err() {
        panic!("the random number generator does not work");
    }

    let mut config = spi::Config::default();
    config.frequency = BUS_CLOCK;
    let spi = Spi::new(
        peripherals.SPI0,
        peripherals.PIN_18,
        peripherals.PIN_19,
        peripherals.PIN_16,
        peripherals.DMA_CH0,
        peripherals.DMA_CH1,
        Interrupts,
        config,
    );
    let Ok(bus) = ExclusiveDevice::new(spi, Output::new(peripherals.PIN_17, Level::High), Delay);
    let interrupt = Input::new(peripherals.PIN_21, Pull::Up);
    // Never dropped: the pin would be released, and what resets the chip is its low level.
    let mut reset = Output::new(peripherals.PIN_20, Level::High);
    let Ok(serial) = otp::get_chipid() else { panic!("the serial number of the chip can't be read") };
    let address = board_support::mac::address(&serial.to_le_bytes());
    let (device, driver) = match w5500::start(address, QUEUES.take(), bus, interrupt, &mut reset).await {
        Ok(parts) => parts,
        Err(error) => panic!("the W5500 does not answer: {error:?}"),
    };
    spawner.spawn(defmt::unwrap!(run_w5500(driver)));

    // As late as it can be, and before anything is sent: a board that fails above, at every start, does not wear out its flash.
    let store = match FlashStore::open(Flash::new_blocking(peripherals.FLASH), flash::STORE, blob).await {
        Ok(store) => store,
        Err(error) => panic!("the store can't be used: {error:?}"),
    };
    static CLASHES: StaticCell<Clashes> = StaticCell::new();
    let clashes = CLASHES.init(Clashes::new());
    static SOCKETS: StaticCell<StackResources<UNDERLAY_SOCKETS>> = StaticCell::new();
    let (underlay, runner) = embassy_net::new(
        ClashWatch::new(device, clashes),
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
async fn run_w5500(driver: w5500::Runner<Bus, Input<'static>>) -> ! {
    driver.run().await
}

#[embassy_executor::task]
async fn run_underlay(mut runner: embassy_net::Runner<'static, Driver>) -> ! {
    runner.run().await
}

/// The green lamp.
struct Lamp(Output<'static>);

impl Indicator for Lamp {
    fn set(&mut self, on: bool) {
        self.0.set_level(on.into());
    }
}

/// The watchdog of the chip.
struct Dog(embassy_rp::watchdog::Watchdog);

impl acorn_node::Watchdog for Dog {
    fn feed(&mut self) {
        self.0.feed(SILENCE);
    }
}
