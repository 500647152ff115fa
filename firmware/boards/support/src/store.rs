//! What a board remembers over restarts, in a flash region of its own: how often it has started, and whether the manager has taken it in.

mod words;

use core::ops::Range;

use blake2::{Blake2s256, Digest};
use embassy_futures::block_on;
use embedded_storage::nor_flash::NorFlash;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use words::{WORD, Words};

/// The key of the boot counter.
const BOOTS: u8 = 0;
/// The key of the provisioning with which the manager has taken the node in.
const JOINED: u8 = 1;

/// Room for the largest item: its key and its value, rounded up to words.
const ITEM: usize = WORD;

/// Names a provisioning blob.
type Fingerprint = [u8; 8];
/// No blob's.
const NONE: Fingerprint = [0; 8];

/// Why the store can't be read or written. `E` is the error of the flash.
pub type StoreError<E> = sequential_storage::Error<E>;

/// The store of a board, in `F`. Power may fail at any moment: what was written before stays as it was.
pub struct FlashStore<F: NorFlash> {
    items: MapStorage<u8, Words<F>, Cache<Uncached, Uncached, Uncached, u8>>,
    boot: u32,
    provisioning: Fingerprint,
    joined: bool,
}

impl<F: NorFlash> FlashStore<F> {
    /// Opens the store in the bytes `region` of `flash` (two erase units at least), and counts this start: the counter is advanced, and
    /// written, when this returns, so that no value is ever used twice. `provisioning` is what the board was provisioned with; a node that
    /// has joined with another one has not joined.
    ///
    /// # Errors
    /// The flash can't be read or written. Nothing may be sent then: the counter could be an old one.
    pub async fn open(flash: F, region: Range<u32>, provisioning: &[u8]) -> Result<Self, StoreError<F::Error>> {
        let mut items = MapStorage::new(Words(flash), MapConfig::new(region), Cache::new_uncached());
        let mut buffer = [0; ITEM];
        let boots: Option<u32> = items.fetch_item(&mut buffer, &BOOTS).await?;
        // It can't wrap: long before, the flash has worn out.
        let boot = boots.unwrap_or(0).saturating_add(1);
        items.store_item(&mut buffer, &BOOTS, &boot).await?;
        let provisioning = fingerprint(provisioning);
        let joined: Option<Fingerprint> = items.fetch_item(&mut buffer, &JOINED).await?;
        Ok(Self { items, boot, provisioning, joined: joined == Some(provisioning) })
    }

    /// The number of this start, from 1.
    pub const fn boot(&self) -> u32 {
        self.boot
    }

    /// Whether the manager has taken the node in, under the provisioning of now.
    pub const fn joined(&self) -> bool {
        self.joined
    }

    /// Remembers whether the manager has taken the node in. Writes the flash, which may mean to erase a part of it: the board's documentation says how long that takes. When the write fails,
    /// the node goes on with what it knows, and asks again after its restart.
    pub fn set_joined(&mut self, joined: bool) {
        if self.joined == joined {
            return;
        }
        self.joined = joined;
        let value = if joined { self.provisioning } else { NONE };
        let written = block_on(self.items.store_item(&mut [0; ITEM], &JOINED, &value));
        #[cfg(feature = "defmt")]
        if written.is_err() {
            defmt::error!("the store in the flash can't be written");
        }
        #[cfg(not(feature = "defmt"))]
        let _ = written;
    }
}

#[cfg(feature = "node")]
impl<F: NorFlash> acorn_node::Store for FlashStore<F> {
    fn joined(&self) -> bool {
        self.joined()
    }

    fn set_joined(&mut self, joined: bool) {
        self.set_joined(joined);
    }
}

fn fingerprint(provisioning: &[u8]) -> Fingerprint {
    let digest: [u8; 32] = Blake2s256::digest(provisioning).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
