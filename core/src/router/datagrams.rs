//! Datagrams that come in fragments: the ones behind the first have no ports, so they follow its flow.

use core::cmp::Reverse;
use core::net::IpAddr;

use crate::addr::Family;
use crate::packet::{Fragment, View};
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::key_of;
use crate::time::{Duration, Instant};

/// How long the fragments of a datagram follow its first one. Hosts wait 60 s and more for them (RFC 8200 section 4.5), but what is
/// not there soon never comes, and IPv4 uses its identifications again (RFC 8900 section 3.6).
pub const DATAGRAM_LIFETIME: Duration = Duration::from_secs(30);

/// The most separate pieces of a datagram that are kept account of. In order they are one.
pub const PIECES_MAX: usize = 4;

/// What the fragments of one datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5), and where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DatagramKey {
    /// The row of the peer plus one; 0 for a local application.
    from: u32,
    src: [u8; 16],
    dst: [u8; 16],
    id: u32,
    protocol: u8,
}

impl DatagramKey {
    const NONE: Self = Self { from: 0, src: [0; 16], dst: [0; 16], id: 0, protocol: 0 };

    /// The datagram of a fragment that a local application sends.
    pub(super) fn outbound(view: &View, fragment: Fragment) -> Self {
        let (src, dst) = view.keys();
        // In IPv6 the number behind the fragment header counts in the first fragment only.
        let protocol = match view.family() {
            Family::V4 => view.protocol().number(),
            Family::V6 => 0,
        };
        Self { from: 0, src, dst, id: fragment.id, protocol }
    }

    /// The datagram of a fragment that a peer sends to the instance with this namespace IP.
    pub(super) fn inbound(peer: usize, view: &View, fragment: Fragment, local: IpAddr) -> Self {
        Self { from: (peer as u32).saturating_add(1), dst: key_of(local), ..Self::outbound(view, fragment) }
    }

    /// Whether both come from one sender.
    fn has_sender_of(&self, other: &Self) -> bool {
        (self.from, self.src) == (other.from, other.src)
    }
}

/// Bytes of a datagram's payload that have been seen: from the first to behind the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Piece {
    from: u32,
    to: u32,
}

impl From<Fragment> for Piece {
    fn from(fragment: Fragment) -> Self {
        let from = u32::from(fragment.offset);
        Self { from, to: from.saturating_add(u32::from(fragment.len)) }
    }
}

impl Piece {
    fn overlaps(self, other: Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

#[derive(Clone, Copy)]
struct Datagram {
    used: bool,
    /// Two of its fragments overlapped: none of them is carried any more (RFC 5722 section 4).
    broken: bool,
    key: DatagramKey,
    flow: RowRef,
    since: Instant,
    /// Where it ends; 0 while the last fragment has not been seen.
    end: u32,
    /// Apart from each other, in no order.
    pieces: [Piece; PIECES_MAX],
    count: usize,
}

impl Datagram {
    const EMPTY: Self = Self {
        used: false,
        broken: false,
        key: DatagramKey::NONE,
        flow: RowRef::NONE,
        since: Instant::ZERO,
        end: 0,
        pieces: [Piece { from: 0, to: 0 }; PIECES_MAX],
        count: 0,
    };

    fn is_outdated(&self, now: Instant) -> bool {
        now >= self.since.saturating_add(DATAGRAM_LIFETIME)
    }

    /// Takes account of a fragment.
    fn take(&mut self, fragment: Fragment) -> Result<(), DropReason> {
        let mut piece = Piece::from(fragment);
        let seen = self.pieces.get(..self.count).unwrap_or_default();
        let last = seen.iter().map(|other| other.to).max().unwrap_or(0);
        let overlaps = seen.iter().any(|other| other.overlaps(piece));
        let moves_the_end = match (self.end, fragment.more) {
            (0, true) => false,
            (0, false) => piece.to < last,
            (end, true) => piece.to > end,
            (end, false) => piece.to != end,
        };
        if self.broken || overlaps || moves_the_end {
            self.broken = true;
            return Err(DropReason::FragmentOverlap);
        }
        // Neighbours become one piece. At most two of them touch it, since nothing overlaps.
        let mut apart = [Piece::default(); PIECES_MAX];
        let mut count: usize = 0;
        for other in seen {
            if other.to == piece.from {
                piece.from = other.from;
            } else if other.from == piece.to {
                piece.to = other.to;
            } else if let Some(place) = apart.get_mut(count) {
                *place = *other;
                count = count.saturating_add(1);
            }
        }
        *apart.get_mut(count).ok_or(DropReason::FragmentScattered)? = piece;
        (self.pieces, self.count) = (apart, count.saturating_add(1));
        if !fragment.more {
            self.end = Piece::from(fragment).to;
        }
        Ok(())
    }

    /// Whether nothing is missing.
    fn is_whole(&self) -> bool {
        self.count == 1 && self.end != 0 && self.pieces.first() == Some(&Piece { from: 0, to: self.end })
    }
}

/// Up to `D` datagrams of which fragments are still to come. All zero when new.
pub(super) struct Datagrams<const D: usize> {
    rows: [Datagram; D],
    used: usize,
}

impl<const D: usize> Datagrams<D> {
    pub(super) const fn new() -> Self {
        Self { rows: [Datagram::EMPTY; D], used: 0 }
    }

    /// Whether a first fragment begins a datagram that is not known yet.
    ///
    /// # Errors
    /// [`DropReason::FragmentOverlap`] when it is a second first one; nothing of the datagram is carried any more.
    pub(super) fn check_first(&mut self, now: Instant, key: &DatagramKey) -> Result<(), DropReason> {
        match self.find(now, key) {
            None => Ok(()),
            Some(known) => {
                known.broken = true;
                Err(DropReason::FragmentOverlap)
            }
        }
    }

    /// The flow of a datagram that is known.
    pub(super) fn flow_of(&mut self, now: Instant, key: &DatagramKey) -> Option<RowRef> {
        self.find(now, key).map(|datagram| datagram.flow)
    }

    /// Remembers the flow that a first fragment went by. Says whether another datagram had to be forgotten for it before its time: the
    /// oldest of the sender that has most, so that nobody takes the room of all others.
    pub(super) fn begin(&mut self, now: Instant, key: DatagramKey, fragment: Fragment, flow: RowRef) -> bool {
        let free = self.rows.iter().position(|row| !row.used || row.is_outdated(now));
        let Some(row) = free.or_else(|| self.most_dispensable()).and_then(|place| self.rows.get_mut(place)) else {
            return false;
        };
        self.used = self.used.saturating_add(usize::from(!row.used));
        *row = Datagram { used: true, key, flow, since: now, ..Datagram::EMPTY };
        // The first piece of an empty account always fits.
        let _ = row.take(fragment);
        free.is_none()
    }

    /// The flow that a fragment behind the first follows.
    ///
    /// # Errors
    /// [`DropReason::FragmentUnknown`], [`DropReason::FragmentOverlap`], [`DropReason::FragmentScattered`].
    pub(super) fn follow(&mut self, now: Instant, key: &DatagramKey, fragment: Fragment) -> Result<RowRef, DropReason> {
        let datagram = self.find(now, key).ok_or(DropReason::FragmentUnknown)?;
        datagram.take(fragment)?;
        let flow = datagram.flow;
        if datagram.is_whole() {
            *datagram = Datagram::EMPTY;
            self.used = self.used.saturating_sub(1);
        }
        Ok(flow)
    }

    /// The row of the oldest datagram of the sender that has most.
    fn most_dispensable(&self) -> Option<usize> {
        let of_sender = |row: &Datagram| self.rows.iter().filter(|other| other.key.has_sender_of(&row.key)).count();
        let rows = self.rows.iter().enumerate();
        rows.min_by_key(|(_, row)| (Reverse(of_sender(row)), row.since)).map(|(place, _)| place)
    }

    fn find(&mut self, now: Instant, key: &DatagramKey) -> Option<&mut Datagram> {
        if self.used == 0 {
            return None;
        }
        self.rows.iter_mut().find(|row| row.used && row.key == *key && !row.is_outdated(now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::*;

    const KEY: DatagramKey = DatagramKey { id: 7, ..DatagramKey::NONE };

    fn fragment(offset: u16, len: u16, more: bool) -> Fragment {
        Fragment { offset, len, more, id: 7 }
    }

    fn begun<const D: usize>() -> Datagrams<D> {
        let mut datagrams = Datagrams::new();
        datagrams.begin(Instant::ZERO, KEY, fragment(0, 16, true), RowRef::NONE);
        datagrams
    }

    fn follow<const D: usize>(datagrams: &mut Datagrams<D>, offset: u16, len: u16, more: bool) -> Option<DropReason> {
        datagrams.follow(Instant::ZERO, &KEY, fragment(offset, len, more)).err()
    }

    #[test]
    fn a_datagram_is_forgotten_when_it_is_whole_in_whatever_order() {
        for order in [[16, 32, 48], [48, 32, 16], [32, 16, 48], [16, 48, 32]] {
            let mut datagrams = begun::<1>();
            for offset in order {
                assert_eq!(follow(&mut datagrams, offset, 16, offset != 48), None, "{order:?}");
            }
            assert_eq!(datagrams.used, 0, "{order:?}");
            assert_eq!(follow(&mut datagrams, 16, 16, true), Some(DropReason::FragmentUnknown));
        }
    }

    #[test]
    fn what_overlaps_ends_the_datagram() {
        for (offset, len, more) in [(8, 16, true), (0, 8, true), (16, 8, true), (8, 80, false), (24, 1, false)] {
            let mut datagrams = begun::<1>();
            assert_eq!(follow(&mut datagrams, 16, 16, true), None);
            assert_eq!(follow(&mut datagrams, offset, len, more), Some(DropReason::FragmentOverlap), "{offset}+{len}");
            assert_eq!(follow(&mut datagrams, 64, 8, true), Some(DropReason::FragmentOverlap));
            assert_eq!(datagrams.check_first(Instant::ZERO, &KEY), Err(DropReason::FragmentOverlap));
        }
    }

    #[test]
    fn the_end_stays_where_it_is() {
        for (offset, len, more) in [(48, 8, true), (40, 16, false), (56, 8, false), (24, 8, false), (32, 16, true)] {
            let mut datagrams = begun::<1>();
            assert_eq!(follow(&mut datagrams, 32, 8, false), None);
            assert_eq!(follow(&mut datagrams, offset, len, more), Some(DropReason::FragmentOverlap), "{offset}+{len}");
        }
    }

    #[test]
    fn a_second_first_fragment_overlaps_the_first() {
        let mut datagrams = begun::<1>();
        assert_eq!(datagrams.check_first(Instant::ZERO, &KEY), Err(DropReason::FragmentOverlap));
        assert_eq!(follow(&mut datagrams, 16, 16, true), Some(DropReason::FragmentOverlap));
    }

    #[test]
    fn more_than_four_pieces_are_too_many() {
        let mut datagrams = begun::<1>();
        for n in 1..PIECES_MAX as u16 {
            assert_eq!(follow(&mut datagrams, n * 64, 8, true), None);
        }
        assert_eq!(follow(&mut datagrams, 1_000, 8, true), Some(DropReason::FragmentScattered));
        assert_eq!(follow(&mut datagrams, 16, 48, true), None, "it joins two of them");
        assert_eq!(follow(&mut datagrams, 1_000, 8, true), None, "so there is room again");
    }

    #[test]
    fn fragments_are_followed_for_30_s() {
        let mut datagrams = begun::<1>();
        let last = Instant::from_millis(29_999);
        assert!(datagrams.follow(last, &KEY, fragment(16, 8, true)).is_ok());
        let over = Instant::from_secs(30);
        assert_eq!(datagrams.follow(over, &KEY, fragment(24, 8, true)), Err(DropReason::FragmentUnknown));
        assert_eq!(datagrams.check_first(over, &KEY), Ok(()));
    }

    #[test]
    fn what_differs_in_anything_is_another_datagram() {
        let others = [
            DatagramKey { from: 1, ..KEY },
            DatagramKey { src: [1; 16], ..KEY },
            DatagramKey { dst: [1; 16], ..KEY },
            DatagramKey { id: 8, ..KEY },
            DatagramKey { protocol: 17, ..KEY },
        ];
        for other in others {
            let reason = begun::<1>().follow(Instant::ZERO, &other, fragment(16, 8, true));
            assert_eq!(reason, Err(DropReason::FragmentUnknown), "{other:?}");
        }
    }

    #[test]
    fn the_oldest_datagram_makes_room_and_an_outdated_one_first() {
        let mut datagrams = Datagrams::<2>::new();
        let key = |id| DatagramKey { id, ..KEY };
        let mut begin = |at, id| datagrams.begin(Instant::from_secs(at), key(id), fragment(0, 8, true), RowRef::NONE);
        assert!(!begin(0, 1));
        assert!(!begin(1, 2));
        assert!(begin(2, 3), "1 goes before its time");
        assert!(!begin(31, 4), "2 is outdated");
        let mut is_known = |id| datagrams.check_first(Instant::from_secs(31), &key(id)).is_err();
        assert_eq!([1, 2, 3, 4].map(&mut is_known), [false, false, true, true]);
    }

    #[test]
    fn who_has_most_makes_room() {
        let mut datagrams = Datagrams::<4>::new();
        let key = |src, id| DatagramKey { id, src: [src; 16], ..KEY };
        let mut begin = |src, id: u32| {
            datagrams.begin(Instant::from_secs(id.into()), key(src, id), fragment(0, 8, true), RowRef::NONE)
        };
        assert!(!begin(1, 0));
        for id in 1..4 {
            assert!(!begin(2, id));
        }
        assert!(begin(2, 4));
        assert!(begin(3, 5));
        let mut is_known = |(src, id)| datagrams.check_first(Instant::from_secs(5), &key(src, id)).is_err();
        let known = [(1, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 5)].map(&mut is_known);
        assert_eq!(known, [true, false, false, true, true, true]);
    }
}
