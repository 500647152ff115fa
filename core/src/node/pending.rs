//! Packets that wait until the table knows an address.

use core::net::{IpAddr, Ipv4Addr};

use crate::packet::Offload;
use crate::slots::RowRef;
use crate::stats::DropReason;

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

#[derive(Clone, Copy)]
struct Packet {
    /// Its place in the order of arrival; 0 when the row is free.
    order: u64,
    state: State,
    address: IpAddr,
    origin: Origin,
    offload: Offload,
    len: usize,
    bytes: [u8; PENDING_LEN],
}

impl Packet {
    const EMPTY: Self = Self {
        order: 0,
        state: State::Waiting,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        origin: Origin::Local,
        offload: Offload::NONE,
        len: 0,
        bytes: [0; PENDING_LEN],
    };
}

/// Up to `P` packets, at most half of them (but one) for one address. All zero when new.
pub(super) struct Pending<const P: usize> {
    rows: [Packet; P],
    last: u64,
    used: usize,
    ready: usize,
}

impl<const P: usize> Pending<P> {
    /// How many packets may wait for one address.
    const PER_ADDRESS: usize = if P < 4 { P } else { P / 2 };

    pub(super) const fn new() -> Self {
        Self { rows: [const { Packet::EMPTY }; P], last: 0, used: 0, ready: 0 }
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Whether a packet for this address has to queue behind others.
    #[inline]
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.used > 0 && self.rows.iter().any(|p| p.order != 0 && p.address == address)
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
        let of_address = || {
            let rows = self.rows.iter();
            rows.filter(|p| p.order != 0 && p.address == address)
        };
        let crowded = of_address().count() >= Self::PER_ADDRESS;
        let state = of_address().max_by_key(|p| p.order).map_or(State::Waiting, |latest| latest.state);
        let place = if crowded || self.used >= P {
            let oldest =
                self.rows.iter().enumerate().filter(|(_, p)| p.order != 0 && (!crowded || p.address == address));
            oldest.min_by_key(|(_, p)| p.order).map(|(place, _)| place)
        } else {
            self.rows.iter().position(|p| p.order == 0)
        };
        let Some(row) = place.and_then(|place| self.rows.get_mut(place)) else {
            return Ok(true);
        };
        let replaced = row.order != 0;
        if replaced && row.state != State::Waiting {
            self.ready = self.ready.saturating_sub(1);
        }
        self.ready = self.ready.saturating_add(usize::from(state != State::Waiting));
        self.last = self.last.saturating_add(1);
        row.order = self.last;
        row.state = state;
        row.address = address;
        row.origin = origin;
        row.offload = offload;
        row.len = packet.len();
        if let Some(bytes) = row.bytes.get_mut(..packet.len()) {
            bytes.copy_from_slice(packet);
        }
        self.used = self.used.saturating_add(usize::from(!replaced));
        Ok(replaced)
    }

    /// Lets the packets that wait for an address go on, or fail.
    pub(super) fn release(&mut self, address: IpAddr, state: State) {
        for packet in self.rows.iter_mut().filter(|p| p.order != 0 && p.state == State::Waiting && p.address == address)
        {
            packet.state = state;
            self.ready = self.ready.saturating_add(1);
        }
    }

    /// Whether a packet can go on.
    pub(super) fn has_ready(&self) -> bool {
        self.ready > 0
    }

    /// Takes the oldest packet that can go on, copied into `out`.
    pub(super) fn pop_ready(&mut self, out: &mut [u8]) -> Option<Taken> {
        if self.ready == 0 {
            return None;
        }
        let row = self.rows.iter_mut().filter(|p| p.order != 0 && p.state != State::Waiting).min_by_key(|p| p.order)?;
        row.order = 0;
        self.ready = self.ready.saturating_sub(1);
        self.used = self.used.saturating_sub(1);
        let len = row.len.min(out.len());
        out.get_mut(..len)?.copy_from_slice(row.bytes.get(..len)?);
        Some(Taken { state: row.state, origin: row.origin, offload: row.offload, len })
    }
}

/// A packet that waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) state: State,
    pub(super) origin: Origin,
    pub(super) offload: Offload,
    pub(super) len: usize,
}
