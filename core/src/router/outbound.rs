//! What a local application sends.

use core::cell::Cell;
use core::net::IpAddr;

use super::{Router, Verdict, address_of, answer, is_unicast, note, opens, ports_of, reopens};
use crate::flow::{Flow, FlowKey, Stage};
use crate::packet::{Offload, View, rewrite};
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
        let key = match self.egress_key(&view) {
            Ok(key) => key,
            Err(reason) => return self.drop(reason),
        };
        if let Some(row) = self.flows.find_egress(&key)
            && let Some(verdict) = self.outbound_in_flow(now, row, packet, &view, reply)
        {
            return verdict;
        }
        match self.outbound_without_flow(now, &key, &view) {
            Ok(row) => self.send(now, row, packet, &view),
            Err(Refused::Wait { address, asker }) => Verdict::Wait { address, asker },
            Err(Refused::Silently(reason)) => self.drop(reason),
            Err(Refused::Answered(reason)) => self.refuse(reason, packet, &view, reply),
        }
    }

    /// Tells the application that its packet went nowhere: a RST where the connection is the trouble, else ICMP unreachable.
    pub fn refuse(&mut self, reason: DropReason, packet: &[u8], view: &View, reply: &mut [u8]) -> Verdict {
        self.counters.count(reason);
        match answer::to(reason, packet, view, reply) {
            Some(len) => {
                self.counters.replied = self.counters.replied.wrapping_add(1);
                Verdict::Reply { reason, len }
            }
            None => Verdict::Drop(reason),
        }
    }

    /// The key of a packet that this node carries.
    fn egress_key(&self, view: &View) -> Result<FlowKey, DropReason> {
        if !is_unicast(view.dst()) || !is_unicast(view.src()) {
            return Err(DropReason::NotUnicast);
        }
        if !self.rules.get().is_some_and(|rules| rules.plan.is_service_net(view.dst())) {
            return Err(DropReason::NotAService);
        }
        let (src_port, dst_port) = ports_of(view)?;
        Ok(FlowKey {
            src: key_of(view.src()),
            dst: key_of(view.dst()),
            src_port,
            dst_port,
            protocol: view.protocol().number(),
        })
    }

    /// The verdict on a packet of a flow; none when the flow is over and the packet may begin a new one.
    fn outbound_in_flow(
        &mut self,
        now: Instant,
        row: usize,
        packet: &mut [u8],
        view: &View,
        reply: &mut [u8],
    ) -> Option<Verdict> {
        let flow = self.flows.get(row)?;
        if !self.attachments.is_current(flow.attachment) || self.flows.is_dead(flow, now) {
            self.end_flow(row);
            return None;
        }
        if !self.is_remote_current(flow) || reopens(flow, view) {
            self.end_flow(row);
            // UDP and echo are balanced anew; so is a TCP connection that only begins.
            if view.tcp().is_none() || opens(view) {
                return None;
            }
            return Some(self.refuse(DropReason::InstanceGone, packet, view, reply));
        }
        Some(self.send(now, row, packet, view))
    }

    /// Rewrites a packet as its flow says and sends it on.
    fn send(&mut self, now: Instant, row: usize, packet: &mut [u8], view: &View) -> Verdict {
        let Some(flow) = self.flows.get_mut(row) else {
            return Verdict::Drop(DropReason::NoFlow);
        };
        note(flow, view, now, true);
        let family = view.family();
        let (src, dst) = (address_of(flow.local_instance, family), address_of(flow.remote, family));
        let node = flow.node as usize;
        if rewrite(packet, view, Some(src), Some(dst)).is_err() {
            return self.drop(DropReason::Malformed);
        }
        if self.table.node(node).is_some_and(|node| node.is_self) {
            return self.inbound(now, node, packet, view.offload());
        }
        self.counters.forwarded = self.counters.forwarded.wrapping_add(1);
        Verdict::Forward { node, len: view.total_len() }
    }

    /// Begins a flow for a packet that belongs to none, and returns its row.
    fn outbound_without_flow(&mut self, now: Instant, key: &FlowKey, view: &View) -> Result<usize, Refused> {
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
                self.begin_flow(flow, now).map_err(Refused::Answered)
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
        let (flows, collided) = (&self.flows, Cell::new(false));
        let sender = self.attachments.get(attachment.row()).ok_or(Refused::Silently(DropReason::UnknownSource))?;
        let new = NewFlow {
            source: key_of(sender.instance_ip.v4.into()),
            destination: key.dst,
            protocol: key.protocol,
            src_port: key.src_port,
            dst_port: key.dst_port,
        };
        let picked = self.table.pick(service, which, &registry, &new, |instance, _| {
            let reverse = FlowKey {
                src: key_of(instance.instance_ip.of(family)),
                dst: key.src,
                src_port: key.dst_port,
                dst_port: key.src_port,
                protocol: key.protocol,
            };
            let taken =
                flows.find_ingress(&reverse).and_then(|row| flows.get(row)).is_some_and(|f| !flows.is_dead(f, now));
            collided.set(collided.get() | taken);
            !taken
        });
        let Some(slot) = picked else {
            let reason = if collided.get() { DropReason::ReverseCollision } else { DropReason::NoInstance };
            return Err(Refused::Answered(reason));
        };
        let flow = self.flow_to(now, key, view, attachment, slot).ok_or(Refused::Silently(DropReason::NoInstance))?;
        let row = self.begin_flow(flow, now).map_err(Refused::Answered)?;
        self.table.advance(service, which, slot);
        Ok(row)
    }

    /// The flow of an application's packet to an instance.
    fn flow_to(&self, now: Instant, key: &FlowKey, view: &View, attachment: RowRef, slot: usize) -> Option<Flow> {
        let instance: &Instance = self.table.instance(slot)?;
        let local = self.attachments.get(attachment.row())?;
        let family = view.family();
        Some(Flow {
            local: key.src,
            dialled: key.dst,
            local_instance: key_of(local.instance_ip.of(family)),
            remote: key_of(instance.namespace_ip.of(family)),
            remote_instance: key_of(instance.instance_ip.of(family)),
            local_port: key.src_port,
            remote_port: key.dst_port,
            protocol: key.protocol,
            stage: Stage::Opening,
            outgoing: true,
            node: u32::try_from(instance.node).ok()?,
            instance: self.table.instance_ref(slot)?,
            within: false,
            attachment,
            last_seen: now,
            last_ack: 0,
        })
    }
}

/// Why a packet begins no flow.
enum Refused {
    /// The table does not know the destination yet.
    Wait { address: IpAddr, asker: RowRef },
    /// The packet is dropped.
    Silently(DropReason),
    /// The packet is dropped and the application is told.
    Answered(DropReason),
}
