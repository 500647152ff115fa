//! The random number generator of the chip (RP2350 datasheet, section 12.12), register by register: the driver of embassy-rp tries again
//! for as long as the generator fails, and gives no error. The checks of the hardware are all on: von Neumann's balancer with its test for
//! equal bits, the continuous test for equal blocks (CRNGT), and the autocorrelation.

use board_support::noise::{NOISE, NoiseFault, NoiseSource};
use embassy_rp::pac::TRNG;
use embassy_rp::pac::trng::regs::RngIcr;
use embassy_rp::{Peri, peripherals};

/// The bytes that the generator collects before it tells: six words.
const BLOCK: usize = 24;
/// How many system clocks there are between two samples of the ring oscillator: "for acceptable results", 20 to 25 (section 12.12.2).
const SAMPLE_CLOCKS: u32 = 25;
/// The shortest but one of the chains of inverters that the oscillator can be.
const CHAIN: u8 = 1;
/// Blocks that the hardware may reject in a row: two equal neighbours among the 16-bit parts are good luck in one block of 5,000.
const REJECTED: u32 = 16;
/// How often the status is read until a block is there, which takes 2 ms on the average: 100 ms at least.
const PATIENCE: u32 = 2_000_000;
/// RNG_ICR: clears every flag, of which an autocorrelation error stays.
const ALL_FLAGS: RngIcr = RngIcr(0b1111);

/// The generator.
pub struct Trng(Peri<'static, peripherals::TRNG>);

impl Trng {
    /// The generator of the chip.
    pub fn new(trng: Peri<'static, peripherals::TRNG>) -> Self {
        Self(trng)
    }

    /// Waits for a block.
    fn block(&mut self) -> Result<[u8; BLOCK], NoiseFault> {
        let _ = &self.0;
        let mut rejected = 0;
        TRNG.rnd_source_enable().write(|enable| enable.set_rnd_src_en(true));
        for _ in 0..PATIENCE {
            let status = TRNG.rng_isr().read();
            if status.autocorr_err() || rejected == REJECTED {
                return Err(NoiseFault);
            }
            if status.crngt_err() || status.vn_err() {
                rejected += 1;
                self.discard();
            } else if status.ehr_valid() {
                return Ok(self.take());
            }
        }
        Err(NoiseFault)
    }

    /// Drops what is collected, and what is said about it, and collects anew.
    fn discard(&mut self) {
        TRNG.rnd_source_enable().write(|enable| enable.set_rnd_src_en(false));
        self.take();
        TRNG.rst_bits_counter().write(|reset| reset.set_rst_bits_counter(true));
        TRNG.rng_icr().write_value(ALL_FLAGS);
        TRNG.rnd_source_enable().write(|enable| enable.set_rnd_src_en(true));
    }

    /// Reads the block. Reading its last word clears it, and the next is collected.
    fn take(&mut self) -> [u8; BLOCK] {
        let words = [
            TRNG.ehr_data0().read(),
            TRNG.ehr_data1().read(),
            TRNG.ehr_data2().read(),
            TRNG.ehr_data3().read(),
            TRNG.ehr_data4().read(),
            TRNG.ehr_data5().read(),
        ];
        TRNG.rng_icr().write_value(ALL_FLAGS);
        let mut block = [0; BLOCK];
        for (bytes, word) in block.chunks_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        block
    }
}

impl NoiseSource for Trng {
    fn restart(&mut self) {
        TRNG.trng_sw_reset().write(|reset| reset.set_trng_sw_reset(true));
        // The reset needs a moment, which this read takes.
        TRNG.trng_sw_reset().read();
        TRNG.rng_imr().write(|mask| {
            mask.set_ehr_valid_int_mask(true);
            mask.set_autocorr_err_int_mask(true);
            mask.set_crngt_err_int_mask(true);
            mask.set_vn_err_int_mask(true);
        });
        TRNG.trng_config().write(|config| config.set_rnd_src_sel(CHAIN));
        TRNG.sample_cnt1().write(|count| *count = SAMPLE_CLOCKS);
        TRNG.trng_debug_control().write(|bypass| {
            bypass.set_auto_correlate_bypass(false);
            bypass.set_trng_crngt_bypass(false);
            bypass.set_vnc_bypass(false);
        });
    }

    fn read(&mut self, noise: &mut [u8; NOISE]) -> Result<(), NoiseFault> {
        for bytes in noise.chunks_mut(BLOCK) {
            bytes.copy_from_slice(&self.block()?);
        }
        // Off until the next time: the oscillator costs power.
        TRNG.rnd_source_enable().write(|enable| enable.set_rnd_src_en(false));
        Ok(())
    }
}
