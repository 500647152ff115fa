//! All runs of a file.

use core::iter;

use miniz_oxide::inflate::decompress_slice_iter_to_slice;

use super::{Action, Flaw, Outcome, Replay, Step};
use crate::{Stream, Tally, Unreadable};

/// The most bytes of a chunk of a file, unpacked.
pub const CHUNK_MAX: usize = 48 * 1024;

/// Where a chunk is unpacked.
pub type Room = [u8; CHUNK_MAX];

/// A step that came out differently. The rest of its run is left out.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Which run of the file it is in, from 1.
    pub run: u32,
    /// Which step of the run it is, from 0.
    pub step: u32,
    /// What happened, when that could be read.
    pub action: Option<Action<'a>>,
    /// How it came out.
    pub what: Difference<'a>,
}

/// How a step came out differently.
#[derive(Clone, Copy, Debug)]
pub enum Difference<'a> {
    /// The file ends in the middle.
    Unreadable(Unreadable),
    /// It can't happen.
    Flaw(Flaw),
    /// Something else came of it.
    Outcome {
        /// What came of it.
        is: Outcome<'a>,
        /// What had to.
        should_be: Outcome<'a>,
    },
}

/// The whole runs in a chunk of a file. A file is made of chunks, each deflated (RFC 1951): in the length of its runs, one is much like
/// the other.
///
/// # Errors
/// When the chunk is none.
// What it takes of the stack is taken only while it runs.
#[inline(never)]
pub fn unpack<'a>(chunk: &[u8], room: &'a mut Room) -> Result<Stream<'a, Step<'a>>, Unreadable> {
    let len = decompress_slice_iter_to_slice(room, iter::once(chunk), false, true).map_err(|_| Unreadable)?;
    room.get(..len).map(Stream::new).ok_or(Unreadable)
}

/// Holds a router against all runs of a file. The vectors that are counted are packets, and the ends of runs.
pub fn judge(replay: &mut Replay, room: &mut Room, file: &[u8], mut failed: impl FnMut(&Failure<'_>)) -> Tally {
    let mut judge = Judge { replay, tally: Tally::default(), run: 0, step: 0, is_over: false };
    for chunk in Stream::<&[u8]>::new(file) {
        match chunk.and_then(|chunk| unpack(chunk, room)) {
            Ok(steps) => steps.for_each(|step| judge.hold(step, &mut failed)),
            Err(unreadable) => judge.hold(Err(unreadable), &mut failed),
        }
    }
    judge.tally
}

struct Judge<'r> {
    replay: &'r mut Replay,
    tally: Tally,
    run: u32,
    step: u32,
    /// Whether the run has failed.
    is_over: bool,
}

impl Judge<'_> {
    fn hold(&mut self, step: Result<Step<'_>, Unreadable>, failed: &mut impl FnMut(&Failure<'_>)) {
        let (action, what) = match step {
            Ok(Step { action, outcome: should_be }) => {
                self.step += 1;
                if matches!(action, Action::Begin(_)) {
                    (self.run, self.step, self.is_over) = (self.run + 1, 0, false);
                }
                if self.is_over {
                    return;
                }
                if action.is_packet() || action == Action::End {
                    self.tally.ran += 1;
                }
                let what = match self.replay.take(&action) {
                    Ok(is) if is == should_be => return,
                    Ok(is) => Difference::Outcome { is, should_be },
                    Err(flaw) => Difference::Flaw(flaw),
                };
                (Some(action), what)
            }
            Err(unreadable) => (None, Difference::Unreadable(unreadable)),
        };
        failed(&Failure { run: self.run, step: self.step, action, what });
        (self.tally.failed, self.is_over) = (self.tally.failed + 1, true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::FILE;
    use super::*;

    fn failures(file: &[u8]) -> (Tally, Vec<String>) {
        let mut failures = Vec::new();
        let (mut replay, mut room) = (Box::new(Replay::new()), Box::new([0; CHUNK_MAX]));
        let tally = judge(&mut replay, &mut room, file, |failure| failures.push(format!("{:?}", failure.what)));
        (tally, failures)
    }

    /// Takes the first chunk apart, and puts it together again with one step changed.
    fn changed(change: impl Fn(&mut Step<'_>) -> bool) -> Vec<u8> {
        let chunk = Stream::<&[u8]>::new(FILE).next().expect("a chunk").expect("a readable one");
        let mut room = Box::new([0; CHUNK_MAX]);
        let (mut steps, mut is_changed) = (Vec::new(), false);
        for step in unpack(chunk, &mut room).expect("a readable chunk") {
            let (mut step, mut buffer) = (step.expect("a readable step"), [0; 20_000]);
            is_changed |= !is_changed && change(&mut step);
            steps.extend_from_slice(crate::write(&step, &mut buffer).expect("there is room"));
        }
        assert!(is_changed);
        let (chunk, mut buffer) = (deflated(&steps), vec![0; CHUNK_MAX + 100]);
        crate::write(&&chunk[..], &mut buffer).expect("there is room").to_vec()
    }

    /// As stored blocks (RFC 1951 section 3.2.4).
    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let len = u16::try_from(bytes.len()).expect("less than 64 KiB");
        [&[1][..], &len.to_le_bytes(), &(!len).to_le_bytes(), bytes].concat()
    }

    #[test]
    fn what_is_different_is_told_and_the_rest_of_the_run_left_out() {
        let (whole, told) = failures(&changed(|_| true));
        assert_eq!((whole.is_good(), told.len()), (true, 0));
        let drops = |step: &mut Step<'_>| {
            let Outcome::Drop { reason } = &mut step.outcome else { return false };
            *reason ^= 1;
            true
        };
        let forwards = |step: &mut Step<'_>| {
            let Outcome::Forward { changes, .. } = &mut step.outcome else { return false };
            *changes = &changes[..changes.len() - 1];
            true
        };
        let ends = |step: &mut Step<'_>| {
            let Outcome::End { flows, .. } = &mut step.outcome else { return false };
            *flows += 1;
            true
        };
        for file in [changed(drops), changed(forwards), changed(ends)] {
            let (tally, told) = failures(&file);
            assert!(told[0].starts_with("Outcome"), "{told:?}");
            assert_eq!((tally.failed, tally.is_good()), (1, false));
            assert!(tally.ran <= whole.ran);
        }
    }

    #[test]
    fn a_file_that_is_none_fails() {
        assert!(!failures(&[]).0.is_good());
        let (tally, told) = failures(&FILE[..FILE.len() - 1]);
        assert_eq!((tally.failed, told), (1, vec!["Unreadable(Unreadable)".to_owned()]));
        let (tally, _) = failures(&[&[3, 0xff, 0xff, 0xff], FILE].concat());
        assert_eq!(tally.failed, 1);
    }
}
