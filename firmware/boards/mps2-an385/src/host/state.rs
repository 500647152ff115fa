//! The state that outlives a run, in a file of the host.

use core::ffi::CStr;

use semihosting::fs::{self, File};
use semihosting::io::{Error, ErrorKind, Read, Write};

use super::arg;
use crate::checksum::crc32;

/// What the board remembers over restarts. The file is the one that the argument `state=PATH` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, defmt::Format)]
pub struct State {
    /// How often the board has started.
    pub boots: u32,
    /// Whether it was taken into its network.
    pub joined: bool,
}

/// Why the state was not read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, defmt::Format)]
pub enum StateError {
    /// The command line has no `state=PATH`.
    NoPath,
    /// The path is longer than 250 bytes.
    PathTooLong,
    /// The host refused, with this error number.
    Host(Option<i32>),
    /// The file is not a whole state.
    Corrupt,
}

impl From<Error> for StateError {
    fn from(error: Error) -> Self {
        Self::Host(error.raw_os_error())
    }
}

/// Begins every file, with the version of its form.
const MAGIC: [u8; 4] = *b"st\0\x01";

/// Bytes of a file: magic, boots, joined, checksum.
const BYTES: usize = 4 + 4 + 1 + 4;

/// Bytes of a path, the suffix of the new file and the terminating zero included.
const PATH: usize = 256;

/// What the name of the new file ends in until it takes the old one's place.
const SUFFIX: &[u8] = b".new";

impl State {
    /// Reads the file. `None` when there is none yet.
    pub fn load() -> Result<Option<Self>, StateError> {
        let mut room = [0; PATH];
        let mut file = match File::open(path(&mut room, b"")?) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = [0; BYTES];
        file.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => StateError::Corrupt,
            _ => error.into(),
        })?;
        Self::decode(&bytes).map(Some).ok_or(StateError::Corrupt)
    }

    /// Writes the file. Whenever this stops, the file holds the old or the new state: a new file is written and then takes the
    /// name of the old one.
    pub fn store(&self) -> Result<(), StateError> {
        let (mut old_room, mut new_room) = ([0; PATH], [0; PATH]);
        let (old, new) = (path(&mut old_room, b"")?, path(&mut new_room, SUFFIX)?);
        let mut file = File::create(new)?;
        file.write_all(&self.encode())?;
        drop(file);
        Ok(fs::rename(new, old)?)
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (body, checksum) = bytes.split_at_mut(BYTES - 4);
        let (magic, rest) = body.split_at_mut(4);
        let (boots, joined) = rest.split_at_mut(4);
        magic.copy_from_slice(&MAGIC);
        boots.copy_from_slice(&self.boots.to_le_bytes());
        joined.fill(u8::from(self.joined));
        checksum.copy_from_slice(&crc32(body).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; BYTES]) -> Option<Self> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (boots, joined) = rest.split_first_chunk::<4>()?;
        let whole = *magic == MAGIC && *checksum == crc32(body).to_le_bytes();
        whole.then(|| Self { boots: u32::from_le_bytes(*boots), joined: *joined == [1] })
    }
}

/// The path of the state file with a suffix, as semihosting takes it.
fn path<'a>(room: &'a mut [u8; PATH], suffix: &[u8]) -> Result<&'a CStr, StateError> {
    let path = arg("state").ok_or(StateError::NoPath)?.as_bytes();
    let length = path.len() + suffix.len();
    if length + SUFFIX.len() >= PATH {
        return Err(StateError::PathTooLong);
    }
    let (name, _) = room.split_at_mut(length);
    let (front, end) = name.split_at_mut(path.len());
    front.copy_from_slice(path);
    end.copy_from_slice(suffix);
    CStr::from_bytes_until_nul(room).map_err(|_| StateError::PathTooLong)
}
