//! Random numbers from the noise source of a chip: watched by the health tests of NIST SP 800-90B section 4.4, then condensed. A source
//! that has failed, or looks as if it had, gives an error and never weak bytes.

mod health;

use blake2::{Blake2s256, Digest};
use health::Health;
use wireguard_sans_io::{EntropyError, EntropySource};

/// The bytes of noise that one call of [`NoiseSource::read`] gives, which become 32 random bytes. At the 4 bits per byte that the tests hold a
/// source to, they carry 384 bits: more than the 320 that SP 800-90B (section 3.1.5.1.2) asks for in 256 bits of full entropy.
pub const NOISE: usize = 96;
/// The random bytes that [`NOISE`] becomes.
const OUTPUT: usize = 32;
/// What a byte of noise is taken to carry at least, in bits. Both chips claim more.
const MIN_ENTROPY: usize = 4;
/// A source is tested on this many bytes before any byte of it is used, and again after each failure (SP 800-90B section 4.3 asks for 1,024).
const START_UP: usize = 1024;

const _: () = assert!(NOISE * MIN_ENTROPY >= OUTPUT * 8 + 64);

/// The noise source of a chip.
pub trait NoiseSource {
    /// Brings the source from any state, a failed one included, into its first.
    fn restart(&mut self);

    /// Fills `noise`, in a bounded time.
    ///
    /// # Errors
    /// The source does not answer, or its own checks have found it faulty.
    fn read(&mut self, noise: &mut [u8; NOISE]) -> Result<(), NoiseFault>;
}

/// The chip's own checks have found the noise source faulty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseFault;

/// Random numbers from a [`NoiseSource`].
pub struct Random<S> {
    source: S,
    /// `None`: the source has yet to pass the tests of its start.
    health: Option<Health>,
}

impl<S: NoiseSource> Random<S> {
    /// Random numbers from `source`, which is started, and tested, when the first are asked for.
    pub const fn new(source: S) -> Self {
        Self { source, health: None }
    }

    /// Restarts and tests the source.
    fn start(&mut self) -> Result<Health, NoiseFault> {
        self.source.restart();
        let mut health = Health::new();
        for _ in 0..START_UP.div_ceil(NOISE) {
            self.tested(&mut health)?;
        }
        Ok(health)
    }

    fn tested(&mut self, health: &mut Health) -> Result<[u8; NOISE], NoiseFault> {
        let mut noise = [0; NOISE];
        self.source.read(&mut noise)?;
        if noise.iter().all(|&byte| health.passes(byte)) { Ok(noise) } else { Err(NoiseFault) }
    }

    fn draw(&mut self, output: &mut [u8]) -> Result<(), NoiseFault> {
        // Taken out: an error on the way leaves the source untested, and the next call starts it anew.
        let mut health = match self.health.take() {
            Some(health) => health,
            None => self.start()?,
        };
        for chunk in output.chunks_mut(OUTPUT) {
            let digest = Blake2s256::digest(self.tested(&mut health)?);
            chunk.copy_from_slice(&digest[..chunk.len()]);
        }
        self.health = Some(health);
        Ok(())
    }
}

impl<S: NoiseSource> EntropySource for Random<S> {
    fn fill(&mut self, output: &mut [u8]) -> Result<(), EntropyError> {
        self.draw(output).map_err(|NoiseFault| {
            output.fill(0);
            #[cfg(feature = "defmt")]
            defmt::error!("the random number generator of the chip does not work");
            EntropyError
        })
    }
}

#[cfg(test)]
mod tests;
