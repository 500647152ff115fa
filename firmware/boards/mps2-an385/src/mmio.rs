//! Volatile access to the registers of devices: the one place that turns addresses into memory.

use core::ptr;

/// A block of 32-bit registers, `BYTES` long.
pub(crate) struct Block<const BYTES: usize> {
    base: usize,
}

impl<const BYTES: usize> Block<BYTES> {
    /// The registers from `base` on.
    ///
    /// # Safety
    ///
    /// `base` is a multiple of 4 and begins `BYTES` bytes of registers that are there on this board and that no Rust object
    /// lies in.
    pub(crate) const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    /// The register `offset` bytes into the block.
    #[inline(always)]
    pub(crate) fn read(&self, offset: usize) -> u32 {
        // SAFETY: by the contract of `new` the address, which `register` holds inside of the block, is a device register.
        unsafe { ptr::read_volatile(self.register(offset)) }
    }

    /// Writes the register `offset` bytes into the block.
    #[inline(always)]
    pub(crate) fn write(&self, offset: usize, value: u32) {
        // SAFETY: as in `read`; no Rust object lies there, so that nothing that the compiler relies on changes.
        unsafe { ptr::write_volatile(self.register(offset), value) }
    }

    /// The address of a register. Offsets are constants, so that the check costs nothing at run time.
    #[inline(always)]
    fn register(&self, offset: usize) -> *mut u32 {
        assert!(offset.is_multiple_of(4) && offset < BYTES, "a register outside of its block");
        (self.base + offset) as *mut u32
    }
}
