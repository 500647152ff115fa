//! The places in the flash that are not the program's.

use core::ops::Range;

use embassy_rp::flash::Blocking;
use embassy_rp::peripherals::FLASH;

/// The size of the flash, in bytes.
const SIZE: usize = 2 * 1024 * 1024;
/// The size of the provisioning region, in bytes.
const PROVISIONING_SIZE: usize = 4096;
/// The store: the last 16 sectors, from the begin of the flash. To erase one takes 45 ms typically and 400 ms at most (W25Q16JV datasheet,
/// section 9.6), and a write 0.7 ms; the program runs from the same flash, so everything stands still meanwhile, interrupts included. An
/// erasure is due once in about 60 starts.
pub const STORE: Range<u32> = 0x1f_0000..0x20_0000;

/// The flash of the board. Addresses count from its begin.
pub type Flash = embassy_rp::flash::Flash<'static, FLASH, Blocking, SIZE>;

unsafe extern "C" {
    /// Where the provisioning is: from Cargo.toml, through the linker.
    static _provisioning: [u8; PROVISIONING_SIZE];
}

/// The region of the provisioning.
pub fn provisioning() -> &'static [u8] {
    // SAFETY: flash, which reads as bytes whatever is in it. The program never writes there.
    unsafe { &_provisioning }
}
