//! What a peer sends.

use std::net::IpAddr;

use acorn_core::addr::Dual;
use acorn_core::packet::Offload;

use super::super::sums;
use super::super::wire::{Body, Packet};
use super::flows::{Flow, Key, Stage};
use super::{Attachment, Model, Outcome, Owner, Reason, SELF, Token, of};

/// Why a packet does not go on.
pub enum Stopped {
    Wait,
    Dropped(Reason),
}

impl Model {
    pub fn inbound(&mut self, now: u64, peer: u32, bytes: &[u8], offload: Offload) -> Outcome {
        self.inbound_beside(now, peer, bytes, offload, None)
    }

    /// As [`Self::inbound`]; the flow by which this node itself sent the packet makes no room.
    pub fn inbound_beside(
        &mut self,
        now: u64,
        peer: u32,
        bytes: &[u8],
        offload: Offload,
        kept: Option<Token>,
    ) -> Outcome {
        let Some(packet) = Packet::read(bytes, offload) else {
            return self.drop("malformed");
        };
        if !super::is_one_host(packet.src) || !super::is_one_host(packet.dst) {
            return self.drop("not_unicast");
        }
        let Some(attachment) = self.at_namespace_ip(packet.dst).or_else(|| self.at_instance_ip(packet.dst)) else {
            return self.drop("not_ours");
        };
        let local = of(attachment.namespace_ip, &packet);
        if !packet.may_be_translated() {
            return self.drop("protocol");
        }
        let outcome = match packet.body {
            Body::Behind => self.inbound_behind(now, peer, bytes, &packet, offload, local),
            Body::Message { .. } => self.inbound_error(now, peer, bytes, &packet, offload, &attachment),
            _ => self.inbound_whole(now, peer, bytes, &packet, offload, (&attachment, kept)),
        };
        match outcome {
            Ok(outcome) => outcome,
            Err(Stopped::Wait) => Outcome::Wait { address: packet.src, asker: None },
            Err(Stopped::Dropped(reason)) => self.drop(reason),
        }
    }

    /// A whole packet, or a first fragment.
    fn inbound_whole(
        &mut self,
        now: u64,
        peer: u32,
        bytes: &[u8],
        packet: &Packet,
        offload: Offload,
        (attachment, kept): (&Attachment, Option<Token>),
    ) -> Result<Outcome, Stopped> {
        let local = of(attachment.namespace_ip, packet);
        let datagram = Self::datagram_key(Some(peer), packet, local);
        if let Some(reason) = datagram.and_then(|key| self.second_first(now, key, packet)) {
            return Err(Stopped::Dropped(reason));
        }
        let (src_port, dst_port) = packet.ports();
        let key = Key { src: packet.src, dst: local, src_port, dst_port, protocol: packet.protocol };
        let flow = self.inbound_flow(now, peer, &key, packet, (attachment, kept))?;
        let outcome = self.deliver(now, flow, peer, bytes, packet, offload);
        if let Some(key) = datagram {
            self.remember(now, key, packet, flow);
        }
        Ok(outcome)
    }

    /// The flow of a packet, which may begin with it.
    fn inbound_flow(
        &mut self,
        now: u64,
        peer: u32,
        key: &Key,
        packet: &Packet,
        (attachment, kept): (&Attachment, Option<Token>),
    ) -> Result<Token, Stopped> {
        if let Some(flow) = self.by_ingress(key).cloned() {
            let is_stale = self.is_stale(&flow);
            if !is_stale && flow.node != peer {
                return Err(Stopped::Dropped("spoofed_source"));
            }
            let begins_anew = packet.is_first_syn() && flow.stage() == Stage::Closing;
            if !is_stale && !flow.is_over(now) && !begins_anew {
                return Ok(flow.token);
            }
            self.end_flow(flow.token);
        }
        let (instance, namespace_ip) = self.check_sender(peer, packet.src)?;
        let flow = Flow {
            token: 0,
            local: key.dst,
            dialled: key.src,
            local_instance: of(attachment.instance_ip, packet),
            remote: of(namespace_ip, packet),
            remote_instance: key.src,
            local_port: key.dst_port,
            remote_port: key.src_port,
            protocol: key.protocol,
            node: peer,
            attachment: attachment.token,
            instance,
            last_seen: 0,
            last_ack: 0,
            outgoing: false,
            confirmed: false,
            spoken: [false; 2],
            finished: [false; 2],
            reset: false,
        };
        self.begin(now, flow, kept).map_err(Stopped::Dropped)
    }

    /// The instance of a peer that has the source address.
    pub fn check_sender(&self, peer: u32, source: IpAddr) -> Result<(Token, Dual), Stopped> {
        const SPOOFED: Stopped = Stopped::Dropped("spoofed_source");
        let attached = self.at_instance_ip(source);
        if peer == SELF {
            return attached.map(|sender| (sender.token, sender.namespace_ip)).ok_or(SPOOFED);
        }
        if attached.is_some() || !super::is_in_service_nets(source) {
            return Err(SPOOFED);
        }
        match self.owner(source) {
            None => Err(Stopped::Wait),
            Some(Owner::Instance(id, number)) => {
                let instance = &self.services[&id].instances[&number];
                if instance.node == peer { Ok((instance.token, instance.namespace_ip)) } else { Err(SPOOFED) }
            }
            Some(_) => Err(SPOOFED),
        }
    }

    /// Delivers a packet as its flow says.
    pub fn deliver(
        &mut self,
        now: u64,
        flow: Token,
        peer: u32,
        bytes: &[u8],
        packet: &Packet,
        offload: Offload,
    ) -> Outcome {
        let Some(flow) = self.flow_mut(flow) else {
            return self.drop("no_flow");
        };
        flow.note(now, packet, false);
        let (dialled, local) = (flow.dialled, flow.local);
        let mut buffer = bytes.to_vec();
        sums::translate(&mut buffer, packet, offload, dialled, local);
        if peer != SELF {
            self.clamp(&mut buffer, packet, offload, self.mtu_to(now, peer));
        }
        self.counters.delivered += 1;
        Outcome::Deliver { len: packet.len, buffer }
    }
}
