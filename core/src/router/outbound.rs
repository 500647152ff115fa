//! What a local application sends.

use core::net::IpAddr;

use super::answer::{self, Answer};
use super::classify::{Class, classify, is_amid_connection, opens};
use super::datagrams::DatagramKey;
use super::path::Fit;
use super::{Router, Verdict};
use crate::flow::{Flow, FlowKey, Marks};
use crate::mtu::OverlayMtu;
use crate::packet::{Fragment, Offload, View, is_one_host, readdress};
use crate::policy::NewFlow;
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::table::{Instance, Owner, key_of};
use crate::time::Instant;

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Router<S, I, N, F, L> {
    /// Decides on a packet that a local application sent, and rewrites it. A reply, if there is one, is written into `reply`,
    /// which should have room for [`crate::packet::reply::MAX_REPLY_LEN`] bytes.
    pub fn outbound(&mut self, now: Instant, packet: &mut [u8], offload: Offload, reply: &mut [u8]) -> Verdict {
        let view = match View::parse(packet, offload) {
            Ok(view) => view,
            Err(_) => return self.drop(DropReason::Malformed),
        };
        if view.has_mapped_address() {
            return self.drop(DropReason::NotUnicast);
        }
        match classify(&view) {
            Ok(Class::Ports(src_port, dst_port)) => {
                let (src, dst) = view.keys();
                let key = FlowKey { src, dst, src_port, dst_port, protocol: view.protocol().number() };
                self.outbound_by_ports(now, &key, packet, &view, reply)
            }
            Ok(Class::Later(fragment)) => self.outbound_later(now, fragment, packet, &view, reply),
            Ok(Class::Error) => match self.admit_outbound(&view) {
                Ok(()) => self.outbound_error(now, packet, &view),
                Err(reason) => self.drop(reason),
            },
            Err(reason) => {
                let reason = self.admit_outbound(&view).err().unwrap_or(reason);
                self.drop(reason)
            }
        }
    }

    /// Whether a packet of a local application belongs to a flow, over or not.
    pub(crate) fn has_outbound_flow(&self, view: &View) -> bool {
        let Ok(Class::Ports(src_port, dst_port)) = classify(view) else {
            return false;
        };
        let (src, dst) = view.keys();
        let key = FlowKey { src, dst, src_port, dst_port, protocol: view.protocol().number() };
        self.flows.find_egress(&key).is_some()
    }

    /// Tells the application that its packet went nowhere: a RST where the connection is the trouble, else ICMP unreachable, of
    /// which it gets [`ERRORS_PER_SECOND`](super::ERRORS_PER_SECOND) at most.
    pub fn refuse(
        &mut self,
        now: Instant,
        reason: DropReason,
        packet: &[u8],
        view: &View,
        reply: &mut [u8],
    ) -> Verdict {
        self.counters.count(reason);
        match answer::to(reason, packet, view, reply) {
            Some(Answer::Reset(len)) => {
                self.counters.replied = self.counters.replied.wrapping_add(1);
                Verdict::Reply { reason, len }
            }
            Some(Answer::Error(len)) => self.tell(now, reason, view.src(), Some(len)),
            None => Verdict::Drop(reason),
        }
    }

    /// Whether a packet may leave this node, by its addresses.
    fn admit_outbound(&self, view: &View) -> Result<(), DropReason> {
        let plan = &self.rules.get().ok_or(DropReason::NotAService)?.plan;
        if !is_one_host(view.src()) || !is_one_host(view.dst()) || plan.is_edge_of_service_net(view.dst()) {
            return Err(DropReason::NotUnicast);
        }
        if !plan.is_service_net(view.dst()) {
            return Err(DropReason::NotAService);
        }
        Ok(())
    }

    /// Decides on a packet that finds its flow by itself.
    #[inline]
    fn outbound_by_ports(
        &mut self,
        now: Instant,
        key: &FlowKey,
        packet: &mut [u8],
        view: &View,
        reply: &mut [u8],
    ) -> Verdict {
        let found = self.flows.find_egress(key);
        // What has a flow has been admitted when that began; its addresses are in the key.
        if found.is_none()
            && let Err(reason) = self.admit_outbound(view)
        {
            return self.drop(reason);
        }
        let first = view.fragment().map(|fragment| (DatagramKey::outbound(view, fragment), fragment));
        if let Some((datagram, _)) = &first
            && let Err(reason) = self.check_first(now, datagram)
        {
            return self.drop(reason);
        }
        let row = match self.outbound_flow(now, key, view, found) {
            Ok(row) => row,
            Err(Refused::Wait { address, asker }) => return Verdict::Wait { address, asker },
            Err(Refused::Silently(reason)) => return self.drop(reason),
            Err(Refused::Answered(reason)) => return self.refuse(now, reason, packet, view, reply),
        };
        let Some((datagram, fragment)) = first else {
            return self.send(now, row, packet, view, reply);
        };
        let flow = self.flows.reference(row).unwrap_or(RowRef::NONE);
        let verdict = self.send(now, row, packet, view, reply);
        self.begin_datagram(now, datagram, fragment, flow, &verdict);
        verdict
    }

    /// Decides on a fragment behind the first.
    fn outbound_later(
        &mut self,
        now: Instant,
        fragment: Fragment,
        packet: &mut [u8],
        view: &View,
        reply: &mut [u8],
    ) -> Verdict {
        let datagram = DatagramKey::outbound(view, fragment);
        let row = self.admit_outbound(view).and_then(|()| self.follow_datagram(now, &datagram, fragment));
        match row {
            Ok(row) => self.send(now, row, packet, view, reply),
            Err(reason) => self.drop(reason),
        }
    }

    /// The row of a packet's flow, which begins if there is none. `found` is the row that has its key.
    #[inline]
    fn outbound_flow(
        &mut self,
        now: Instant,
        key: &FlowKey,
        view: &View,
        found: Option<usize>,
    ) -> Result<usize, Refused> {
        if let Some(row) = found
            && let Some(flow) = self.flows.get(row)
        {
            if !self.attachments.is_current(flow.attachment) || self.flows.is_dead(flow, now) {
                self.end_flow(row);
            } else if !self.is_remote_current(flow) || flow.reopens(view) {
                self.end_flow(row);
                // UDP and echo are balanced anew; so is a TCP connection that only begins.
                if is_amid_connection(view) {
                    return Err(Refused::Answered(DropReason::InstanceGone));
                }
            } else {
                return Ok(row);
            }
        }
        self.begin_outbound(now, key, view)
    }

    /// Rewrites a packet as its flow says and sends it on.
    #[inline]
    fn send(&mut self, now: Instant, row: usize, packet: &mut [u8], view: &View, reply: &mut [u8]) -> Verdict {
        let Some(flow) = self.flows.get_mut(row) else {
            return self.drop(DropReason::NoFlow);
        };
        let Some(sender) = self.attachments.get(flow.attachment.row()) else {
            return self.drop(DropReason::NoFlow);
        };
        let (src, dst) = (sender.source(view.family()), flow.remote);
        flow.note(view, now, true);
        let node = flow.node as usize;
        let cut = match self.fit(now, node, view) {
            Fit::Whole => None,
            Fit::Cut(mtu) => Some(mtu),
            Fit::TooBig(mtu) => return self.refuse_too_big(now, mtu, packet, view, reply),
        };
        if readdress(packet, view, src, dst).is_err() {
            return self.drop(DropReason::Malformed);
        }
        if self.is_self(node) {
            return self.inbound_beside(now, node, packet, view.offload(), Some(row));
        }
        self.clamp(now, node, packet, view);
        self.forward(node, view, cut)
    }

    /// The verdict on a packet that has been rewritten for another node.
    pub(super) fn forward(&mut self, node: usize, view: &View, cut: Option<OverlayMtu>) -> Verdict {
        self.counters.forwarded = self.counters.forwarded.wrapping_add(1);
        let len = view.total_len();
        match cut {
            None => Verdict::Forward { node, len },
            Some(mtu) => {
                self.counters.fragmented = self.counters.fragmented.wrapping_add(1);
                Verdict::Fragment { node, len, mtu }
            }
        }
    }

    /// Begins a flow for a packet that belongs to none, and returns its row.
    fn begin_outbound(&mut self, now: Instant, key: &FlowKey, view: &View) -> Result<usize, Refused> {
        let attachment =
            self.attachments.by_namespace_ip(view.src()).ok_or(Refused::Silently(DropReason::UnknownSource))?;
        match self.table.owner(view.dst()) {
            Some(Owner::Service(service, _)) if !self.table.service(service).is_some_and(|s| s.complete) => {
                Err(Refused::Wait { address: view.dst(), asker: attachment })
            }
            None => Err(Refused::Wait { address: view.dst(), asker: attachment }),
            Some(Owner::Namespace(_)) => Err(Refused::Silently(DropReason::NotAService)),
            Some(Owner::Service(..)) if !opens(view) => Err(match view.tcp() {
                Some(_) => Refused::Answered(DropReason::NoFlow),
                None => Refused::Silently(DropReason::NoFlow),
            }),
            Some(Owner::Service(service, which)) => self.balance(now, key, view, attachment, service, which),
            Some(Owner::Instance(slot)) => {
                let instance = self.table.instance(slot).ok_or(Refused::Silently(DropReason::NoInstance))?;
                if opens(view) && !instance.alive {
                    return Err(Refused::Answered(DropReason::NoInstance));
                }
                let flow =
                    self.flow_to(now, key, view, attachment, slot).ok_or(Refused::Silently(DropReason::NoInstance))?;
                self.begin_flow(flow, now, None).map_err(Refused::Answered)
            }
        }
    }

    /// Lets the policy of a service IP pick an instance whose reverse path is free.
    fn balance(
        &mut self,
        now: Instant,
        key: &FlowKey,
        view: &View,
        attachment: RowRef,
        service: usize,
        which: usize,
    ) -> Result<usize, Refused> {
        let (registry, family) = (self.registry(), view.family());
        let sender = self.attachments.get(attachment.row()).ok_or(Refused::Silently(DropReason::UnknownSource))?;
        let new = NewFlow {
            source: key_of(sender.instance_ip.v4.into()),
            destination: key.dst,
            protocol: key.protocol,
            src_port: key.src_port,
            dst_port: key.dst_port,
        };
        let is_free = |instance: &Instance| {
            let reverse = FlowKey {
                src: key_of(instance.instance_ip.of(family)),
                dst: key.src,
                src_port: key.dst_port,
                dst_port: key.src_port,
                protocol: key.protocol,
            };
            self.live_flow(now, self.flows.find_ingress(&reverse)).is_none()
        };
        // A look at the flow table for each candidate would be dear, and reverse paths are hardly ever taken. So the policy picks first; only
        // when that has failed a few times it is shown none but the free ones.
        let mut taken = heapless::Vec::<u32, TRIES>::new();
        let picked = loop {
            let only_free = taken.is_full();
            let usable =
                |instance: &Instance, _: &_| !taken.contains(&instance.number) && (!only_free || is_free(instance));
            let picked = self.table.pick(service, which, &registry, &new, usable);
            match picked.and_then(|slot| self.table.instance(slot)) {
                Some(instance) if !only_free && !is_free(instance) => {
                    // There is room: it was not full.
                    let _ = taken.push(instance.number);
                }
                _ => break picked,
            }
        };
        let Some(slot) = picked else {
            let reason = if taken.is_empty() { DropReason::NoInstance } else { DropReason::ReverseCollision };
            return Err(Refused::Answered(reason));
        };
        let flow = self.flow_to(now, key, view, attachment, slot).ok_or(Refused::Silently(DropReason::NoInstance))?;
        let row = self.begin_flow(flow, now, None).map_err(Refused::Answered)?;
        self.table.advance(service, which, slot);
        Ok(row)
    }

    /// The flow of an application's packet to an instance.
    fn flow_to(&self, now: Instant, key: &FlowKey, view: &View, attachment: RowRef, slot: usize) -> Option<Flow> {
        let instance: &Instance = self.table.instance(slot)?;
        let family = view.family();
        Some(Flow {
            local: key.src,
            dialled: key.dst,
            remote: key_of(instance.namespace_ip.of(family)),
            remote_instance: key_of(instance.instance_ip.of(family)),
            local_port: key.src_port,
            remote_port: key.dst_port,
            protocol: key.protocol,
            marks: Marks::OUTGOING,
            node: u32::try_from(instance.node).ok()?,
            instance: self.table.instance_ref(slot)?,
            attachment,
            last_seen: now,
            ..Flow::EMPTY
        })
    }
}

/// How many instances a policy may pick in vain before it is shown only those whose reverse path is free.
const TRIES: usize = 4;

/// Why a packet begins no flow.
enum Refused {
    /// The table does not know the destination yet.
    Wait { address: IpAddr, asker: RowRef },
    /// The packet is dropped.
    Silently(DropReason),
    /// The packet is dropped and the application is told.
    Answered(DropReason),
}
