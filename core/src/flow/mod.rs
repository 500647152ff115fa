//! The flow table: which instance each five-tuple goes to, found from both directions.
//!
//! Rows are dense and two set-associative indexes lead to them: the egress key is what the local application sends, the ingress
//! key is what its peer's node sends. A look-up reads one set of sixteen entries whatever is in the table, and where there is no
//! room for a new flow the deadest one of its set ends.

mod entry;
mod lifetime;
mod sets;

pub use entry::{Flow, FlowKey, Marks};
pub use lifetime::{Lifetimes, Stage};

use crate::addr::is_mapped;
use crate::index::HashKey;
use crate::packet::Protocol;
use crate::slots::{RowRef, Slots};
use crate::time::Instant;
use lifetime::Millis;
use sets::Sets;

/// How many further sets are looked at for a flow to end when all rows are in use and a new flow's own set is empty.
const FURTHER_SETS: usize = 8;

/// Why a flow is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// A live flow has the same egress or ingress key.
    Collision,
}

/// Up to `F` flows, at least 1. All zero when new.
///
/// It is never full: a new flow that finds no room ends another one, the deadest of its set. There are twice as many entries in each index
/// as rows. So a set overflows before all rows are in use only by chance: of as many flows as there are rows, with random
/// keys, about one in 600 ends early.
pub struct FlowTable<const F: usize> {
    hash: HashKey,
    rows: [Flow; F],
    slots: Slots<F>,
    egress: Sets<F>,
    ingress: Sets<F>,
    /// Where the next search for room begins when the sets have none.
    eviction_hand: usize,
    /// Where the next search for dead flows begins.
    expiry_hand: usize,
    /// When the present pass through all rows began, or the last one if it is over.
    pass_began: Instant,
    /// The earliest deadline that was seen in it.
    pass_deadline: Instant,
    lifetimes: Millis,
}

impl<const F: usize> FlowTable<F> {
    /// An empty table with the default lifetimes.
    pub const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            rows: [const { Flow::EMPTY }; F],
            slots: Slots::new(),
            egress: Sets::new(),
            ingress: Sets::new(),
            eviction_hand: 0,
            expiry_hand: 0,
            pass_began: Instant::ZERO,
            pass_deadline: Instant::ZERO,
            lifetimes: Millis::ZERO,
        }
    }

    /// Sets the secret of the hashes and how long flows live. Only on an empty table.
    pub(crate) fn configure(&mut self, key: HashKey, lifetimes: Lifetimes) {
        self.hash = key;
        self.lifetimes = Millis::from(lifetimes);
    }

    /// The flow in a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&Flow> {
        if self.slots.is_used(row) { self.rows.get(row) } else { None }
    }

    /// The flow in a row, to note a packet. Its keys must not be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, row: usize) -> Option<&mut Flow> {
        if self.slots.is_used(row) { self.rows.get_mut(row) } else { None }
    }

    /// A reference to the flow in a row, by which it is noticed when the flow ends.
    pub fn reference(&self, row: usize) -> Option<RowRef> {
        self.slots.reference(row)
    }

    /// Whether the flow is still there that a reference was made of.
    #[inline]
    pub fn is_current(&self, reference: RowRef) -> bool {
        self.slots.is_current(reference)
    }

    /// The row of the flow that an application's packet belongs to.
    #[inline]
    pub fn find_egress(&self, key: &FlowKey) -> Option<usize> {
        self.egress_row(self.hash_of(key), key)
    }

    /// The row of the flow that a packet from another node belongs to.
    #[inline]
    pub fn find_ingress(&self, key: &FlowKey) -> Option<usize> {
        self.ingress_row(self.hash_of(key), key)
    }

    /// Whether the flow's time is over.
    #[inline]
    pub fn is_dead(&self, flow: &Flow, now: Instant) -> bool {
        now >= self.deadline(flow)
    }

    /// Takes a flow in and returns its row. `ended` is called for each flow that makes room for it; the one in row `kept` does not.
    ///
    /// # Errors
    /// [`InsertError`]; at most flows that were dead have ended then.
    pub(crate) fn insert(
        &mut self,
        flow: Flow,
        now: Instant,
        kept: Option<usize>,
        mut ended: impl FnMut(&Flow, Ended),
    ) -> Result<usize, InsertError> {
        let (egress_key, ingress_key) = (flow.egress_key(), flow.ingress_key());
        let (egress, ingress) = (self.hash_of(&egress_key), self.hash_of(&ingress_key));
        let rivals = [self.egress_row(egress, &egress_key), self.ingress_row(ingress, &ingress_key)];
        for row in rivals.into_iter().flatten() {
            if self.get(row).is_some_and(|rival| !self.is_dead(rival, now)) {
                return Err(InsertError::Collision);
            }
            self.end(row, Ended::Expired, &mut ended);
        }
        self.make_room([egress, ingress], now, kept, &mut ended);
        // There is a row now, but in a table of one whose flow is kept.
        let row = self.slots.take().ok_or(InsertError::Collision)?.row();
        if let Some(place) = self.rows.get_mut(row) {
            *place = flow;
        }
        self.egress.insert(egress, row);
        self.ingress.insert(ingress, row);
        Ok(row)
    }

    /// Ends a flow and returns it.
    pub(crate) fn remove(&mut self, row: usize) -> Option<Flow> {
        let flow = *self.get(row)?;
        self.egress.remove(self.hash_of(&flow.egress_key()), row);
        self.ingress.remove(self.hash_of(&flow.ingress_key()), row);
        self.slots.give_back(row);
        Some(flow)
    }

    /// Looks at up to `budget` rows, ends those whose time is over, and calls `ended` for each. Returns from when on there may be more to
    /// end: now, when not all rows have been looked at.
    pub(crate) fn expire(&mut self, now: Instant, budget: usize, mut ended: impl FnMut(&Flow, Ended)) -> Instant {
        if budget >= self.slots.high_water() {
            self.expiry_hand = 0;
        }
        for _ in 0..budget {
            let row = self.expiry_hand;
            if row == 0 {
                (self.pass_began, self.pass_deadline) = (now, Instant::MAX);
            }
            if let Some(flow) = self.get(row) {
                let deadline = self.deadline(flow);
                if now >= deadline {
                    self.end(row, Ended::Expired, &mut ended);
                } else {
                    self.pass_deadline = self.pass_deadline.min(deadline);
                }
            }
            self.expiry_hand = self.following(row);
            if self.expiry_hand == 0 {
                // A flow that has begun since its row was looked at, or whose life a packet has shortened, lives that long at least.
                return self.pass_deadline.min(self.pass_began.saturating_add_millis(self.lifetimes.shortest()));
            }
        }
        now
    }

    /// Flows in the table, dead ones that were not found yet included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows from here on have never held a flow.
    pub(crate) fn high_water(&self) -> usize {
        self.slots.high_water()
    }

    /// The key's hash under the table's secret.
    #[inline]
    fn hash_of(&self, key: &FlowKey) -> u64 {
        let ports = u64::from(key.src_port) << 32 | u64::from(key.dst_port) << 16 | u64::from(key.protocol);
        if is_mapped(key.src) && is_mapped(key.dst) {
            // An IPv4 key fits two words, which is half of the work.
            let (src, dst) = (u128::from_be_bytes(key.src), u128::from_be_bytes(key.dst));
            let addresses = (src & 0xffff_ffff) << 32 | dst & 0xffff_ffff;
            return self.hash.hash(&(addresses << 64 | u128::from(ports)).to_le_bytes());
        }
        let mut bytes = [0; 40];
        let (addresses, rest) = bytes.split_at_mut(32);
        let (before, behind) = addresses.split_at_mut(16);
        before.copy_from_slice(&key.src);
        behind.copy_from_slice(&key.dst);
        rest.copy_from_slice(&ports.to_le_bytes());
        self.hash.hash(&bytes)
    }

    #[inline]
    fn egress_row(&self, hash: u64, key: &FlowKey) -> Option<usize> {
        self.egress.find(hash, |row| self.rows.get(row).is_some_and(|flow| flow.has_egress_key(key)))
    }

    #[inline]
    fn ingress_row(&self, hash: u64, key: &FlowKey) -> Option<usize> {
        self.ingress.find(hash, |row| self.rows.get(row).is_some_and(|flow| flow.has_ingress_key(key)))
    }

    /// When the flow's time is over.
    #[inline]
    fn deadline(&self, flow: &Flow) -> Instant {
        flow.last_seen.saturating_add_millis(self.lifetimes.of(flow.protocol, flow.stage))
    }

    /// Sees to it that there is an entry in both sets and a row for a new flow.
    fn make_room(
        &mut self,
        [egress, ingress]: [u64; 2],
        now: Instant,
        kept: Option<usize>,
        ended: &mut impl FnMut(&Flow, Ended),
    ) {
        if self.egress.is_full(egress) {
            self.end_one(self.deadest(self.egress.rows(Sets::<F>::number(egress)), now, kept), ended);
        }
        if self.ingress.is_full(ingress) {
            self.end_one(self.deadest(self.ingress.rows(Sets::<F>::number(ingress)), now, kept), ended);
        }
        if self.slots.len() >= F {
            let first = Sets::<F>::number(egress);
            let near = (first..Sets::<F>::COUNT).chain(0..first).take(FURTHER_SETS.saturating_add(1));
            let spare = { near }.find_map(|set| self.deadest(self.egress.rows(set), now, kept)).or_else(|| {
                let row = self.eviction_hand;
                self.deadest(core::iter::once(row), now, kept)
            });
            self.eviction_hand = self.following(self.eviction_hand);
            self.end_one(spare, ended);
        }
    }

    /// Which of some rows' flows is to make room, and how it ends: one whose time is over; else the one with the least time
    /// left that is not established TCP; else of these the one with the least time left. Of two alike, the one with the smaller
    /// egress key. Not the one in row `kept`.
    fn deadest(&self, rows: impl Iterator<Item = usize>, now: Instant, kept: Option<usize>) -> Option<(usize, Ended)> {
        let order = |row| {
            let flow = self.get(row)?;
            Some((self.ending(flow, now), self.deadline(flow), flow.egress_key(), row))
        };
        let (how, .., row) = rows.filter(|row| Some(*row) != kept).filter_map(order).min()?;
        Some((row, how))
    }

    /// How a flow would end that has to make room now.
    fn ending(&self, flow: &Flow, now: Instant) -> Ended {
        if self.is_dead(flow, now) {
            Ended::Expired
        } else if flow.protocol == Protocol::Tcp.number() && flow.stage == Stage::Established {
            Ended::EvictedEstablished
        } else {
            Ended::Evicted
        }
    }

    fn end_one(&mut self, one: Option<(usize, Ended)>, ended: &mut impl FnMut(&Flow, Ended)) {
        if let Some((row, how)) = one {
            self.end(row, how, ended);
        }
    }

    fn end(&mut self, row: usize, how: Ended, ended: &mut impl FnMut(&Flow, Ended)) {
        if let Some(flow) = self.remove(row) {
            ended(&flow, how);
        }
    }

    fn following(&self, row: usize) -> usize {
        let next = row.saturating_add(1);
        if next >= self.slots.high_water() { 0 } else { next }
    }
}

impl<const F: usize> Default for FlowTable<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// How a flow ended. The lesser is preferred when one has to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ended {
    /// Its time was over.
    Expired,
    /// It had to make room: the dead were not enough.
    Evicted,
    /// It was an established TCP connection and had to make room: nothing else was there to end.
    EvictedEstablished,
}

#[cfg(test)]
mod tests;
