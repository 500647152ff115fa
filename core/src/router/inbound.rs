//! What a peer sends, and what one local instance sends to another.

use core::net::IpAddr;

use super::classify::{Class, classify};
use super::datagrams::DatagramKey;
use super::{Router, Verdict, address_of};
use crate::addr::Dual;
use crate::flow::{Flow, FlowKey};
use crate::packet::{Offload, View, is_one_host, rewrite};
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
        let (attachment, local) = match self.addressee(&view) {
            Ok(found) => found,
            Err(reason) => return self.drop(reason),
        };
        match classify(&view) {
            Ok(Class::Ports(src_port, dst_port)) => {
                let protocol = view.protocol().number();
                let key = FlowKey { src: key_of(view.src()), dst: key_of(local), src_port, dst_port, protocol };
                self.inbound_by_ports(now, peer, &key, packet, &view, attachment)
            }
            Ok(Class::Later(fragment)) => {
                let datagram = DatagramKey::inbound(peer, &view, fragment);
                match self.follow_datagram(now, &datagram, fragment) {
                    Ok(row) => self.deliver(now, row, packet, &view),
                    Err(reason) => self.drop(reason),
                }
            }
            Ok(Class::Error) => self.inbound_error(now, peer, packet, &view, attachment),
            Err(reason) => self.drop(reason),
        }
    }

    /// The local instance that a packet is for, and its namespace IP. A destination that is its instance IP counts as that too.
    #[inline]
    fn addressee(&self, view: &View) -> Result<(RowRef, IpAddr), DropReason> {
        if !is_one_host(view.src()) || !is_one_host(view.dst()) {
            return Err(DropReason::NotUnicast);
        }
        let attachment = self
            .attachments
            .by_namespace_ip(view.dst())
            .or_else(|| self.attachments.by_instance_ip(view.dst()))
            .ok_or(DropReason::NotOurs)?;
        let local = self.attachments.get(attachment.row()).ok_or(DropReason::NotOurs)?;
        Ok((attachment, local.namespace_ip.of(view.family())))
    }

    /// Decides on a packet that finds its flow by itself.
    #[inline]
    fn inbound_by_ports(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        packet: &mut [u8],
        view: &View,
        attachment: RowRef,
    ) -> Verdict {
        let first = view.fragment().map(|fragment| (DatagramKey::inbound(peer, view, fragment), fragment));
        if let Some((datagram, _)) = &first
            && let Err(reason) = self.datagrams.check_first(now, datagram)
        {
            return self.drop(reason);
        }
        let row = match self.inbound_flow(now, peer, key, view, attachment) {
            Ok(Some(row)) => row,
            Ok(None) => return Verdict::Wait { address: view.src(), asker: RowRef::NONE },
            Err(reason) => return self.drop(reason),
        };
        let verdict = self.deliver(now, row, packet, view);
        if let Some((datagram, fragment)) = first {
            self.begin_datagram(now, datagram, fragment, row, &verdict);
        }
        verdict
    }

    /// The row of a packet's flow, which begins if there is none; none when the table does not know whose its source is.
    #[inline]
    fn inbound_flow(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        view: &View,
        attachment: RowRef,
    ) -> Result<Option<usize>, DropReason> {
        if let Some(row) = self.flows.find_ingress(key)
            && let Some(flow) = self.flows.get(row)
        {
            let stale = self.is_stale(flow);
            if !stale && flow.node as usize != peer {
                return Err(DropReason::SpoofedSource);
            }
            if !stale && !self.flows.is_dead(flow, now) && !flow.reopens(view) {
                return Ok(Some(row));
            }
            self.end_flow(row);
        }
        self.begin_inbound(now, peer, key, view, attachment)
    }

    /// Begins a flow for a peer's packet that belongs to none, and returns its row; none when the table does not know whose
    /// its source is.
    fn begin_inbound(
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
            node: u32::try_from(peer).map_err(|_| DropReason::NoFlow)?,
            instance: sender.instance,
            within: sender.within,
            attachment,
            last_seen: now,
            ..Flow::EMPTY
        };
        self.begin_flow(flow, now).map(Some)
    }

    /// The instance of `peer` that has the source address; none when the table does not know whose it is. What this node's
    /// own instances are it knows itself, table or not.
    pub(super) fn sender(&self, peer: usize, source: IpAddr) -> Result<Option<Sender>, DropReason> {
        const SPOOFED: DropReason = DropReason::SpoofedSource;
        if self.table.node(peer).is_some_and(|node| node.is_self) {
            let instance = self.attachments.by_instance_ip(source).ok_or(SPOOFED)?;
            let attachment = self.attachments.get(instance.row()).ok_or(SPOOFED)?;
            return Ok(Some(Sender { instance, namespace_ip: attachment.namespace_ip, within: true }));
        }
        let in_service_net = self.rules.get().is_some_and(|rules| rules.plan.is_service_net(source));
        if !in_service_net || self.attachments.by_instance_ip(source).is_some() {
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
            return self.drop(DropReason::NoFlow);
        };
        flow.note(view, now, false);
        let node = flow.node as usize;
        let family = view.family();
        let (src, dst) = (address_of(flow.dialled, family), address_of(flow.local, family));
        if rewrite(packet, view, Some(src), Some(dst)).is_err() {
            return self.drop(DropReason::Malformed);
        }
        if !self.is_self(node) {
            self.clamp(now, node, packet, view);
        }
        self.counters.delivered = self.counters.delivered.wrapping_add(1);
        Verdict::Deliver { len: view.total_len() }
    }
}

/// The remote end of a flow that a packet from it begins.
pub(super) struct Sender {
    instance: RowRef,
    namespace_ip: Dual,
    within: bool,
}
