//! A pool of offsets: gives each to one owner at a time, and takes it back through a quarantine.
//!
//! A pool knows nothing of addresses; an [`AddressPlan`](super::AddressPlan) or a [`WorkerSubnet`](super::WorkerSubnet) turns an
//! offset into one. Each slot is *fresh* (never given), *taken*, or *released*: in a queue ordered by the end of its quarantine.

use crate::time::Instant;

/// Why a pool refused. Nothing has changed when it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolError {
    /// Every offset is taken or in quarantine.
    Exhausted {
        /// How many offsets the pool has.
        limit: u32,
        /// When the first quarantine ends; `None` when nothing is in quarantine.
        retry_at: Option<Instant>,
    },
    /// The offset has an owner.
    AlreadyTaken,
    /// The offset was released and is not free yet.
    InQuarantine {
        /// When it will be.
        ready_at: Instant,
    },
    /// The pool does not have this offset.
    OutOfRange,
    /// The offset to be released has no owner.
    NotAllocated,
}

impl core::fmt::Display for PoolError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Exhausted {
                limit,
                retry_at: None,
            } => write!(f, "all {limit} addresses are taken: remove something first"),
            Self::Exhausted {
                limit,
                retry_at: Some(_),
            } => write!(
                f,
                "all {limit} addresses are taken or in quarantine: try again when the quarantine has ended"
            ),
            Self::AlreadyTaken => f.write_str("the address is taken: choose another"),
            Self::InQuarantine { .. } => {
                f.write_str("the address was freed a moment ago and is in quarantine: try again when it has ended, or choose another")
            }
            Self::OutOfRange => f.write_str("the address is outside of the pool"),
            Self::NotAllocated => f.write_str("the address is not allocated"),
        }
    }
}

impl core::error::Error for PoolError {}

/// How many offsets of a pool are in which state. The three states add up to `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolCounts {
    /// All of them.
    pub limit: u32,
    /// With an owner.
    pub taken: u32,
    /// Released: in quarantine, or out of it and free.
    pub released: u32,
    /// Never given to anybody.
    pub fresh: u32,
}

/// Gives out the offsets `first..=last`, which lie within `N` slots.
///
/// Every operation takes constant time, amortised over the life of the pool, as long as releases come in the order of their
/// `ready_at`; one that comes late is sorted in from the end of the queue.
///
/// A pool for the host addresses of a subnet, `Pool::new(1, N − 2)`, starts as all zero bytes, so a large static one costs no space
/// in the binary and no memory until it is used.
#[derive(Clone, Debug)]
pub struct Pool<const N: usize> {
    /// `first − 1`, wrapping: zero for the first host of a subnet.
    first_shift: u32,
    /// `N − 2 − last`, wrapping: zero for the last host of a subnet.
    last_shift: u32,
    /// How many offsets from `first` on are no longer fresh.
    passed_low: u32,
    /// How many offsets from `last` downward are no longer fresh.
    passed_high: u32,
    taken: u32,
    released: u32,
    /// The queue's ends, as links.
    head: u32,
    tail: u32,
    state: [State; N],
    /// The queue's neighbours, as links. Only read where `state` is `Released`.
    next: [u32; N],
    previous: [u32; N],
    /// The end of the quarantine, in milliseconds.
    ready_at: [u64; N],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Fresh = 0,
    Taken,
    Released,
}

/// A link is an offset plus one; zero is the end. So that no link is all zero bytes.
const END: u32 = 0;

impl<const N: usize> Pool<N> {
    /// A pool that gives `first..=last`. What lies outside of the `N` slots is left out; a pool with `first > last` is always exhausted.
    #[must_use]
    pub const fn new(first: u32, last: u32) -> Self {
        let slots = N as u32;
        let last = if last < slots { last } else { slots.saturating_sub(1) };
        let (first, last) = if first > last || N == 0 { (1, 0) } else { (first, last) };
        Self {
            first_shift: first.wrapping_sub(1),
            last_shift: slots.wrapping_sub(2).wrapping_sub(last),
            passed_low: 0,
            passed_high: 0,
            taken: 0,
            released: 0,
            head: END,
            tail: END,
            state: [State::Fresh; N],
            next: [END; N],
            previous: [END; N],
            ready_at: [0; N],
        }
    }

    /// Gives the oldest released offset whose quarantine is over, or else the lowest fresh one.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`].
    pub fn allocate(&mut self, now: Instant) -> Result<u32, PoolError> {
        match self.take_recycled(now) {
            Some(offset) => Ok(offset),
            None => self.take_fresh_low().ok_or(self.exhausted()),
        }
    }

    /// Gives the highest fresh offset, or else the oldest released one whose quarantine is over. For addresses that are to stay out
    /// of the way of the ordinary ones.
    ///
    /// # Errors
    /// [`PoolError::Exhausted`].
    pub fn allocate_top(&mut self, now: Instant) -> Result<u32, PoolError> {
        match self.take_fresh_high() {
            Some(offset) => Ok(offset),
            None => self.take_recycled(now).ok_or(self.exhausted()),
        }
    }

    /// Takes this very offset: a custom address, or one that is restored from storage.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::AlreadyTaken`], [`PoolError::InQuarantine`].
    pub fn reserve(&mut self, offset: u32, now: Instant) -> Result<(), PoolError> {
        match self.state(offset) {
            None => Err(PoolError::OutOfRange),
            Some(State::Taken) => Err(PoolError::AlreadyTaken),
            Some(State::Fresh) => {
                self.set_taken(offset);
                Ok(())
            }
            Some(State::Released) => {
                let ready_at = self.ready_at(offset);
                if ready_at > now {
                    return Err(PoolError::InQuarantine { ready_at });
                }
                self.unlink(offset);
                self.set_taken(offset);
                Ok(())
            }
        }
    }

    /// Takes `offset` back. It is given again when `ready_at` has come, after all that are ready earlier.
    ///
    /// # Errors
    /// [`PoolError::OutOfRange`], [`PoolError::NotAllocated`].
    pub fn release(&mut self, offset: u32, ready_at: Instant) -> Result<(), PoolError> {
        match self.state(offset) {
            None => Err(PoolError::OutOfRange),
            Some(State::Fresh | State::Released) => Err(PoolError::NotAllocated),
            Some(State::Taken) => {
                self.taken = self.taken.saturating_sub(1);
                self.link(offset, ready_at);
                Ok(())
            }
        }
    }

    /// Whether `offset` has an owner.
    #[must_use]
    pub fn is_taken(&self, offset: u32) -> bool {
        self.state(offset) == Some(State::Taken)
    }

    /// How many offsets are in which state.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let limit = self.limit();
        PoolCounts {
            limit,
            taken: self.taken,
            released: self.released,
            fresh: limit.saturating_sub(self.taken).saturating_sub(self.released),
        }
    }

    /// How many offsets there are.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.last().saturating_add(1).saturating_sub(self.first())
    }

    /// The lowest offset.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first_shift.wrapping_add(1)
    }

    /// The highest offset.
    #[must_use]
    pub const fn last(&self) -> u32 {
        (N as u32).wrapping_sub(2).wrapping_sub(self.last_shift)
    }

    fn exhausted(&self) -> PoolError {
        PoolError::Exhausted { limit: self.limit(), retry_at: offset_of(self.head).map(|oldest| self.ready_at(oldest)) }
    }

    fn take_recycled(&mut self, now: Instant) -> Option<u32> {
        let oldest = offset_of(self.head)?;
        if self.ready_at(oldest) > now {
            return None;
        }
        self.unlink(oldest);
        self.set_taken(oldest);
        Some(oldest)
    }

    /// Steps over what was reserved ahead; such an offset comes back through the queue.
    fn take_fresh_low(&mut self) -> Option<u32> {
        while self.has_fresh_stretch() {
            let offset = self.first().saturating_add(self.passed_low);
            self.passed_low = self.passed_low.saturating_add(1);
            if self.state(offset) == Some(State::Fresh) {
                self.set_taken(offset);
                return Some(offset);
            }
        }
        None
    }

    fn take_fresh_high(&mut self) -> Option<u32> {
        while self.has_fresh_stretch() {
            let offset = self.last().saturating_sub(self.passed_high);
            self.passed_high = self.passed_high.saturating_add(1);
            if self.state(offset) == Some(State::Fresh) {
                self.set_taken(offset);
                return Some(offset);
            }
        }
        None
    }

    fn has_fresh_stretch(&self) -> bool {
        self.passed_low.saturating_add(self.passed_high) < self.limit()
    }

    /// `None` outside of `first..=last`.
    fn state(&self, offset: u32) -> Option<State> {
        if offset < self.first() || offset > self.last() {
            return None;
        }
        self.state.get(offset as usize).copied()
    }

    fn set_taken(&mut self, offset: u32) {
        self.taken = self.taken.saturating_add(1);
        put(&mut self.state, offset, State::Taken);
    }

    fn ready_at(&self, offset: u32) -> Instant {
        Instant::from_millis(self.ready_at.get(offset as usize).copied().unwrap_or(0))
    }

    /// Puts `offset` into the queue, behind all that are ready no later.
    fn link(&mut self, offset: u32, ready_at: Instant) {
        let mut before = self.tail;
        while let Some(candidate) = offset_of(before) {
            if self.ready_at(candidate) <= ready_at {
                break;
            }
            before = get(&self.previous, candidate);
        }
        let after = match offset_of(before) {
            Some(neighbour) => get(&self.next, neighbour),
            None => self.head,
        };
        put(&mut self.state, offset, State::Released);
        put(&mut self.ready_at, offset, ready_at.as_millis());
        put(&mut self.previous, offset, before);
        put(&mut self.next, offset, after);
        let link = link_to(offset);
        self.join(before, link);
        self.join(link, after);
        self.released = self.released.saturating_add(1);
    }

    fn unlink(&mut self, offset: u32) {
        let (before, after) = (get(&self.previous, offset), get(&self.next, offset));
        self.join(before, after);
        self.released = self.released.saturating_sub(1);
    }

    /// Makes two links neighbours; the end stands for the queue itself.
    fn join(&mut self, before: u32, after: u32) {
        match offset_of(before) {
            Some(offset) => put(&mut self.next, offset, after),
            None => self.head = after,
        }
        match offset_of(after) {
            Some(offset) => put(&mut self.previous, offset, before),
            None => self.tail = before,
        }
    }
}

const fn link_to(offset: u32) -> u32 {
    offset.saturating_add(1)
}

const fn offset_of(link: u32) -> Option<u32> {
    link.checked_sub(1)
}

fn get(links: &[u32], offset: u32) -> u32 {
    links.get(offset as usize).copied().unwrap_or(END)
}

fn put<T>(slots: &mut [T], offset: u32, value: T) {
    if let Some(slot) = slots.get_mut(offset as usize) {
        *slot = value;
    }
}

#[cfg(test)]
mod tests;
