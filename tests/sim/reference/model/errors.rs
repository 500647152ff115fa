//! ICMP errors, which are translated with the packet that they quote.

use acorn_core::packet::Offload;

use super::super::sums;
use super::super::wire::{Body, NoQuote, Packet, Quote};
use super::flows::{Flow, Key};
use super::inbound::Stopped;
use super::{Attachment, Model, Outcome, Reason, SELF, of};

impl Model {
    /// A local application reports a packet that was delivered to it.
    pub fn outbound_error(&mut self, now: u64, bytes: &[u8], packet: &Packet, offload: Offload) -> Outcome {
        match self.try_outbound_error(now, bytes, packet, offload) {
            Ok(outcome) => outcome,
            Err(reason) => self.drop(reason),
        }
    }

    fn try_outbound_error(
        &mut self,
        now: u64,
        bytes: &[u8],
        packet: &Packet,
        offload: Offload,
    ) -> Result<Outcome, Reason> {
        let quote = quote_of(bytes, packet)?;
        let reporter = self.at_namespace_ip(packet.src).ok_or("unknown_source")?;
        let key = Key {
            src: quote.dst,
            dst: quote.src,
            src_port: quote.ports.1,
            dst_port: quote.ports.0,
            protocol: quote.protocol,
        };
        let is_its_own = |flow: &&Flow| flow.dialled == packet.dst && flow.local == packet.src;
        let flow = self.by_egress(&key).filter(is_its_own).ok_or("no_flow")?;
        if flow.is_over(now) || self.is_stale(flow) {
            return Err("no_flow");
        }
        let flow = flow.clone();
        let mtu = self.mtu_to(now, flow.node);
        let is_too_long = flow.node != SELF && packet.len > usize::from(mtu);
        if is_too_long && (packet.dont_fragment || offload.gso_size != 0) {
            return Err("too_big");
        }
        let mut buffer = bytes.to_vec();
        let outer = (of(reporter.instance_ip, packet), flow.remote);
        sums::translate_error(&mut buffer, packet, &quote, offload, outer, (flow.remote_instance, quote.dst));
        if flow.node == SELF {
            return Ok(self.inbound(now, SELF, &buffer, offload));
        }
        Ok(self.forward(flow.node, packet, buffer, is_too_long.then_some(mtu)))
    }

    /// A peer reports a packet that was sent from here.
    pub fn inbound_error(
        &mut self,
        now: u64,
        peer: u32,
        bytes: &[u8],
        packet: &Packet,
        offload: Offload,
        attachment: &Attachment,
    ) -> Result<Outcome, Stopped> {
        let quote = quote_of(bytes, packet).map_err(Stopped::Dropped)?;
        self.check_sender(peer, packet.src)?;
        let instance_ip = if peer == SELF {
            self.at_namespace_ip(quote.dst).map(|instance| instance.instance_ip)
        } else {
            let instances = self.services.values().flat_map(|service| service.instances.values());
            let mut there = instances.filter(|instance| instance.namespace_ip.contains(quote.dst));
            there.next().map(|instance| instance.instance_ip)
        };
        const NO_FLOW: Stopped = Stopped::Dropped("no_flow");
        let instance_ip = instance_ip.ok_or(NO_FLOW)?;
        if quote.src != of(attachment.instance_ip, packet) {
            return Err(NO_FLOW);
        }
        let key = Key {
            src: of(instance_ip, packet),
            dst: of(attachment.namespace_ip, packet),
            src_port: quote.ports.1,
            dst_port: quote.ports.0,
            protocol: quote.protocol,
        };
        let flow = self.by_ingress(&key).ok_or(NO_FLOW)?;
        if flow.is_over(now) || self.is_stale(flow) {
            return Err(NO_FLOW);
        }
        if flow.node != peer {
            return Err(Stopped::Dropped("spoofed_source"));
        }
        let src = if packet.src == flow.remote_instance { flow.dialled } else { packet.src };
        let (local, dialled) = (flow.local, flow.dialled);
        let mut buffer = bytes.to_vec();
        sums::translate_error(&mut buffer, packet, &quote, offload, (src, local), (local, dialled));
        self.counters.delivered += 1;
        Ok(Outcome::Deliver { len: packet.len, buffer })
    }
}

/// What an error quotes, if it is one that is translated.
fn quote_of(bytes: &[u8], packet: &Packet) -> Result<Quote, Reason> {
    let Body::Message { kind } = packet.body else { return Err("icmp_message") };
    let is_error = if packet.v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) };
    if !is_error || packet.fragment.is_some() {
        return Err("icmp_message");
    }
    Quote::read(bytes, packet).map_err(|reason| match reason {
        NoQuote::Malformed => "malformed",
        NoQuote::WithoutPorts => "icmp_message",
    })
}
