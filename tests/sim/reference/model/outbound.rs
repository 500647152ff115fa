//! What a local application sends.

use acorn_core::packet::Offload;

use super::super::sums;
use super::super::wire::{Body, Packet, SYN};
use super::flows::{Flow, Key, Stage};
use super::{Attachment, Instance, Model, Outcome, Owner, Reason, SELF, Token, of};

/// Why a packet does not go on.
enum Refused {
    Wait(Attachment),
    Silently(Reason),
    Answered(Reason),
}

impl Model {
    pub fn outbound(&mut self, now: u64, bytes: &[u8], offload: Offload) -> Outcome {
        let Some(packet) = Packet::read(bytes, offload) else {
            return self.drop("malformed");
        };
        if !super::is_one_host(packet.src) || !super::is_one_host(packet.dst) || super::is_edge(packet.dst) {
            return self.drop("not_unicast");
        }
        if !super::is_in_service_nets(packet.dst) {
            return self.drop("not_a_service");
        }
        if !packet.may_be_translated() {
            return self.drop("protocol");
        }
        match packet.body {
            Body::Behind => return self.outbound_behind(now, bytes, &packet, offload),
            Body::Message { .. } => return self.outbound_error(now, bytes, &packet, offload),
            _ => {}
        }
        let datagram = Self::datagram_key(None, &packet, packet.dst);
        if let Some(reason) = datagram.and_then(|key| self.second_first(now, key, &packet)) {
            return self.drop(reason);
        }
        let (src_port, dst_port) = packet.ports();
        let key = Key { src: packet.src, dst: packet.dst, src_port, dst_port, protocol: packet.protocol };
        let flow = match self.outbound_flow(now, &key, &packet) {
            Ok(flow) => flow,
            Err(Refused::Wait(asker)) => {
                return Outcome::Wait { address: packet.dst, asker: Some(asker.namespace_ip) };
            }
            Err(Refused::Silently(reason)) => return self.drop(reason),
            Err(Refused::Answered(reason)) => return self.refuse(now, reason, bytes, &packet),
        };
        let outcome = self.send(now, flow, bytes, &packet, offload);
        if let (Some(key), Some(_)) = (datagram, outcome.packet()) {
            self.remember(now, key, &packet, flow);
        }
        outcome
    }

    /// The flow of a packet, which may begin with it.
    fn outbound_flow(&mut self, now: u64, key: &Key, packet: &Packet) -> Result<Token, Refused> {
        if let Some(flow) = self.by_egress(key).cloned() {
            let begins_anew = packet.is_first_syn() && flow.stage() == Stage::Closing;
            if !self.is_attached(&flow) || flow.is_over(now) {
                self.end_flow(flow.token);
            } else if !self.is_remote_there(&flow) || begins_anew {
                self.end_flow(flow.token);
                if packet.is_tcp() && !packet.is_first_syn() {
                    return Err(Refused::Answered("instance_gone"));
                }
            } else {
                return Ok(flow.token);
            }
        }
        let attachment = self.at_namespace_ip(packet.src).ok_or(Refused::Silently("unknown_source"))?;
        let opens = match packet.body {
            Body::Tcp { .. } => packet.is_first_syn(),
            Body::EchoReply { .. } => false,
            _ => true,
        };
        match self.owner(packet.dst) {
            None => Err(Refused::Wait(attachment)),
            Some(Owner::Service(id, _)) if !self.services[&id].complete => Err(Refused::Wait(attachment)),
            Some(Owner::Namespace) => Err(Refused::Silently("not_a_service")),
            Some(Owner::Service(..)) if !opens && packet.is_tcp() => Err(Refused::Answered("no_flow")),
            Some(Owner::Service(..)) if !opens => Err(Refused::Silently("no_flow")),
            Some(Owner::Service(id, which)) => {
                let number = self.pick(now, id, which, key, packet).map_err(Refused::Answered)?;
                let instance = self.services[&id].instances[&number].clone();
                let flow = outgoing(key, packet, &attachment, &instance);
                let flow = self.begin(now, flow, None).map_err(Refused::Answered)?;
                if let Some(service) = self.services.get_mut(&id) {
                    service.ips[which].1 = number.wrapping_add(1);
                }
                Ok(flow)
            }
            Some(Owner::Instance(id, number)) => {
                let instance = self.services[&id].instances[&number].clone();
                if opens && !instance.alive {
                    return Err(Refused::Answered("no_instance"));
                }
                let flow = outgoing(key, packet, &attachment, &instance);
                self.begin(now, flow, None).map_err(Refused::Answered)
            }
        }
    }

    /// The number of the instance whose turn it is.
    fn pick(&self, now: u64, id: u32, which: usize, key: &Key, packet: &Packet) -> Result<u32, Reason> {
        let service = &self.services[&id];
        let turn = service.ips[which].1;
        let in_turn = service.instances.range(turn..).chain(service.instances.range(..turn));
        let mut has_collided = false;
        for (number, instance) in in_turn {
            if !instance.alive || instance.draining || self.avoided.contains(&instance.node) {
                continue;
            }
            let ingress = Key {
                src: of(instance.instance_ip, packet),
                dst: key.src,
                src_port: key.dst_port,
                dst_port: key.src_port,
                protocol: key.protocol,
            };
            if self.by_ingress(&ingress).is_some_and(|flow| !flow.is_over(now)) {
                has_collided = true;
                continue;
            }
            return Ok(*number);
        }
        Err(if has_collided { "reverse_collision" } else { "no_instance" })
    }

    /// Sends a packet as its flow says.
    pub fn send(&mut self, now: u64, flow: Token, bytes: &[u8], packet: &Packet, offload: Offload) -> Outcome {
        let Some(flow) = self.flow_mut(flow) else {
            return self.drop("no_flow");
        };
        flow.note(now, packet, true);
        let flow = flow.clone();
        let mtu = self.mtu(now, flow.node);
        let is_too_long = flow.node != SELF && wire_len(packet, offload) > usize::from(mtu);
        let may_be_cut = !packet.dont_fragment && offload.gso_size == 0;
        if is_too_long && !may_be_cut {
            return self.refuse_too_big(now, mtu, bytes, packet);
        }
        let mut buffer = bytes.to_vec();
        sums::translate(&mut buffer, packet, offload, flow.local_instance, flow.remote);
        if flow.node == SELF {
            return self.inbound_beside(now, SELF, &buffer, offload, Some(flow.token));
        }
        self.clamp(&mut buffer, packet, offload, mtu);
        self.forward(flow.node, packet, buffer, is_too_long.then_some(mtu))
    }

    /// Lowers the MSS of a SYN to what goes through.
    pub fn clamp(&self, buffer: &mut [u8], packet: &Packet, offload: Offload, mtu: u16) {
        if packet.tcp_flags() & SYN != 0 {
            sums::clamp_mss(buffer, packet, offload, mtu - if packet.v6 { 60 } else { 40 });
        }
    }

    pub fn mtu_to(&self, now: u64, node: u32) -> u16 {
        self.mtu(now, node)
    }

    /// A packet goes to a node, in fragments of this MTU if it is too long.
    pub fn forward(&mut self, node: u32, packet: &Packet, buffer: Vec<u8>, too_long_for: Option<u16>) -> Outcome {
        self.counters.forwarded += 1;
        let len = packet.len;
        match too_long_for {
            None => Outcome::Forward { node, len, buffer },
            Some(mtu) => {
                self.counters.fragmented += 1;
                Outcome::Fragment { node, len, mtu, buffer }
            }
        }
    }
}

/// The length of what goes over the wire: of the packet, or of its longest segment.
pub fn wire_len(packet: &Packet, offload: Offload) -> usize {
    let header = match packet.body {
        Body::Tcp { header, .. } => header,
        Body::Udp { .. } => 8,
        _ => return packet.len,
    };
    match usize::from(offload.gso_size) {
        0 => packet.len,
        segment => packet.len.min(packet.body_at + header + segment),
    }
}

fn outgoing(key: &Key, packet: &Packet, attachment: &Attachment, instance: &Instance) -> Flow {
    Flow {
        token: 0,
        local: key.src,
        dialled: key.dst,
        local_instance: of(attachment.instance_ip, packet),
        remote: of(instance.namespace_ip, packet),
        remote_instance: of(instance.instance_ip, packet),
        local_port: key.src_port,
        remote_port: key.dst_port,
        protocol: key.protocol,
        node: instance.node,
        attachment: attachment.token,
        instance: instance.token,
        last_seen: 0,
        last_ack: 0,
        outgoing: true,
        confirmed: false,
        spoken: [false; 2],
        finished: [false; 2],
        reset: false,
    }
}
