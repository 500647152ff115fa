//! The blob: written by a command, read by a board.

use core::fmt;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

use super::{Flaw, Provisioning};

/// The version of the format that this program knows.
pub const VERSION: u8 = 1;
/// The longest blob in bytes: more than the longest [`Provisioning`] needs.
pub const PROVISIONING_MAX: usize = 1024;

const MAGIC: [u8; 4] = *b"ACNP";
/// Magic, version and length.
const HEADER: usize = 7;
const CHECKSUM: usize = 4;

/// Without a table: it is used once in a start, and a table is a kibibyte of flash.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// Why a region of flash gives no [`Provisioning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProvisioningError {
    /// Nothing was written there: all bits of the magic are 0, or all are 1 as in erased flash.
    Missing,
    /// Something else is there.
    NotProvisioning,
    /// A provisioning of another version of the format.
    Version {
        /// The version that it states.
        found: u8,
    },
    /// A provisioning of this version that is cut off or changed.
    Damaged,
    /// It is whole, but no board can work with what it says.
    Unusable(Flaw),
}

impl fmt::Display for ProvisioningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "the board has no provisioning: make one with `acorn firmware provision` and flash it to the board's region for it",
            ),
            Self::NotProvisioning => f.write_str(
                "where the provisioning should be is something else: flash what `acorn firmware provision` wrote, to the board's \
                 region for it",
            ),
            Self::Version { found } => write!(
                f,
                "the provisioning has version {found}, this firmware knows version {VERSION}: use `acorn` and firmware of the \
                 same release",
            ),
            Self::Damaged => f.write_str(
                "the provisioning is damaged: some bytes are missing or changed. Make a new one with `acorn firmware provision` \
                 and flash it",
            ),
            Self::Unusable(flaw) => write!(
                f,
                "no board can work with this provisioning: {flaw}. Make a new one with `acorn firmware provision` and flash it",
            ),
        }
    }
}

impl core::error::Error for ProvisioningError {}

/// Reads the blob at the start of `region`; what is behind it does not count.
///
/// # Errors
/// [`ProvisioningError`], whose text says what to do.
pub fn decode(region: &[u8]) -> Result<Provisioning, ProvisioningError> {
    let magic = region.get(..MAGIC.len()).unwrap_or(region);
    if magic.iter().all(|byte| *byte == 0x00) || magic.iter().all(|byte| *byte == 0xff) {
        return Err(ProvisioningError::Missing);
    }
    let rest = region.strip_prefix(&MAGIC).ok_or(ProvisioningError::NotProvisioning)?;
    match rest.first() {
        Some(&VERSION) => {}
        Some(&found) => return Err(ProvisioningError::Version { found }),
        None => return Err(ProvisioningError::Damaged),
    }
    let provisioning = content(region)
        .and_then(|content| postcard::take_from_bytes::<Provisioning>(content).ok())
        .and_then(|(provisioning, leftover)| leftover.is_empty().then_some(provisioning))
        .ok_or(ProvisioningError::Damaged)?;
    provisioning.check().map_err(ProvisioningError::Unusable)?;
    Ok(provisioning)
}

/// The content between header and checksum, if the checksum fits.
fn content(region: &[u8]) -> Option<&[u8]> {
    let (header, _) = region.split_first_chunk::<HEADER>()?;
    let [.., high, low] = *header;
    let end = HEADER.checked_add(usize::from(u16::from_be_bytes([high, low])))?;
    let (checked, rest) = region.split_at_checked(end)?;
    let (checksum, _) = rest.split_first_chunk::<CHECKSUM>()?;
    (CRC.checksum(checked) == u32::from_be_bytes(*checksum)).then(|| checked.get(HEADER..))?
}

impl Provisioning {
    /// Writes the blob into `out` and gives the part of it that was written. It holds private keys.
    ///
    /// # Errors
    /// The [`Flaw`] that no board could work with.
    pub fn encode<'a>(&self, out: &'a mut [u8; PROVISIONING_MAX]) -> Result<&'a [u8], Flaw> {
        self.check()?;
        self.write(out).ok_or(Flaw::TooLong)
    }

    /// Writes the blob whatever it says, if it fits.
    pub(super) fn write<'a>(&self, out: &'a mut [u8; PROVISIONING_MAX]) -> Option<&'a [u8]> {
        let (header, rest) = out.split_first_chunk_mut::<HEADER>()?;
        let room = rest.len().checked_sub(CHECKSUM)?;
        let length = postcard::to_slice(self, rest.get_mut(..room)?).ok()?.len();
        let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
        let [a, b, c, d] = MAGIC;
        *header = [a, b, c, d, VERSION, high, low];
        let (checked, rest) = out.split_at_mut_checked(HEADER.checked_add(length)?)?;
        *rest.first_chunk_mut::<CHECKSUM>()? = CRC.checksum(checked).to_be_bytes();
        out.get(..HEADER.checked_add(length)?.checked_add(CHECKSUM)?)
    }
}
