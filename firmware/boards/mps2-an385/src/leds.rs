//! The two user LEDs, driven by the FPGAIO block (AN385, section "FPGA system control and I/O").

use crate::mmio::Block;

/// FPGAIO at 0x4002_8000: FPGAIO_LED is its first register, one bit a LED.
// SAFETY: AN385 has FPGAIO there; it is a block of registers.
const FPGAIO: Block<4> = unsafe { Block::new(0x4002_8000) };

const LED: usize = 0x00;

/// One of the two LEDs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Led {
    /// User LED 0.
    User0 = 0,
    /// User LED 1.
    User1 = 1,
}

impl Led {
    /// Switches the LED.
    pub fn set(self, on: bool) {
        critical_section::with(|_| {
            let others = FPGAIO.read(LED) & !(1 << self as u32);
            FPGAIO.write(LED, others | u32::from(on) << self as u32);
        });
    }

    /// Whether the LED is on.
    pub fn is_on(self) -> bool {
        FPGAIO.read(LED) & 1 << self as u32 != 0
    }
}
