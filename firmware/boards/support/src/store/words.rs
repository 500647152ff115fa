//! A flash that is written in words of 32 bytes, whatever the chip could do: a write that loses its power then damages one word, and the
//! next item starts behind it. With words of one byte, the ruins of an item and the begin of the next can look like one item together.

use embedded_storage::nor_flash::NorFlash as Blocking;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

/// The size of a word, in bytes. The largest that the store can do, and what the STM32H7 has.
pub const WORD: usize = 32;

/// The flash `F`, in words. Its operations block.
pub struct Words<F>(pub F);

impl<F: Blocking> ErrorType for Words<F> {
    type Error = F::Error;
}

impl<F: Blocking> ReadNorFlash for Words<F> {
    /// Whole words are read too: the store then sees a mark of its own that is half written as written.
    const READ_SIZE: usize = WORD;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), F::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: Blocking> NorFlash for Words<F> {
    const WRITE_SIZE: usize = {
        assert!(WORD.is_multiple_of(F::WRITE_SIZE));
        WORD
    };
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), F::Error> {
        self.0.erase(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.0.write(offset, bytes)
    }
}
