//! Packets that wait until the table knows an address.

use core::net::{IpAddr, Ipv4Addr};

use crate::index::{HashIndex, HashKey};
use crate::packet::Offload;
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::key_of;

/// The longest packet that may wait, in bytes.
pub const PENDING_LEN: usize = 1536;

/// Where a waiting packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A local application.
    Local,
    /// A peer.
    Peer(RowRef),
}

/// A packet cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is longer than [`PENDING_LEN`].
    TooLong,
}

/// What has become of the look-up that a packet waits for. Numbered, so that a free row is all zero bytes.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is under way.
    Waiting,
    /// The table knows the address.
    Go,
    /// The packet has to be dropped for this reason.
    Failed(DropReason),
}

/// What is known of a waiting packet besides its bytes.
#[derive(Clone, Copy)]
struct Entry {
    /// Its place in the order of arrival; 0 when the row is free.
    order: u64,
    state: State,
    address: IpAddr,
    origin: Origin,
    offload: Offload,
    len: usize,
}

impl Entry {
    const EMPTY: Self = Self {
        order: 0,
        state: State::Waiting,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        origin: Origin::Local,
        offload: Offload::NONE,
        len: 0,
    };

    fn is_used(&self) -> bool {
        self.order != 0
    }
}

/// Up to `P` packets, at most half of them for one address, and at most half from peers. All zero when new.
///
/// Packets from each peer and from local applications have queues of their own: a peer can't push out what others have sent.
///
/// Every packet that the node handles asks whether others wait for its address, so that is one look-up by hash.
pub(super) struct Pending<const P: usize> {
    hash: HashKey,
    rows: [Entry; P],
    bytes: [[u8; PENDING_LEN]; P],
    /// Key: the address that is waited for.
    by_address: HashIndex<P, 1>,
    last: u64,
    used: usize,
    ready: usize,
}

impl<const P: usize> Pending<P> {
    /// How many packets of one origin may wait for one address, and how many of all peers for whatever.
    const SHARE: usize = if P < 4 { P } else { P / 2 };

    pub(super) const fn new() -> Self {
        Self {
            hash: HashKey(0, 0),
            rows: [Entry::EMPTY; P],
            bytes: [[0; PENDING_LEN]; P],
            by_address: HashIndex::new(),
            last: 0,
            used: 0,
            ready: 0,
        }
    }

    /// Sets the secret of the hashes. Only while nothing waits.
    pub(super) fn set_hash_key(&mut self, key: HashKey) {
        self.hash = key;
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Whether a packet of this origin for this address has to queue behind others, and what has become of their look-up.
    #[inline]
    pub(super) fn state_of(&self, address: IpAddr, origin: Origin) -> Option<State> {
        if self.used == 0 {
            return None;
        }
        let crowd = self.crowd(address, origin);
        (crowd.count > 0).then_some(crowd.state)
    }

    /// Queues a copy of a packet behind those that wait for the same address: when they may go on already, so may it. Returns
    /// whether an older one had to go for it.
    pub(super) fn push(
        &mut self,
        address: IpAddr,
        origin: Origin,
        packet: &[u8],
        offload: Offload,
    ) -> Result<bool, Refused> {
        if packet.len() > PENDING_LEN {
            return Err(Refused::TooLong);
        }
        let crowd = self.crowd(address, origin);
        let is_from_peer = |row: &Entry| row.is_used() && row.origin != Origin::Local;
        let place = if crowd.count >= Self::SHARE {
            Some(crowd.oldest)
        } else if origin != Origin::Local && self.rows.iter().filter(|row| is_from_peer(row)).count() >= Self::SHARE {
            self.oldest(is_from_peer)
        } else if self.used >= P {
            self.oldest(Entry::is_used)
        } else {
            self.rows.iter().position(|row| !row.is_used())
        };
        let Some(place) = place else {
            return Ok(true);
        };
        let replaced = self.free(place).is_some();
        self.last = self.last.saturating_add(1);
        let entry = Entry { order: self.last, state: crowd.state, address, origin, offload, len: packet.len() };
        let (Some(row), Some(bytes)) = (self.rows.get_mut(place), self.bytes.get_mut(place)) else {
            return Ok(true);
        };
        *row = entry;
        if let Some(bytes) = bytes.get_mut(..packet.len()) {
            bytes.copy_from_slice(packet);
        }
        self.by_address.insert(self.hash_of(address), place, 0);
        self.used = self.used.saturating_add(1);
        self.ready = self.ready.saturating_add(usize::from(entry.state != State::Waiting));
        Ok(replaced)
    }

    /// Lets the packets that wait for an address go on, or fail.
    pub(super) fn release(&mut self, address: IpAddr, state: State) {
        let waiting = |row: &&mut Entry| row.is_used() && row.state == State::Waiting && row.address == address;
        for row in self.rows.iter_mut().filter(waiting) {
            row.state = state;
            self.ready = self.ready.saturating_add(1);
        }
    }

    /// Whether a packet can go on.
    pub(super) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    /// Takes the oldest packet that can go on. Its bytes are there until the next one is queued.
    pub(super) fn pop_ready(&mut self) -> Option<Taken> {
        if self.ready == 0 {
            return None;
        }
        let ready = self.rows.iter().enumerate().filter(|(_, row)| row.is_used() && row.state != State::Waiting);
        let (place, _) = ready.min_by_key(|(_, row)| row.order)?;
        let row = self.free(place)?;
        Some(Taken { state: row.state, origin: row.origin, offload: row.offload, place, len: row.len })
    }

    /// The bytes of a packet that was taken.
    pub(super) fn packet(&mut self, taken: &Taken) -> &mut [u8] {
        self.bytes.get_mut(taken.place).and_then(|bytes| bytes.get_mut(..taken.len)).unwrap_or_default()
    }

    /// Frees a row and returns what it held; none when it was free.
    fn free(&mut self, place: usize) -> Option<Entry> {
        let entry = *self.rows.get(place).filter(|row| row.is_used())?;
        self.by_address.remove(self.hash_of(entry.address), place, 0);
        if let Some(row) = self.rows.get_mut(place) {
            *row = Entry::EMPTY;
        }
        self.used = self.used.saturating_sub(1);
        self.ready = self.ready.saturating_sub(usize::from(entry.state != State::Waiting));
        Some(entry)
    }

    /// The row of the packet that came first of those of a kind.
    fn oldest(&self, is_one: impl Fn(&Entry) -> bool) -> Option<usize> {
        let rows = self.rows.iter().enumerate().filter(|(_, row)| is_one(row));
        rows.min_by_key(|(_, row)| row.order).map(|(place, _)| place)
    }

    /// The packets of an origin that are queued for an address.
    fn crowd(&self, address: IpAddr, origin: Origin) -> Crowd {
        let mut crowd = Crowd { count: 0, oldest: 0, state: State::Waiting };
        let (mut first, mut last) = (u64::MAX, 0);
        // Looks at all of them: none is "the one".
        let _ = self.by_address.find(self.hash_of(address), |place, _| {
            let row =
                self.rows.get(place).filter(|row| row.is_used() && row.address == address && row.origin == origin);
            if let Some(row) = row {
                crowd.count = crowd.count.saturating_add(1);
                if row.order < first {
                    (first, crowd.oldest) = (row.order, place);
                }
                if row.order > last {
                    (last, crowd.state) = (row.order, row.state);
                }
            }
            false
        });
        crowd
    }

    fn hash_of(&self, address: IpAddr) -> u64 {
        self.hash.hash(&key_of(address))
    }
}

/// The packets of one origin that are queued for one address.
struct Crowd {
    count: usize,
    /// The row of the one that came first.
    oldest: usize,
    /// What has become of the look-up, as the one that came last knows it.
    state: State,
}

/// A packet that waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) state: State,
    pub(super) origin: Origin,
    pub(super) offload: Offload,
    place: usize,
    len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 30, 0, n))
    }

    fn push<const P: usize>(pending: &mut Pending<P>, to: u8, packet: u8) -> bool {
        pending.push(address(to), Origin::Local, &[packet], Offload::NONE).unwrap()
    }

    fn flush<const P: usize>(pending: &mut Pending<P>) -> Vec<u8> {
        std::iter::from_fn(|| pending.pop_ready().map(|taken| pending.packet(&taken)[0])).collect()
    }

    #[test]
    fn packets_go_on_in_the_order_in_which_they_came() {
        let mut pending = Pending::<8>::new();
        for (to, packet) in [(1, 10), (2, 20), (1, 11), (2, 21)] {
            assert!(!push(&mut pending, to, packet));
        }
        pending.release(address(1), State::Go);
        // What comes while others of its address are about to go queues behind them.
        assert_eq!(pending.state_of(address(1), Origin::Local), Some(State::Go));
        push(&mut pending, 1, 12);
        assert_eq!(flush(&mut pending), [10, 11, 12]);
        assert_eq!(pending.state_of(address(1), Origin::Local), None);
        assert_eq!(pending.state_of(address(2), Origin::Local), Some(State::Waiting));
        pending.release(address(2), State::Go);
        assert_eq!(flush(&mut pending), [20, 21]);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn one_address_takes_half_of_the_room_and_its_oldest_goes_first() {
        let mut pending = Pending::<8>::new();
        for packet in 0..4 {
            assert!(!push(&mut pending, 1, packet));
        }
        assert!(!push(&mut pending, 2, 100));
        assert!(push(&mut pending, 1, 4), "0 goes, though there is room");
        assert_eq!(pending.len(), 5);
        pending.release(address(1), State::Go);
        assert_eq!(flush(&mut pending), [1, 2, 3, 4]);
    }

    #[test]
    fn when_all_room_is_taken_the_oldest_of_all_goes() {
        let mut pending = Pending::<4>::new();
        for n in 1..=4 {
            assert!(!push(&mut pending, n, n));
        }
        assert!(push(&mut pending, 5, 5));
        assert_eq!(pending.state_of(address(1), Origin::Local), None);
        for n in 1..=5 {
            pending.release(address(n), State::Go);
        }
        assert_eq!(flush(&mut pending), [2, 3, 4, 5]);
    }

    #[test]
    fn a_peer_pushes_out_nobody_elses_packets() {
        let mut pending = Pending::<8>::new();
        let mut slots = crate::slots::Slots::<2>::new();
        let mut peer = || Origin::Peer(slots.take().unwrap());
        let (one, other) = (peer(), peer());
        let mut from = |origin, to, packet| pending.push(address(to), origin, &[packet], Offload::NONE).unwrap();
        assert!(!from(Origin::Local, 1, 1));
        assert!(!from(one, 1, 2));
        for packet in 10..13 {
            assert!(!from(other, 1, packet));
        }
        assert!(from(other, 1, 13), "half of the room is the most that peers get");
        for to in 20..30 {
            from(other, to, to);
        }
        assert!(!from(Origin::Local, 2, 3), "there is room for applications");
        for to in 0..30 {
            pending.release(address(to), State::Go);
        }
        let left = flush(&mut pending);
        assert!(left.contains(&1) && left.contains(&3));
        assert_eq!(left.len(), 6);
    }

    #[test]
    fn a_packet_that_is_too_long_is_refused_and_nothing_changes() {
        let mut pending = Pending::<4>::new();
        let packet = [0; PENDING_LEN + 1];
        assert_eq!(pending.push(address(1), Origin::Local, &packet, Offload::NONE), Err(Refused::TooLong));
        assert!(pending.push(address(1), Origin::Local, &packet[1..], Offload::NONE).is_ok());
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_ready_packet_that_makes_room_is_not_counted_as_ready_any_more() {
        let mut pending = Pending::<4>::new();
        push(&mut pending, 1, 1);
        pending.release(address(1), State::Go);
        for n in 2..=5 {
            push(&mut pending, n, n);
        }
        assert!(!pending.has_ready());
        assert!(flush(&mut pending).is_empty());
    }
}
