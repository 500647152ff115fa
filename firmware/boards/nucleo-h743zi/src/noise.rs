//! The random number generator of the chip (RM0433, section 34), register by register: the driver of embassy-stm32 restarts a generator
//! that has failed for as long as it fails, and gives no error.

use board_support::noise::{NOISE, NoiseFault, NoiseSource};
use embassy_stm32::pac::RNG;
use embassy_stm32::{Peri, peripherals, rcc};

/// How often the status is read until a word is there: some milliseconds, where a word takes microseconds.
const PATIENCE: u32 = 100_000;

/// The generator. It checks itself: its clock against the bus clock, and its noise for equal or alternating bits.
pub struct Rng(Peri<'static, peripherals::RNG>);

impl Rng {
    /// The generator of the chip, its clock running.
    pub fn new(rng: Peri<'static, peripherals::RNG>) -> Self {
        rcc::enable_and_reset::<peripherals::RNG>();
        Self(rng)
    }

    fn word(&mut self) -> Result<u32, NoiseFault> {
        let _ = &self.0;
        for _ in 0..PATIENCE {
            let status = RNG.sr().read();
            if status.seis() || status.secs() || status.ceis() || status.cecs() {
                return Err(NoiseFault);
            }
            if status.drdy() {
                // Zero: a fault was found between the two reads.
                return Some(RNG.dr().read()).filter(|&word| word != 0).ok_or(NoiseFault);
            }
        }
        Err(NoiseFault)
    }
}

impl NoiseSource for Rng {
    fn restart(&mut self) {
        RNG.cr().write(|control| control.set_rngen(false));
        RNG.sr().write(|status| {
            status.set_seis(false);
            status.set_ceis(false);
        });
        // The check of the clock is on where its bit is not set.
        RNG.cr().write(|control| control.set_rngen(true));
    }

    fn read(&mut self, noise: &mut [u8; NOISE]) -> Result<(), NoiseFault> {
        for bytes in noise.chunks_mut(4) {
            bytes.copy_from_slice(&self.word()?.to_le_bytes());
        }
        Ok(())
    }
}
