//! What an application is told when its packet goes nowhere.

use std::net::IpAddr;

use super::super::sums;
use super::super::wire::{ACK, Body, ICMP, ICMPV6, Packet, RST, TCP, UDP};
use super::{Model, Outcome, Reason};
use acorn_core::packet::Offload;

impl Model {
    /// Drops a packet of a local application and tells it, if it may be told.
    pub fn refuse(&mut self, now: u64, reason: Reason, bytes: &[u8], packet: &Packet) -> Outcome {
        let is_about_the_connection = matches!(reason, "no_flow" | "instance_gone" | "reverse_collision");
        if packet.is_tcp() && is_about_the_connection {
            return match packet.body {
                Body::Tcp { ports, seq, ack, flags, header } if flags & RST == 0 => {
                    let (seq, ack) = if flags & ACK != 0 {
                        (ack, None)
                    } else {
                        let syn_and_fin = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
                        let payload = (packet.len - packet.body_at - header) as u32;
                        (0, Some(seq.wrapping_add(payload).wrapping_add(syn_and_fin)))
                    };
                    self.reply(reason, reset(packet.dst, packet.src, (ports.1, ports.0), seq, ack))
                }
                _ => self.drop(reason),
            };
        }
        let kind = match (packet.v6, packet.protocol) {
            (false, UDP) => (3, 13),
            (false, _) => (3, 1),
            (true, UDP) => (1, 1),
            (true, _) => (1, 3),
        };
        self.refuse_with(now, reason, (kind, 0), bytes, packet)
    }

    /// Drops a packet that is longer than the path takes, and tells its sender how long it may be.
    pub fn refuse_too_big(&mut self, now: u64, mtu: u16, bytes: &[u8], packet: &Packet) -> Outcome {
        let kind = if packet.v6 { (2, 0) } else { (3, 4) };
        self.refuse_with(now, "too_big", (kind, u32::from(mtu)), bytes, packet)
    }

    fn refuse_with(
        &mut self,
        now: u64,
        reason: Reason,
        (kind, detail): ((u8, u8), u32),
        bytes: &[u8],
        packet: &Packet,
    ) -> Outcome {
        let is_error = matches!(packet.body, Body::Message { .. });
        let is_reset = packet.tcp_flags() & RST != 0;
        if is_error || is_reset || (packet.body == Body::Behind && !packet.v6) {
            return self.drop(reason);
        }
        // Runs are too short to reach the limit of 1,000 per second; going near it would be a mistake of the router's.
        let Some(sender) = self.at_namespace_ip(packet.src) else { return self.drop(reason) };
        let told = self.told.entry(sender.token).or_default();
        told.retain(|at| at + 1000 > now);
        assert!(told.len() < 1000, "a run of so many refusals needs an exact limit in the model");
        told.push(now);
        let room = if packet.v6 { 1280 - 48 } else { 576 - 28 };
        let mut message = vec![kind.0, kind.1, 0, 0];
        message.extend(detail.to_be_bytes());
        message.extend(&bytes[..packet.len.min(room)]);
        let protocol = if packet.v6 { ICMPV6 } else { ICMP };
        self.reply(reason, datagram(packet.dst, packet.src, protocol, &message))
    }

    fn reply(&mut self, reason: Reason, reply: Vec<u8>) -> Outcome {
        self.drop(reason);
        self.counters.replied += 1;
        Outcome::Reply { reason, reply }
    }
}

/// A TCP reset.
pub fn reset(src: IpAddr, dst: IpAddr, ports: (u16, u16), seq: u32, ack: Option<u32>) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend(seq.to_be_bytes());
    segment.extend(ack.unwrap_or(0).to_be_bytes());
    segment.extend([5 << 4, if ack.is_some() { RST | ACK } else { RST }, 0, 0, 0, 0, 0, 0]);
    datagram(src, dst, TCP, &segment)
}

/// A packet with right checksums, as routers make them.
fn datagram(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend([0x45, 0]);
            bytes.extend(((20 + body.len()) as u16).to_be_bytes());
            // Identification 0, DF, TTL 64.
            bytes.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend([0x60, 0, 0, 0]);
            bytes.extend((body.len() as u16).to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        _ => panic!("{src} and {dst} are of different families"),
    }
    bytes.extend(body);
    let packet = Packet::read(&bytes, Offload::NONE).expect("an answer is well formed");
    sums::make_right(&mut bytes, &packet);
    bytes
}
