//! What a peer sends, and what one local instance sends to another.

use core::net::IpAddr;

use super::classify::{Class, classify};
use super::datagrams::DatagramKey;
use super::{Router, Verdict};
use crate::addr::Dual;
use crate::flow::{Flow, FlowKey, Marks};
use crate::packet::{Offload, View, is_one_host, readdress};
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::{Owner, key_of};
use crate::time::Instant;

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// Decides on a packet from the node in row `peer` of the table, and rewrites it.
    pub fn inbound(&mut self, now: Instant, peer: usize, packet: &mut [u8], offload: Offload) -> Verdict {
        self.inbound_beside(now, peer, packet, offload, None)
    }

    /// Whether a peer's packet belongs to a flow, over or not.
    pub(crate) fn has_inbound_flow(&self, view: &View) -> bool {
        let Ok(Class::Ports(src_port, dst_port)) = classify(view) else {
            return false;
        };
        self.flows.find_ingress(&ingress_key(view, view.keys().1, src_port, dst_port)).is_some()
    }

    /// As [`Self::inbound`]. The flow in row `kept`, by which the packet was sent on this very node, is not ended to make room.
    #[inline]
    pub(super) fn inbound_beside(
        &mut self,
        now: Instant,
        peer: usize,
        packet: &mut [u8],
        offload: Offload,
        kept: Option<usize>,
    ) -> Verdict {
        let view = match View::parse(packet, offload) {
            Ok(view) => view,
            Err(_) => return self.drop(DropReason::Malformed),
        };
        if view.has_mapped_address() {
            return self.drop(DropReason::NotUnicast);
        }
        let class = classify(&view);
        if let Ok(Class::Ports(src_port, dst_port)) = class
            && view.fragment().is_none()
            && let key = ingress_key(&view, view.keys().1, src_port, dst_port)
            && let Some(row) = self.flows.find_ingress(&key)
            && let Some(flow) = self.valid_flow(now, Some(row))
            && flow.node as usize == peer
            && !flow.reopens(&view)
        {
            // What has a flow has been admitted when that began; its addresses are in the key.
            return self.deliver(now, row, packet, &view);
        }
        let (attachment, local) = match self.addressee(&view) {
            Ok(found) => found,
            Err(reason) => return self.drop(reason),
        };
        match class {
            Ok(Class::Ports(src_port, dst_port)) => {
                let key = ingress_key(&view, key_of(local), src_port, dst_port);
                let end = LocalEnd { attachment, local, kept };
                self.inbound_by_ports(now, peer, &key, packet, &view, &end)
            }
            Ok(Class::Later(fragment)) => {
                let datagram = DatagramKey::inbound(peer, &view, fragment, local);
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
    fn inbound_by_ports(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        packet: &mut [u8],
        view: &View,
        end: &LocalEnd,
    ) -> Verdict {
        let datagram = |fragment| (DatagramKey::inbound(peer, view, fragment, end.local), fragment);
        let first = view.fragment().map(datagram);
        if let Some((datagram, _)) = &first
            && let Err(reason) = self.check_first(now, datagram)
        {
            return self.drop(reason);
        }
        let row = match self.inbound_flow(now, peer, key, view, end) {
            Ok(Some(row)) => row,
            Ok(None) => return Verdict::Wait { address: view.src(), asker: RowRef::NONE },
            Err(reason) => return self.drop(reason),
        };
        let flow = self.flows.reference(row).unwrap_or(RowRef::NONE);
        let verdict = self.deliver(now, row, packet, view);
        if let Some((datagram, fragment)) = first {
            self.begin_datagram(now, datagram, fragment, flow, &verdict);
        }
        verdict
    }

    /// The row of a packet's flow, which begins if there is none; none when the table does not know whose its source is.
    fn inbound_flow(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        view: &View,
        end: &LocalEnd,
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
        self.begin_inbound(now, peer, key, view, end)
    }

    /// Begins a flow for a peer's packet that belongs to none, and returns its row; none when the table does not know whose
    /// its source is.
    fn begin_inbound(
        &mut self,
        now: Instant,
        peer: usize,
        key: &FlowKey,
        view: &View,
        end: &LocalEnd,
    ) -> Result<Option<usize>, DropReason> {
        let attachment = end.attachment;
        let family = view.family();
        let Some(sender) = self.sender(peer, view.src())? else {
            return Ok(None);
        };
        let flow = Flow {
            local: key.dst,
            dialled: key.src,
            remote: key_of(sender.namespace_ip.of(family)),
            remote_instance: key.src,
            local_port: key.dst_port,
            remote_port: key.src_port,
            protocol: key.protocol,
            node: u32::try_from(peer).map_err(|_| DropReason::NoFlow)?,
            instance: sender.instance,
            marks: if sender.within { Marks::WITHIN } else { Marks::NONE },
            attachment,
            last_seen: now,
            ..Flow::EMPTY
        };
        self.begin_flow(flow, now, end.kept).map(Some)
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
        let (src, dst) = (flow.dialled, flow.local);
        if readdress(packet, view, src, dst).is_err() {
            return self.drop(DropReason::Malformed);
        }
        if !self.is_self(node) {
            self.clamp(now, node, packet, view);
        }
        self.counters.delivered = self.counters.delivered.wrapping_add(1);
        Verdict::Deliver { len: view.total_len() }
    }
}

/// The key of a packet for the instance at `local`.
#[inline]
fn ingress_key(view: &View, dst: [u8; 16], src_port: u16, dst_port: u16) -> FlowKey {
    FlowKey { src: view.keys().0, dst, src_port, dst_port, protocol: view.protocol().number() }
}

/// The local end of a packet from a peer.
struct LocalEnd {
    /// The instance that it is for.
    attachment: RowRef,
    /// That one's namespace IP.
    local: IpAddr,
    /// The flow that sent the packet, if it is from this very node.
    kept: Option<usize>,
}

/// The remote end of a flow that a packet from it begins.
pub(super) struct Sender {
    instance: RowRef,
    namespace_ip: Dual,
    within: bool,
}
