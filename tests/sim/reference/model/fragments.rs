//! Datagrams that come in fragments.

use std::net::IpAddr;

use acorn_core::packet::Offload;

use super::super::wire::{Fragment, Packet};
use super::inbound::Stopped;
use super::{ATTACHMENTS, Model, Outcome, Reason, Token};

/// How long the fragments of a datagram follow the first, in milliseconds.
const LIFETIME: u64 = 30_000;
const PIECES: usize = 4;

/// What the fragments of a datagram have in common. From no peer: from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramKey {
    peer: Option<u32>,
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

/// A datagram of which fragments are to come.
#[derive(Clone, Debug)]
pub struct Datagram {
    key: DatagramKey,
    flow: Token,
    since: u64,
    fragments: Vec<Fragment>,
    /// Two of its fragments overlapped.
    broken: bool,
}

impl Datagram {
    fn is_outdated(&self, now: u64) -> bool {
        now >= self.since + LIFETIME
    }

    fn take(&mut self, new: Fragment) -> Result<(), Reason> {
        let overlaps = self.fragments.iter().any(|old| old.from < new.to && new.from < old.to);
        let end = self.fragments.iter().find(|old| !old.more).map(|last| last.to);
        let reaches = self.fragments.iter().map(|old| old.to).max().unwrap_or(0);
        let breaks_the_end = match end {
            Some(end) => new.to > end || (!new.more && new.to != end),
            None => !new.more && reaches > new.to,
        };
        if self.broken || overlaps || breaks_the_end {
            self.broken = true;
            return Err("fragment_overlap");
        }
        self.fragments.push(new);
        if pieces(&self.fragments).len() > PIECES {
            self.fragments.pop();
            return Err("fragment_scattered");
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let end = self.fragments.iter().find(|old| !old.more).map(|last| last.to);
        end.is_some_and(|end| pieces(&self.fragments) == [(0, end)])
    }
}

/// What the fragments cover.
fn pieces(fragments: &[Fragment]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<_> = fragments.iter().map(|fragment| (fragment.from, fragment.to)).collect();
    sorted.sort_unstable();
    let mut pieces: Vec<(usize, usize)> = Vec::new();
    for (from, to) in sorted {
        match pieces.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => pieces.push((from, to)),
        }
    }
    pieces
}

impl Model {
    /// The datagram of a fragment; none when it is no fragment.
    pub fn datagram_key(peer: Option<u32>, packet: &Packet, dst: IpAddr) -> Option<DatagramKey> {
        let id = packet.fragment?.id;
        let protocol = if packet.v6 { 0 } else { packet.protocol };
        Some(DatagramKey { peer, src: packet.src, dst, id, protocol })
    }

    fn datagram(&self, now: u64, key: DatagramKey) -> Option<usize> {
        self.datagrams.iter().position(|datagram| {
            datagram.as_ref().is_some_and(|datagram| datagram.key == key && !datagram.is_outdated(now))
        })
    }

    /// Why a first fragment does not go on whose datagram is known already.
    pub fn second_first(&mut self, now: u64, key: DatagramKey, packet: &Packet) -> Option<Reason> {
        let at = self.datagram(now, key)?;
        self.follow(now, at, packet).err()
    }

    /// A first fragment went on.
    pub fn remember(&mut self, now: u64, key: DatagramKey, packet: &Packet, flow: Token) {
        let Some(fragment) = packet.fragment else { return };
        let is_free = |place: &Option<Datagram>| place.as_ref().is_none_or(|datagram| datagram.is_outdated(now));
        let free = self.datagrams.iter().position(is_free);
        self.counters.datagrams_evicted += u64::from(free.is_none());
        let sender = |at: usize| self.datagrams[at].as_ref().map(|datagram| (datagram.key.peer, datagram.key.src));
        let of_sender = |at: usize| (0..ATTACHMENTS).filter(|other| sender(*other) == sender(at)).count();
        // Of those that began at the same time, one is as good as the other.
        let since = |at: usize| self.datagrams[at].as_ref().map(|datagram| datagram.since);
        let oldest_of_most = || (0..ATTACHMENTS).min_by_key(|at| (std::cmp::Reverse(of_sender(*at)), since(*at)));
        let Some(at) = free.or_else(oldest_of_most) else { return };
        self.datagrams[at] = Some(Datagram { key, flow, since: now, fragments: vec![fragment], broken: false });
    }

    /// The flow of a fragment whose datagram is known.
    fn follow(&mut self, now: u64, at: usize, packet: &Packet) -> Result<Token, Reason> {
        let (Some(datagram), Some(fragment)) = (&self.datagrams[at], packet.fragment) else {
            return Err("fragment_unknown");
        };
        let token = datagram.flow;
        let flow = self.flow(token).ok_or("no_flow")?;
        if flow.is_over(now) || self.is_stale(flow) {
            return Err("no_flow");
        }
        if let Some(datagram) = &mut self.datagrams[at] {
            datagram.take(fragment)?;
            if datagram.is_whole() {
                self.datagrams[at] = None;
            }
        }
        Ok(token)
    }

    /// A local application sends a fragment behind the first.
    pub fn outbound_behind(&mut self, now: u64, bytes: &[u8], packet: &Packet, offload: Offload) -> Outcome {
        let known = Self::datagram_key(None, packet, packet.dst).and_then(|key| self.datagram(now, key));
        match known.ok_or("fragment_unknown").and_then(|at| self.follow(now, at, packet)) {
            Ok(flow) => self.send(now, flow, bytes, packet, offload),
            Err(reason) => self.drop(reason),
        }
    }

    /// A peer sends a fragment behind the first.
    pub fn inbound_behind(
        &mut self,
        now: u64,
        peer: u32,
        bytes: &[u8],
        packet: &Packet,
        offload: Offload,
        local: IpAddr,
    ) -> Result<Outcome, Stopped> {
        let known = Self::datagram_key(Some(peer), packet, local).and_then(|key| self.datagram(now, key));
        let flow = known.ok_or("fragment_unknown").and_then(|at| self.follow(now, at, packet));
        let flow = flow.map_err(Stopped::Dropped)?;
        Ok(self.deliver(now, flow, peer, bytes, packet, offload))
    }
}
