//! Clocks: 400 MHz for the processor, 200 MHz for the buses, 48 MHz for the random number generator.

use embassy_stm32::Config;
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Hsi48Config, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk,
    VoltageScale,
};

/// The clocks, from the chip's own oscillators. The board's crystal for the processor is the debugger's, which is not always powered; the
/// Ethernet has one of its own.
pub fn config() -> Config {
    let mut config = Config::default();
    let rcc = &mut config.rcc;
    rcc.hsi = Some(HSIPrescaler::DIV1);
    rcc.hsi48 = Some(Hsi48Config::default());
    // 64 MHz / 4 * 50 / 2.
    rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    rcc.sys = Sysclk::PLL1_P;
    rcc.ahb_pre = AHBPrescaler::DIV2;
    rcc.apb1_pre = APBPrescaler::DIV2;
    rcc.apb2_pre = APBPrescaler::DIV2;
    rcc.apb3_pre = APBPrescaler::DIV2;
    rcc.apb4_pre = APBPrescaler::DIV2;
    rcc.voltage_scale = VoltageScale::Scale1;
    config
}

/// Switches on the cache of instructions. The one of data stays off: the Ethernet's DMA writes memory behind its back.
pub fn cache_instructions() {
    // SAFETY: nothing else in the program touches the system control block at this point, and no code is ever written.
    let mut core = unsafe { cortex_m::Peripherals::steal() };
    core.SCB.enable_icache();
}
