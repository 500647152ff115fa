//! Initiations, step by step: each costs the arithmetic of a handshake message, and between two of them the other tasks run.

use core::net::SocketAddrV4;

use acorn_core::RowRef;
use embassy_futures::yield_now;
use embassy_time::Instant;

use super::{Peer, Runner};
use crate::tunnels::{CANDIDATES, Step};

/// A handshake initiation as it was received.
type Initiation = [u8; 148];

impl<const S: usize, const I: usize, const N: usize, const F: usize, const P: usize, const PORTS: usize>
    Runner<'_, S, I, N, F, P, PORTS>
{
    /// Finds out whose an initiation is, and answers it.
    pub(super) async fn handle_initiation(&mut self, from: SocketAddrV4, initiation: Initiation) {
        let now = Instant::now();
        let reply = &mut self.buffers.datagram;
        let mut step = self.tunnels.receive_initiation(now, from, &initiation, reply, self.entropy);
        loop {
            match step {
                Step::Done(transmit) => {
                    if let Some(transmit) = transmit {
                        self.emit(transmit).await;
                    }
                    return;
                }
                Step::Offer(place) => {
                    yield_now().await;
                    let (now, reply) = (Instant::now(), &mut self.buffers.datagram);
                    step = self.tunnels.offer(now, from, &initiation, place, reply, self.entropy);
                }
                Step::Unknown => break,
            }
        }
        for row in self.candidates(from) {
            if self.try_candidate(row, from, &initiation).await {
                return;
            }
        }
        self.tunnels.keep_initiation(Instant::now(), from, &initiation);
    }

    /// Offers initiations that nobody took to the nodes that the manager has introduced since.
    pub(super) async fn try_kept_initiations(&mut self) {
        while let Some(row) = self.introduced.pop_front() {
            for _ in 0..self.tunnels.kept() {
                let Some(kept) = self.tunnels.take_kept(Instant::now()) else {
                    break;
                };
                if !self.try_candidate(row, kept.from, &kept.initiation).await {
                    self.tunnels.return_kept(kept);
                }
            }
        }
    }

    /// Offers an initiation to a node without a tunnel. Whether it was that node's.
    async fn try_candidate(&mut self, row: RowRef, from: SocketAddrV4, initiation: &Initiation) -> bool {
        let Some(peer) = self.peer_of(row).filter(|peer| !self.tunnels.has(&peer.key)) else {
            return false;
        };
        yield_now().await;
        if !self.tunnels.begin_trial(&peer.key) {
            return false;
        }
        yield_now().await;
        let (now, reply) = (Instant::now(), &mut self.buffers.datagram);
        match self.tunnels.try_candidate(now, from, initiation, peer, reply, self.entropy) {
            Step::Done(transmit) => {
                if let Some(transmit) = transmit {
                    self.emit(transmit).await;
                }
                true
            }
            _ => false,
        }
    }

    /// The nodes without a tunnel that an initiation from an address may be of: those that are there before those that are elsewhere.
    fn candidates(&self, from: SocketAddrV4) -> heapless::Vec<RowRef, CANDIDATES> {
        let table = &self.engine.router().table;
        let rows = || table.nodes().filter_map(|slot| table.node_ref(slot));
        let is_one = |peer: &Peer| !peer.is_manager && !self.tunnels.has(&peer.key);
        let is_there = |peer: &Peer| peer.endpoint.is_some_and(|endpoint| endpoint.ip() == from.ip());
        let mut found = heapless::Vec::new();
        for there in [true, false] {
            for row in rows() {
                let fits = self.peer_of(row).is_some_and(|peer| is_one(&peer) && is_there(&peer) == there);
                if fits && found.push(row).is_err() {
                    return found;
                }
            }
        }
        found
    }
}
