//! The flow table: which instance each five-tuple goes to, found from both directions.
//!
//! Rows are dense and two hash chains lead to each: the egress key is what the local application sends, the ingress key is
//! what its peer's node sends. A full table makes room by ending the deadest of a window of rows.

mod lifetime;

pub use lifetime::{Lifetimes, Stage};

use crate::index::{HashIndex, HashKey};
use crate::slots::{RowRef, Slots};
use crate::time::Instant;

/// How many rows are compared when a full table makes room.
const EVICTION_WINDOW: usize = 16;

/// One direction of a flow as it is found: addresses in their 16-byte form, ports, protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The source address.
    pub src: [u8; 16],
    /// The destination address.
    pub dst: [u8; 16],
    /// The source port; the identifier of an echo request; otherwise 0.
    pub src_port: u16,
    /// The destination port; the identifier of an echo reply; otherwise 0.
    pub dst_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
}

impl FlowKey {
    #[inline]
    fn hash(&self, key: &HashKey) -> u64 {
        let mut bytes = [0; 40];
        let (src, rest) = bytes.split_at_mut(16);
        let (dst, rest) = rest.split_at_mut(16);
        src.copy_from_slice(&self.src);
        dst.copy_from_slice(&self.dst);
        let ports = u64::from(self.src_port) << 32 | u64::from(self.dst_port) << 16 | u64::from(self.protocol);
        rest.copy_from_slice(&ports.to_le_bytes());
        key.hash(&bytes)
    }
}

/// A flow, seen from its local end.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The local instance's namespace IP.
    pub local: [u8; 16],
    /// What the local application takes for its peer: a service IP, or the remote instance IP.
    pub dialled: [u8; 16],
    /// The local instance IP: the source on the wire.
    pub local_instance: [u8; 16],
    /// The remote namespace IP: the destination on the wire.
    pub remote: [u8; 16],
    /// The remote instance IP: the source of what comes back.
    pub remote_instance: [u8; 16],
    /// The local port, as in [`FlowKey`].
    pub local_port: u16,
    /// The remote port, as in [`FlowKey`].
    pub remote_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// How far it is.
    pub stage: Stage,
    /// The local application began it.
    pub outgoing: bool,
    /// The row of the remote instance's node.
    pub node: u32,
    /// The remote instance: its row in the table, or among the attachments when it is [`Self::within`] this node.
    pub instance: RowRef,
    /// The remote instance is attached to this node too and began the flow.
    pub within: bool,
    /// The local instance.
    pub attachment: RowRef,
    /// When its last packet was seen.
    pub last_seen: Instant,
    /// The last acknowledgement that the local TCP sent: the sequence number that it would take a RST with.
    pub last_ack: u32,
}

impl Flow {
    const EMPTY: Self = Self {
        local: [0; 16],
        dialled: [0; 16],
        local_instance: [0; 16],
        remote: [0; 16],
        remote_instance: [0; 16],
        local_port: 0,
        remote_port: 0,
        protocol: 0,
        stage: Stage::Opening,
        outgoing: false,
        node: 0,
        instance: RowRef::NONE,
        within: false,
        attachment: RowRef::NONE,
        last_seen: Instant::ZERO,
        last_ack: 0,
    };

    /// The key under which packets of the local application find it.
    pub fn egress_key(&self) -> FlowKey {
        FlowKey {
            src: self.local,
            dst: self.dialled,
            src_port: self.local_port,
            dst_port: self.remote_port,
            protocol: self.protocol,
        }
    }

    /// The row of the table whose flows it counts among; none for one that began [`Self::within`] this node.
    pub(crate) fn counted(&self) -> RowRef {
        if self.within { RowRef::NONE } else { self.instance }
    }

    /// The key under which packets from the remote node find it.
    pub fn ingress_key(&self) -> FlowKey {
        FlowKey {
            src: self.remote_instance,
            dst: self.local,
            src_port: self.remote_port,
            dst_port: self.local_port,
            protocol: self.protocol,
        }
    }
}

/// Why a flow is not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// A live flow has the same egress or ingress key.
    Collision,
    /// All rows that could make room hold live, established flows.
    Full,
}

/// Up to `F` flows. All zero when new.
pub struct FlowTable<const F: usize> {
    hash: HashKey,
    rows: [Flow; F],
    slots: Slots<F>,
    /// Keys: egress, ingress.
    index: HashIndex<F, 2>,
    /// Where the next search for room begins.
    eviction_hand: usize,
    /// Where the next search for dead flows begins.
    expiry_hand: usize,
    lifetimes: Lifetimes,
}

impl<const F: usize> FlowTable<F> {
    /// An empty table with the default lifetimes.
    pub const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            rows: [const { Flow::EMPTY }; F],
            slots: Slots::new(),
            index: HashIndex::new(),
            eviction_hand: 0,
            expiry_hand: 0,
            lifetimes: Lifetimes::ZERO,
        }
    }

    /// Sets the secret of the hashes and how long flows live. Only on an empty table.
    pub(crate) fn configure(&mut self, key: HashKey, lifetimes: Lifetimes) {
        self.hash = key;
        self.lifetimes = lifetimes;
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

    /// The row of the flow that an application's packet belongs to.
    #[inline]
    pub fn find_egress(&self, key: &FlowKey) -> Option<usize> {
        let found = self.index.find(key.hash(&self.hash), |row, which| {
            which == EGRESS && self.rows.get(row).is_some_and(|flow| flow.egress_key() == *key)
        });
        found.map(|(row, _)| row)
    }

    /// The row of the flow that a packet from another node belongs to.
    #[inline]
    pub fn find_ingress(&self, key: &FlowKey) -> Option<usize> {
        let found = self.index.find(key.hash(&self.hash), |row, which| {
            which == INGRESS && self.rows.get(row).is_some_and(|flow| flow.ingress_key() == *key)
        });
        found.map(|(row, _)| row)
    }

    /// Whether the flow's time is over.
    #[inline]
    pub fn is_dead(&self, flow: &Flow, now: Instant) -> bool {
        now >= flow.last_seen.saturating_add(self.lifetimes.of(flow.protocol, flow.stage))
    }

    /// Takes a flow in. `ended` is called for each flow that makes room for it.
    ///
    /// # Errors
    /// [`InsertError`]; nothing has changed then.
    pub(crate) fn insert(
        &mut self,
        flow: Flow,
        now: Instant,
        mut ended: impl FnMut(&Flow, Ended),
    ) -> Result<usize, InsertError> {
        for taken in [self.find_egress(&flow.egress_key()), self.find_ingress(&flow.ingress_key())] {
            if let Some(row) = taken.filter(|row| self.get(*row).is_some()) {
                if !self.get(row).is_some_and(|old| self.is_dead(old, now)) {
                    return Err(InsertError::Collision);
                }
                self.end(row, Ended::Expired, &mut ended);
            }
        }
        let row = match self.slots.take() {
            Some(taken) => taken.row(),
            None => {
                self.make_room(now, &mut ended)?;
                self.slots.take().ok_or(InsertError::Full)?.row()
            }
        };
        if let Some(place) = self.rows.get_mut(row) {
            *place = flow;
        }
        self.index.insert(flow.egress_key().hash(&self.hash), row, EGRESS);
        self.index.insert(flow.ingress_key().hash(&self.hash), row, INGRESS);
        Ok(row)
    }

    /// Ends a flow and returns it.
    pub(crate) fn remove(&mut self, row: usize) -> Option<Flow> {
        let flow = *self.get(row)?;
        self.index.remove(flow.egress_key().hash(&self.hash), row, EGRESS);
        self.index.remove(flow.ingress_key().hash(&self.hash), row, INGRESS);
        self.slots.give_back(row);
        Some(flow)
    }

    /// Looks at up to `budget` rows, ends those whose time is over, and calls `ended` for each.
    pub(crate) fn expire(&mut self, now: Instant, budget: usize, mut ended: impl FnMut(&Flow, Ended)) {
        for _ in 0..budget.min(self.slots.high_water()) {
            let row = self.expiry_hand;
            self.expiry_hand = self.following(row);
            if self.get(row).is_some_and(|flow| self.is_dead(flow, now)) {
                self.end(row, Ended::Expired, &mut ended);
            }
        }
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

    /// Ends the deadest flow of a window of rows: one whose time is over, else the one with the least time left, else, when
    /// only established TCP is in the window, none.
    fn make_room(&mut self, now: Instant, ended: &mut impl FnMut(&Flow, Ended)) -> Result<(), InsertError> {
        let mut deadest: Option<(usize, core::time::Duration)> = None;
        for _ in 0..EVICTION_WINDOW.min(F) {
            let row = self.eviction_hand;
            self.eviction_hand = self.following(row);
            let Some(flow) = self.get(row) else { continue };
            if self.is_dead(flow, now) {
                self.end(row, Ended::Expired, ended);
                return Ok(());
            }
            if flow.stage == Stage::Established && flow.protocol == TCP {
                continue;
            }
            let left = flow
                .last_seen
                .saturating_add(self.lifetimes.of(flow.protocol, flow.stage))
                .saturating_duration_since(now);
            if deadest.is_none_or(|(_, least)| left < least) {
                deadest = Some((row, left));
            }
        }
        let (row, _) = deadest.ok_or(InsertError::Full)?;
        self.end(row, Ended::Evicted, ended);
        Ok(())
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

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its time was over.
    Expired,
    /// It had to make room.
    Evicted,
}

const EGRESS: usize = 0;
const INGRESS: usize = 1;
/// The protocol number of TCP.
const TCP: u8 = 6;

#[cfg(test)]
mod tests;
