//! ICMP errors: translated together with the packet that they quote, so that the application recognizes its own (RFC 5508 section 4).
//!
//! An error belongs to the flow of the packet that it quotes, but is not a packet of it: it neither prolongs nor ends it.

use super::path::Fit;
use super::{Router, Verdict};
use crate::addr::{Family, address_of};
use crate::flow::FlowKey;
use crate::packet::{Quote, View, rewrite_error};
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::{Owner, key_of};
use crate::time::Instant;

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// Decides on an error that a local application or this host sends about a packet that was delivered here.
    pub(super) fn outbound_error(&mut self, now: Instant, packet: &mut [u8], view: &View) -> Verdict {
        match self.translate_outbound(now, packet, view) {
            Ok(verdict) => verdict,
            Err(reason) => self.drop(reason),
        }
    }

    /// Decides on an error that a peer sends about a packet that went out from here.
    pub(super) fn inbound_error(
        &mut self,
        now: Instant,
        peer: usize,
        packet: &mut [u8],
        view: &View,
        attachment: RowRef,
    ) -> Verdict {
        match self.translate_inbound(now, peer, packet, view, attachment) {
            Ok(verdict) => verdict,
            Err(reason) => self.drop(reason),
        }
    }

    fn translate_outbound(&mut self, now: Instant, packet: &mut [u8], view: &View) -> Result<Verdict, DropReason> {
        let (quote, (src_port, dst_port)) = quote_of(packet, view)?;
        let family = view.family();
        let reporter = self.attachments.by_namespace_ip(view.src()).ok_or(DropReason::UnknownSource)?;
        let reporter = self.attachments.get(reporter.row()).ok_or(DropReason::UnknownSource)?.instance_ip.of(family);
        // What was delivered here read as an answer to the flow's own packets does: its ends exchanged.
        let key = FlowKey {
            src: key_of(quote.dst()),
            dst: key_of(quote.src()),
            src_port: dst_port,
            dst_port: src_port,
            protocol: quote.protocol().number(),
        };
        let flow = *self.valid_flow(now, self.flows.find_egress(&key)).ok_or(DropReason::NoFlow)?;
        // An application reports on what it was sent itself; the host on everything that it could not pass on.
        let is_its_own = flow.local == key_of(view.src()) || self.is_host(view.src());
        if !is_its_own || flow.dialled != key_of(view.dst()) {
            return Err(DropReason::NoFlow);
        }
        let node = flow.node as usize;
        let cut = match self.fit(now, node, view) {
            Fit::Whole => None,
            Fit::Cut(mtu) => Some(mtu),
            Fit::TooBig(_) => return Err(DropReason::TooBig),
        };
        let outer = (Some(reporter), Some(address_of(flow.remote, family)));
        let quoted = (Some(address_of(flow.remote_instance, family)), None);
        rewrite_error(packet, view, &quote, outer, quoted).map_err(|_| DropReason::Malformed)?;
        if self.is_self(node) {
            return Ok(self.inbound(now, node, packet, view.offload()));
        }
        Ok(self.forward(node, view, cut))
    }

    fn translate_inbound(
        &mut self,
        now: Instant,
        peer: usize,
        packet: &mut [u8],
        view: &View,
        attachment: RowRef,
    ) -> Result<Verdict, DropReason> {
        let (quote, (src_port, dst_port)) = quote_of(packet, view)?;
        let family = view.family();
        if self.sender(peer, view.src())?.is_none() {
            return Ok(Verdict::Wait { address: view.src(), asker: RowRef::NONE });
        }
        let local = self.attachments.get(attachment.row()).ok_or(DropReason::NotOurs)?;
        let remote = self.instance_behind(peer, &quote).ok_or(DropReason::NoFlow)?;
        if quote.src() != local.instance_ip.of(family) {
            return Err(DropReason::NoFlow);
        }
        let key = FlowKey {
            src: remote,
            dst: key_of(local.namespace_ip.of(family)),
            src_port: dst_port,
            dst_port: src_port,
            protocol: quote.protocol().number(),
        };
        let flow = *self.valid_flow(now, self.flows.find_ingress(&key)).ok_or(DropReason::NoFlow)?;
        if flow.node as usize != peer {
            return Err(DropReason::SpoofedSource);
        }
        let (local, dialled) = (address_of(flow.local, family), address_of(flow.dialled, family));
        // A router of the other node is seen as itself.
        let reporter = (key_of(view.src()) == flow.remote_instance).then_some(dialled);
        rewrite_error(packet, view, &quote, (reporter, Some(local)), (Some(local), Some(dialled)))
            .map_err(|_| DropReason::Malformed)?;
        self.counters.delivered = self.counters.delivered.wrapping_add(1);
        Ok(Verdict::Deliver { len: view.total_len() })
    }

    /// The instance IP of the instance whose namespace IP the quoted packet went to.
    fn instance_behind(&self, peer: usize, quote: &Quote) -> Option<[u8; 16]> {
        let instance_ip = if self.is_self(peer) {
            let attachment = self.attachments.by_namespace_ip(quote.dst())?;
            self.attachments.get(attachment.row())?.instance_ip
        } else {
            match self.table.owner(quote.dst())? {
                Owner::Namespace(slot) => self.table.instance(slot)?.instance_ip,
                Owner::Service(..) | Owner::Instance(_) => return None,
            }
        };
        Some(key_of(instance_ip.of(Family::of(quote.dst()))))
    }
}

/// What an error quotes, with the ports of the quoted packet.
fn quote_of(packet: &[u8], view: &View) -> Result<(Quote, (u16, u16)), DropReason> {
    let quote = Quote::of(packet, view).map_err(|_| DropReason::Malformed)?;
    let ports = quote.ports().ok_or(DropReason::IcmpMessage)?;
    Ok((quote, ports))
}
