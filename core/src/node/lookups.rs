//! Packets and keys that the table does not know: the manager is asked, and the packets wait.

use core::net::IpAddr;

use super::pending::{self, Origin, State, Taken};
use super::{Action, Node};
use crate::packet::{Offload, View};
use crate::router::Verdict;
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::sync::client::{Answer, Wanted};
use crate::time::Instant;

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>
    Node<S, I, N, F, L, P>
{
    pub(super) fn look_up(
        &mut self,
        now: Instant,
        address: IpAddr,
        asker: RowRef,
        packet: &[u8],
        offload: Offload,
        reply: &mut [u8],
    ) -> Action {
        let Ok(view) = View::parse(packet, offload) else {
            return self.drop(DropReason::Malformed);
        };
        let asker = self.router.attachments.get(asker.row()).map(|attachment| attachment.id);
        match self.client.resolve(now, address, asker) {
            Ok(()) => {
                self.wait(address, Origin::Local, packet.get(..view.total_len()).unwrap_or(packet), offload);
                Action::Nothing
            }
            Err(answer) => {
                let verdict = self.router.refuse(now, reason_of(answer), packet, &view, reply);
                self.act(verdict)
            }
        }
    }

    /// Queues a packet whose address others wait for already: nothing overtakes them. False when there are none, or when the packet
    /// belongs to a flow, which those that still wait do not.
    pub(super) fn queue_behind(&mut self, origin: Origin, packet: &[u8], offload: Offload) -> bool {
        if self.pending.len() == 0 {
            return false;
        }
        let Ok(view) = View::parse(packet, offload) else {
            return false;
        };
        let address = match origin {
            Origin::Local => view.dst(),
            Origin::Peer(_) => view.src(),
        };
        let has_flow = || match origin {
            Origin::Local => self.router.has_outbound_flow(&view),
            Origin::Peer(_) => self.router.has_inbound_flow(&view),
        };
        match self.pending.state_of(address, origin) {
            None => return false,
            Some(State::Waiting) if has_flow() => return false,
            Some(_) => {}
        }
        let packet = packet.get(..view.total_len()).unwrap_or(packet);
        self.wait(address, origin, packet, offload);
        true
    }

    pub(super) fn wait(&mut self, address: IpAddr, origin: Origin, packet: &[u8], offload: Offload) {
        match self.pending.push(address, origin, packet, offload) {
            Ok(false) => {}
            Ok(true) => self.router.counters.count(DropReason::PendingFull),
            Err(pending::Refused::TooLong) => self.router.counters.count(DropReason::PendingTooLong),
        }
    }

    /// Decides on a packet that waited, in the place where it did. A reply is written into `reply`.
    pub(super) fn go_on(&mut self, now: Instant, taken: &Taken, reply: &mut [u8]) -> Verdict {
        let peer = match taken.origin {
            Origin::Local => None,
            Origin::Peer(peer) => Some((peer.row(), self.peer(peer).is_some())),
        };
        let packet = self.pending.packet(taken);
        let router = &mut self.router;
        let verdict = match (taken.state, peer) {
            (State::Failed(reason), None) => match View::parse(packet, taken.offload) {
                Ok(view) => router.refuse(now, reason, packet, &view, reply),
                Err(_) => Verdict::Drop(reason),
            },
            (State::Failed(reason), Some(_)) => {
                router.counters.count(reason);
                Verdict::Drop(reason)
            }
            (_, None) => router.outbound(now, packet, taken.offload, reply),
            (_, Some((row, true))) => router.inbound(now, row, packet, taken.offload),
            (_, Some((_, false))) => {
                router.counters.count(DropReason::UnknownPeer);
                Verdict::Drop(DropReason::UnknownPeer)
            }
        };
        // What was known has gone again meanwhile: the packet has waited long enough.
        match (verdict, View::parse(packet, taken.offload)) {
            (Verdict::Wait { .. }, Ok(view)) if peer.is_none() => {
                router.refuse(now, DropReason::PendingExpired, packet, &view, reply)
            }
            (Verdict::Wait { .. }, _) => {
                router.counters.count(DropReason::PendingExpired);
                Verdict::Drop(DropReason::PendingExpired)
            }
            (verdict, _) => verdict,
        }
    }

    pub(super) fn release_answered(&mut self) {
        while let Some((wanted, answer)) = self.client.poll_answer() {
            let Wanted::Address(address) = wanted else {
                continue;
            };
            let state = match answer {
                Answer::Known => State::Go,
                answer => State::Failed(reason_of(answer)),
            };
            self.pending.release(address, state);
        }
    }
}

pub(super) fn reason_of(answer: Answer) -> DropReason {
    match answer {
        Answer::Known | Answer::NotFound => DropReason::UnknownService,
        Answer::TimedOut => DropReason::ResolveTimeout,
        Answer::TooMany => DropReason::ResolveFull,
    }
}
