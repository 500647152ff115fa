//! The handshake clock: WireGuard refuses a handshake whose time stamp is not newer than the last one it accepted
//! from that key, so the stamps of a node must never go back, not even when the system clock was set back over a
//! restart. A mark on disk is always ahead of every stamp in use; a start begins behind the mark.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::state_file;

/// How far ahead of the time in use the mark is written.
const RESERVE: Duration = Duration::from_secs(60);

/// The mark moves on when the time in use comes this close to it.
const MARGIN: Duration = Duration::from_secs(30);

/// Seconds since 1970 that no honest clock reaches (about the year 36,800); a larger mark is damage.
const LATEST_MARK: u64 = 1 << 40;

/// Keeps handshake time stamps increasing over restarts, by a file in the state directory.
///
/// The file holds one line: whole seconds since 1970 in decimal, later than any stamp used so far.
#[derive(Debug)]
pub struct HandshakeClock {
    path: PathBuf,
    start: Duration,
    mark: Duration,
}

/// Why the handshake clock can't run.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The mark can't be read.
    #[error("cannot read the handshake time {}: {source}", path.display())]
    Read {
        /// The mark's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mark is not a time.
    #[error(
        "the handshake time {} is damaged: expected seconds since 1970 in decimal. Remove the file if the system \
         clock is right",
        path.display()
    )]
    Damaged {
        /// The mark's file.
        path: PathBuf,
    },
    /// The mark can't be written, so the next start might use old time stamps.
    #[error("cannot write the handshake time {}: {source}", path.display())]
    Write {
        /// The mark's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl HandshakeClock {
    /// Starts the clock at the later of `system` (the system clock, since 1970) and one second after the stored
    /// mark, and stores a new mark before any stamp is used.
    ///
    /// # Errors
    /// When the file can't be read, understood or written.
    pub fn start(path: &Path, system: Duration) -> Result<Self, ClockError> {
        let start = match read_mark(path)? {
            Some(mark) => system.max(mark.saturating_add(Duration::from_secs(1))),
            None => system,
        };
        let mut clock = Self { path: path.to_owned(), start, mark: Duration::ZERO };
        clock.reserve(start)?;
        Ok(clock)
    }

    /// The time the clock started at, since 1970: what [`Tunnels::new`](crate::tunnel::Tunnels::new) takes.
    pub fn start_time(&self) -> Duration {
        self.start
    }

    /// Moves the mark ahead of `in_use` (what [`Tunnels::handshake_time`](crate::tunnel::Tunnels::handshake_time)
    /// says) when that comes near it. Call it at least every 20 s; it writes about twice a minute.
    ///
    /// # Errors
    /// When the file can't be written. The stamps in use stay right; only the next start is in danger.
    pub fn reserve(&mut self, in_use: Duration) -> Result<(), ClockError> {
        if in_use.saturating_add(MARGIN) < self.mark {
            return Ok(());
        }
        // Whole seconds, rounded up.
        let mark = Duration::from_secs(in_use.saturating_add(RESERVE).as_secs().saturating_add(1));
        state_file::replace(&self.path, format!("{}\n", mark.as_secs()).as_bytes())
            .map_err(|source| ClockError::Write { path: self.path.clone(), source })?;
        self.mark = mark;
        Ok(())
    }
}

/// The stored mark; `None` when there is no file yet.
fn read_mark(path: &Path) -> Result<Option<Duration>, ClockError> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => text.clear(),
        Err(source) => {
            return Err(ClockError::Read { path: path.to_owned(), source });
        }
    }
    match text.trim_end().parse::<u64>() {
        Ok(seconds) if seconds <= LATEST_MARK => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(ClockError::Damaged { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn stamp_file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stamp");
        (dir, path)
    }

    #[test]
    fn the_first_start_takes_the_system_clock() {
        let (_dir, path) = stamp_file();
        let clock = HandshakeClock::start(&path, secs(1_000)).unwrap();
        assert_eq!(clock.start_time(), secs(1_000));
    }

    #[test]
    fn a_clock_set_back_over_a_restart_does_not_take_the_stamps_back() {
        let (_dir, path) = stamp_file();
        let mut clock = HandshakeClock::start(&path, secs(1_000_000)).unwrap();
        let mut latest = clock.start_time();
        for step in 1..60 {
            latest = secs(1_000_000 + step * 20);
            clock.reserve(latest).unwrap();
        }
        drop(clock);
        let restarted = HandshakeClock::start(&path, secs(5)).unwrap();
        assert!(restarted.start_time() > latest);
        assert!(restarted.start_time() <= latest + RESERVE + secs(2));
    }

    #[test]
    fn starts_without_a_second_between_them_still_go_forward() {
        let (_dir, path) = stamp_file();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let clock = HandshakeClock::start(&path, secs(77)).unwrap();
            assert!(clock.start_time() > last);
            last = clock.start_time();
        }
    }

    #[test]
    fn a_system_clock_ahead_of_the_mark_wins() {
        let (_dir, path) = stamp_file();
        HandshakeClock::start(&path, secs(100)).unwrap();
        let clock = HandshakeClock::start(&path, secs(10_000)).unwrap();
        assert_eq!(clock.start_time(), secs(10_000));
    }

    #[test]
    fn the_file_is_written_only_when_the_mark_comes_near() {
        let (_dir, path) = stamp_file();
        let mut clock = HandshakeClock::start(&path, secs(1_000)).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        assert_eq!(first, "1061\n");
        clock.reserve(secs(1_030)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        clock.reserve(secs(1_031)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1092\n");
    }

    #[test]
    fn a_damaged_mark_is_refused_with_advice_and_left_alone() {
        let (_dir, path) = stamp_file();
        for bad in ["", "soon\n", "-5\n", "99999999999999999999\n", "1\n2\n", "18446744073709551615"] {
            std::fs::write(&path, bad).unwrap();
            let error = HandshakeClock::start(&path, secs(100)).unwrap_err();
            assert!(matches!(error, ClockError::Damaged { .. }), "{bad:?}: {error}");
            assert!(error.to_string().contains("Remove the file"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(HandshakeClock::start(&path, secs(100)), Err(ClockError::Damaged { .. })));
    }
}
