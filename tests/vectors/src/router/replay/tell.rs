//! What comes of packets and runs, told in an outcome.

use acorn_core::RowRef;
use acorn_core::mtu::OverlayMtu;
use acorn_core::packet::{Fragments, Offload, View};
use acorn_core::router::Verdict;
use acorn_core::stats::DropReason;

use super::{Flaw, Replay};
use crate::router::{Heap, Outcome, Packet};

impl Replay {
    /// What became of the packet of this length.
    pub(super) fn tell(&mut self, verdict: Verdict, whole: usize, offload: Offload) -> Result<Outcome<'_>, Flaw> {
        let short = |len: usize| u32::try_from(len).map_err(|_| Flaw::TooLong);
        let place = |reason: DropReason| reason as u8;
        Ok(match verdict {
            Verdict::Forward { node, len } => {
                Outcome::Forward { node: self.id_of(node), len: short(len)?, changes: self.changes(whole)? }
            }
            Verdict::Fragment { node, len, mtu } => {
                let node = self.id_of(node);
                let told = self.tell_changes(whole)?;
                let pieces = self.cut(len, offload, mtu)?;
                let changes = self.told.get(..told).ok_or(Flaw::TooLong)?;
                Outcome::Fragment { node, len: short(len)?, mtu: mtu.get(), changes, pieces }
            }
            Verdict::Deliver { len } => Outcome::Deliver { len: short(len)?, changes: self.changes(whole)? },
            Verdict::Reply { reason, len } => {
                let reply = self.reply.get(..len).and_then(|reply| Packet::new(reply, Offload::NONE));
                Outcome::Reply { reason: place(reason), reply: reply.ok_or(Flaw::TooLong)? }
            }
            Verdict::Wait { address, asker } => {
                if self.came.get(..whole) != self.packet.get(..whole) {
                    return Err(Flaw::Impossible);
                }
                let attachment = self.router.attachments.get(asker.row()).filter(|_| asker != RowRef::NONE);
                Outcome::Wait { address, asker: attachment.map(|attachment| attachment.namespace_ip) }
            }
            Verdict::Drop(reason) => Outcome::Drop { reason: place(reason) },
        })
    }

    fn changes(&mut self, whole: usize) -> Result<&[u8], Flaw> {
        let told = self.tell_changes(whole)?;
        self.told.get(..told).ok_or(Flaw::TooLong)
    }

    /// Writes what is different in the first `whole` bytes of the packet and returns how many bytes tell it.
    fn tell_changes(&mut self, whole: usize) -> Result<usize, Flaw> {
        let (Some(came), Some(packet)) = (self.came.get(..whole), self.packet.get(..whole)) else {
            return Err(Flaw::TooLong);
        };
        let (mut told, mut same, mut at) = (0, 0u32, 0);
        while at < whole {
            let different = came.iter().zip(packet).skip(at).take_while(|(was, is)| was != is).count();
            if different == 0 {
                same = same.wrapping_add(1);
                at += 1;
                continue;
            }
            let end = at + different;
            let bytes = packet.get(at..end).ok_or(Flaw::TooLong)?;
            let out = self.told.get_mut(told..).ok_or(Flaw::TooLong)?;
            told += crate::write(&(same, bytes), out).map_err(|_| Flaw::TooLong)?.len();
            (same, at) = (0, end);
        }
        Ok(told)
    }

    /// Cuts the packet as a shell does that is told to.
    fn cut(&mut self, len: usize, offload: Offload, mtu: OverlayMtu) -> Result<Heap, Flaw> {
        let packet = self.packet.get_mut(..len).ok_or(Flaw::TooLong)?;
        let view = View::parse(packet, offload).map_err(|_| Flaw::Impossible)?;
        let mut fragments = Fragments::new(packet, &view, mtu).map_err(|_| Flaw::Impossible)?;
        let mut pieces = Heap::EMPTY;
        while let Some(len) = fragments.next(packet, &mut self.piece) {
            pieces.add(self.piece.get(..len).ok_or(Flaw::TooLong)?);
        }
        Ok(pieces)
    }

    /// How a run ends.
    pub(super) fn end(&mut self) -> Result<Outcome<'_>, Flaw> {
        let counters = &self.router.counters;
        let others = [
            counters.forwarded,
            counters.fragmented,
            counters.delivered,
            counters.replied,
            counters.errors_limited,
            counters.flows_begun,
            counters.flows_evicted,
            counters.established_evicted,
            counters.datagrams_evicted,
        ];
        let mut told = 0;
        for counter in DropReason::ALL.into_iter().map(|reason| counters.drops(reason)).chain(others) {
            let out = self.told.get_mut(told..).ok_or(Flaw::TooLong)?;
            told += crate::write(&counter, out).map_err(|_| Flaw::TooLong)?.len();
        }
        let flows = u32::try_from(self.router.flows.len()).map_err(|_| Flaw::TooLong)?;
        Ok(Outcome::End { flows, counters: self.told.get(..told).ok_or(Flaw::TooLong)? })
    }
}
