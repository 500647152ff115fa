use std::cell::RefCell;
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use super::*;

/// A flash of `PAGES` erase units of `PAGE` bytes, as strict as the strictest of the chips: a word is written once between two erasures. It
/// outlives the store.
struct Chip<const PAGE: usize, const PAGES: usize> {
    bytes: Vec<u8>,
    /// So many operations are left until the power fails.
    power: usize,
    /// What becomes of the operation in which the power fails.
    torn: Torn,
    erased: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Torn {
    /// It has not begun.
    Nothing,
    /// It has ended, and nobody was told.
    All,
    /// What it touched reads as zeros, which is what the boards make of words whose checksum is wrong.
    Unreadable,
    /// The first half is done.
    Half,
}

#[derive(Debug)]
struct Failure;

impl NorFlashError for Failure {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

struct Flash<const PAGE: usize, const PAGES: usize>(Rc<RefCell<Chip<PAGE, PAGES>>>);

impl<const PAGE: usize, const PAGES: usize> Flash<PAGE, PAGES> {
    fn new() -> Self {
        let bytes = vec![0xff; PAGES * PAGE];
        Self(Rc::new(RefCell::new(Chip { bytes, power: usize::MAX, torn: Torn::Nothing, erased: 0 })))
    }

    fn apply(&self, range: Range<usize>, new: &[u8]) -> Result<(), Failure> {
        let mut chip = self.0.borrow_mut();
        if chip.power > 0 {
            chip.power -= 1;
            chip.bytes[range].copy_from_slice(new);
            return Ok(());
        }
        let half = range.start + range.len() / 2;
        match chip.torn {
            Torn::Nothing => {}
            Torn::All => chip.bytes[range].copy_from_slice(new),
            Torn::Unreadable => chip.bytes[range].fill(0),
            Torn::Half => chip.bytes[range.start..half].copy_from_slice(&new[..half - range.start]),
        }
        Err(Failure)
    }
}

impl<const PAGE: usize, const PAGES: usize> ErrorType for Flash<PAGE, PAGES> {
    type Error = Failure;
}

impl<const PAGE: usize, const PAGES: usize> ReadNorFlash for Flash<PAGE, PAGES> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failure> {
        let offset = offset as usize;
        bytes.copy_from_slice(&self.0.borrow().bytes[offset..offset + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        PAGES * PAGE
    }
}

impl<const PAGE: usize, const PAGES: usize> NorFlash for Flash<PAGE, PAGES> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failure> {
        self.0.borrow_mut().erased += 1;
        self.apply(from as usize..to as usize, &vec![0xff; (to - from) as usize])
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failure> {
        assert!((offset as usize).is_multiple_of(WORD) && bytes.len().is_multiple_of(WORD));
        for (n, word) in bytes.chunks(WORD).enumerate() {
            let at = offset as usize + n * WORD;
            assert!(self.0.borrow().bytes[at..at + WORD].iter().all(|&byte| byte == 0xff), "a word is written twice");
            self.apply(at..at + WORD, word)?;
        }
        Ok(())
    }
}

fn open<const PAGE: usize, const PAGES: usize>(
    flash: &Flash<PAGE, PAGES>,
    blob: &[u8],
) -> Result<FlashStore<Flash<PAGE, PAGES>>, StoreError<Failure>> {
    block_on(FlashStore::open(Flash(Rc::clone(&flash.0)), 0..(PAGES * PAGE) as u32, blob))
}

#[test]
fn starts_are_counted_over_many_erasures() {
    let flash = Flash::<512, 2>::new();
    for boot in 1..500 {
        assert_eq!(open(&flash, b"blob").unwrap().boot(), boot);
    }
    assert!(flash.0.borrow().erased > 10);
}

#[test]
fn joined_holds_over_restarts_until_it_is_taken_back_or_the_board_provisioned_anew() {
    let flash = Flash::<512, 2>::new();
    assert!(!open(&flash, b"blob").unwrap().joined());
    open(&flash, b"blob").unwrap().set_joined(true);
    for _ in 0..100 {
        assert!(open(&flash, b"blob").unwrap().joined());
    }
    assert!(!open(&flash, b"other").unwrap().joined());
    open(&flash, b"blob").unwrap().set_joined(false);
    assert!(!open(&flash, b"blob").unwrap().joined());
}

#[test]
fn a_state_that_is_already_written_is_not_written_again() {
    let flash = Flash::<512, 2>::new();
    let mut store = open(&flash, b"blob").unwrap();
    store.set_joined(true);
    let written = flash.0.borrow().bytes.clone();
    store.set_joined(true);
    assert_eq!(flash.0.borrow().bytes, written);
}

/// Cuts the power in every operation of a life of 30 starts, and looks at what the next start finds.
fn power_fails_anywhere<const PAGE: usize, const PAGES: usize>(torn: Torn) {
    for cut in 0.. {
        let flash = Flash::<PAGE, PAGES>::new();
        flash.0.borrow_mut().torn = torn;
        flash.0.borrow_mut().power = cut;
        let (mut boot, mut joined, mut next) = (0, false, false);
        for start in 0..30 {
            let Ok(mut store) = open(&flash, b"blob") else { break };
            assert_eq!((store.boot(), store.joined()), (boot + 1, joined), "{torn:?}, {cut}");
            boot = store.boot();
            next = start % 3 != 0;
            store.set_joined(next);
            if flash.0.borrow().power == 0 {
                break;
            }
            joined = next;
        }
        let all_done = flash.0.borrow().power > 0;
        flash.0.borrow_mut().power = usize::MAX;
        let store = open(&flash, b"blob").unwrap_or_else(|error| panic!("{torn:?}, {cut}: {error:?}"));
        assert!(store.boot() > boot, "{torn:?}, {cut}: {} after {boot}", store.boot());
        assert!(store.joined() == joined || store.joined() == next, "{torn:?}, {cut}");
        // And it goes on from there.
        let last = store.boot();
        for n in 1..12 {
            assert_eq!(open(&flash, b"blob").unwrap().boot(), last + n, "{torn:?}, {cut}");
        }
        if all_done {
            return;
        }
    }
}

#[test]
fn the_power_may_fail_in_any_operation() {
    for torn in [Torn::Nothing, Torn::All, Torn::Unreadable, Torn::Half] {
        power_fails_anywhere::<512, 2>(torn);
        power_fails_anywhere::<256, 5>(torn);
    }
}
