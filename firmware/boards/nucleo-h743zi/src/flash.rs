//! The flash of the chip, read with care. Where power failed during a write, a word of 32 bytes is left whose checksum is wrong, and to read
//! such a word is a bus fault (RM0433, section 4.7.7): unguarded, the board would never start again.

use core::arch::asm;
use core::ops::Range;

use acorn_core::provision::PROVISIONING_MAX;
use cortex_m::peripheral::SCB;
use embassy_stm32::flash::{BANK1_REGION, Blocking, Error, FLASH_BASE, FLASH_SIZE, MAX_ERASE_SIZE, WRITE_SIZE};
use embassy_stm32::pac::FLASH;
use embassy_stm32::pac::flash::{Bank, regs::Ccr};
use embassy_stm32::{Peri, flash, peripherals};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The store: the last two sectors of bank 2, from the begin of the flash. To erase one takes 2 s typically and 4 s at most (datasheet
/// table "Flash memory programming", byte-wise); interrupts go on meanwhile, tasks do not. It is due once in about 2,000 starts.
pub const STORE: Range<u32> = 0x1c_0000..0x20_0000;

/// SCB_CCR: a load that faults on the bus is ignored where FAULTMASK is set.
const BFHFNMIGN: u32 = 1 << 8;
/// FLASH_CCR: clears every flag of an error.
const ALL_ERRORS: Ccr = Ccr(0x1fef_0000);

unsafe extern "C" {
    /// Where the provisioning is: from Cargo.toml, through the linker.
    static _provisioning: u8;
}

/// The flash. Addresses count from its begin.
pub struct Flash(flash::Flash<'static, Blocking>);

impl Flash {
    /// The flash of the chip.
    pub fn new(flash: Peri<'static, peripherals::FLASH>) -> Self {
        Self(flash::Flash::new_blocking(flash))
    }

    /// Reads what there can be of a provisioning blob.
    pub fn provisioning(&mut self, blob: &mut [u8; PROVISIONING_MAX]) -> Result<(), Error> {
        let address = &raw const _provisioning as u32;
        self.read(address - FLASH_BASE as u32, blob)
    }
}

impl ErrorType for Flash {
    type Error = Error;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = WRITE_SIZE;

    /// A word whose checksum is wrong reads as zeros.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Error> {
        for (at, word) in (offset..).step_by(WRITE_SIZE).zip(bytes.chunks_mut(WRITE_SIZE)) {
            bank(at).ccr().write_value(ALL_ERRORS);
            ignoring_bus_faults(|| self.0.blocking_read(at, word))?;
            if bank(at).sr().read().dbeccerr() {
                bank(at).ccr().write_value(ALL_ERRORS);
                word.fill(0);
            }
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH_SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WRITE_SIZE;
    const ERASE_SIZE: usize = MAX_ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Error> {
        bank(from).ccr().write_value(ALL_ERRORS);
        self.0.blocking_erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Error> {
        // An error that was left standing would be taken for one of this write.
        bank(offset).ccr().write_value(ALL_ERRORS);
        self.0.blocking_write(offset, bytes)
    }
}

fn bank(offset: u32) -> Bank {
    FLASH.bank(usize::from(offset >= BANK1_REGION.size))
}

/// Does `read` so that a bus fault in it is not one: what could not be read is then anything.
fn ignoring_bus_faults<T>(read: impl FnOnce() -> T) -> T {
    // SAFETY: FAULTMASK is set for as long as the bit is, so nothing else runs and no other fault is hidden; both are put back. The
    // barriers keep the reads between.
    unsafe {
        let scb = &*SCB::PTR;
        scb.ccr.modify(|ccr| ccr | BFHFNMIGN);
        asm!("cpsid f", "dsb", "isb");
        let value = read();
        asm!("dsb", "isb", "cpsie f");
        scb.ccr.modify(|ccr| ccr & !BFHFNMIGN);
        value
    }
}
