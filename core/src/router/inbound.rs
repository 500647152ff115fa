//! What a peer sends, and what one local instance sends to another.

use core::net::IpAddr;

use super::{Router, Verdict, address_of, is_unicast, ports_of};
use crate::addr::Dual;
use crate::flow::{Fins, Flow, FlowKey, Stage};
use crate::packet::{Offload, View, rewrite};
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::{Owner, key_of};
use crate::time::Instant;

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// Decides on a packet from the node in row `peer` of the table, and rewrites it.
    pub fn inbound(&mut self, now: Instant, peer: usize, packet: &mut [u8], offload: Offload) -> Verdict {
        let view = match View::parse(packet, offload) {
            Ok(view) => view,
            Err(_) => return self.drop(DropReason::Malformed),
        };
        let (key, attachment) = match self.ingress_key(&view) {
            Ok(found) => found,
            Err(reason) => return self.drop(reason),
        };
        if let Some(row) = self.flows.find_ingress(&key)
            && let Some(flow) = self.flows.get(row)
        {
            let current = self.is_remote_current(flow) && self.attachments.is_current(flow.attachment);
            if current && flow.node as usize != peer {
                return self.drop(DropReason::SpoofedSource);
            }
            if current && !self.flows.is_dead(flow, now) && !flow.reopens(&view) {
                return self.deliver(now, row, packet, &view);
            }
            self.end_flow(row);
        }
        match self.inbound_without_flow(now, peer, &key, &view, attachment) {
            Ok(Some(row)) => self.deliver(now, row, packet, &view),
            Ok(None) => Verdict::Wait { address: view.src(), asker: RowRef::NONE },
            Err(reason) => self.drop(reason),
        }
    }

    /// The key of a packet for an instance that is attached here. A destination that is the instance's own instance IP counts
    /// as its namespace IP.
    fn ingress_key(&self, view: &View) -> Result<(FlowKey, RowRef), DropReason> {
        if !is_unicast(view.src()) || !is_unicast(view.dst()) {
            return Err(DropReason::NotUnicast);
        }
        let attachment = self
            .attachments
            .by_namespace_ip(view.dst())
            .or_else(|| self.attachments.by_instance_ip(view.dst()))
            .ok_or(DropReason::NotOurs)?;
        let local = self.attachments.get(attachment.row()).ok_or(DropReason::NotOurs)?;
        let (src_port, dst_port) = ports_of(view)?;
        let key = FlowKey {
            src: key_of(view.src()),
            dst: key_of(local.namespace_ip.of(view.family())),
            src_port,
            dst_port,
            protocol: view.protocol().number(),
        };
        Ok((key, attachment))
    }

    /// Begins a flow for a peer's packet that belongs to none, and returns its row; none when the table does not know whose
    /// its source is.
    fn inbound_without_flow(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        view: &View,
        attachment: RowRef,
    ) -> Result<Option<usize>, DropReason> {
        let family = view.family();
        let Some(sender) = self.sender(peer, view.src())? else {
            return Ok(None);
        };
        let local = self.attachments.get(attachment.row()).ok_or(DropReason::NotOurs)?;
        let flow = Flow {
            local: key.dst,
            dialled: key.src,
            local_instance: key_of(local.instance_ip.of(family)),
            remote: key_of(sender.namespace_ip.of(family)),
            remote_instance: key.src,
            local_port: key.dst_port,
            remote_port: key.src_port,
            protocol: key.protocol,
            stage: Stage::Opening,
            fins: Fins::NONE,
            outgoing: false,
            node: u32::try_from(peer).map_err(|_| DropReason::NoFlow)?,
            instance: sender.instance,
            within: sender.within,
            attachment,
            last_seen: now,
            last_ack: 0,
        };
        self.begin_flow(flow, now).map(Some)
    }

    /// The instance of `peer` that has the source address; none when the table does not know whose it is. What this node's
    /// own instances are it knows itself, table or not.
    fn sender(&self, peer: usize, source: IpAddr) -> Result<Option<Sender>, DropReason> {
        const SPOOFED: DropReason = DropReason::SpoofedSource;
        if self.table.node(peer).is_some_and(|node| node.is_self) {
            let instance = self.attachments.by_instance_ip(source).ok_or(SPOOFED)?;
            let attachment = self.attachments.get(instance.row()).ok_or(SPOOFED)?;
            return Ok(Some(Sender { instance, namespace_ip: attachment.namespace_ip, within: true }));
        }
        if !self.rules.get().is_some_and(|rules| rules.plan.is_service_net(source)) {
            return Err(SPOOFED);
        }
        let slot = match self.table.owner(source) {
            None => return Ok(None),
            Some(Owner::Instance(slot)) => slot,
            Some(Owner::Service(..) | Owner::Namespace(_)) => return Err(SPOOFED),
        };
        let instance = self.table.instance(slot).ok_or(SPOOFED)?;
        if instance.node != peer {
            return Err(SPOOFED);
        }
        Ok(Some(Sender {
            instance: self.table.instance_ref(slot).ok_or(SPOOFED)?,
            namespace_ip: instance.namespace_ip,
            within: false,
        }))
    }

    /// Rewrites a packet as its flow says and delivers it.
    fn deliver(&mut self, now: Instant, row: usize, packet: &mut [u8], view: &View) -> Verdict {
        let Some(flow) = self.flows.get_mut(row) else {
            return Verdict::Drop(DropReason::NoFlow);
        };
        flow.note(view, now, false);
        let family = view.family();
        let (src, dst) = (address_of(flow.dialled, family), address_of(flow.local, family));
        if rewrite(packet, view, Some(src), Some(dst)).is_err() {
            return self.drop(DropReason::Malformed);
        }
        self.counters.delivered = self.counters.delivered.wrapping_add(1);
        Verdict::Deliver { len: view.total_len() }
    }
}

/// The remote end of a flow that a packet from it begins.
struct Sender {
    instance: RowRef,
    namespace_ip: Dual,
    within: bool,
}
