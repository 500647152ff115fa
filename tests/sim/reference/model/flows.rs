//! Flows: what they remember, how long they live, and which one makes room.

use std::net::IpAddr;

use super::super::wire::{ACK, FIN, ICMP, ICMPV6, Packet, RST, SYN, TCP, UDP};
use super::{FLOWS, Model, Reason, Token, answers};

/// How a packet finds its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub protocol: u8,
}

#[derive(Clone, Debug)]
pub struct Flow {
    pub token: Token,
    pub local: IpAddr,
    pub dialled: IpAddr,
    pub local_instance: IpAddr,
    pub remote: IpAddr,
    pub remote_instance: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
    pub protocol: u8,
    pub node: u32,
    /// The attachment at the local end.
    pub attachment: Token,
    /// The instance at the remote end: of the table, or an attachment.
    pub instance: Token,
    pub last_seen: u64,
    pub last_ack: u32,
    /// Whether the local application began it.
    pub outgoing: bool,
    /// TCP: the side that began it has acknowledged what the other said.
    pub confirmed: bool,
    /// Which sides have spoken, and which have sent a FIN: the local one, the remote one.
    pub spoken: [bool; 2],
    pub finished: [bool; 2],
    pub reset: bool,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Opening,
    Established,
    Closing,
}

impl Flow {
    pub fn egress(&self) -> Key {
        Key {
            src: self.local,
            dst: self.dialled,
            src_port: self.local_port,
            dst_port: self.remote_port,
            protocol: self.protocol,
        }
    }

    pub fn ingress(&self) -> Key {
        Key {
            src: self.remote_instance,
            dst: self.local,
            src_port: self.remote_port,
            dst_port: self.local_port,
            protocol: self.protocol,
        }
    }

    pub fn stage(&self) -> Stage {
        if self.protocol == TCP && (self.reset || self.finished == [true, true]) {
            Stage::Closing
        } else if self.spoken == [true, true] && (self.protocol != TCP || self.confirmed) {
            Stage::Established
        } else {
            Stage::Opening
        }
    }

    /// When it is over.
    fn end(&self) -> u64 {
        let seconds = match (self.protocol, self.stage()) {
            (TCP, Stage::Opening) => 30,
            (TCP, Stage::Established) => 2 * 3600 + 4 * 60,
            (TCP, Stage::Closing) => 10,
            (UDP, Stage::Opening) => 30,
            (UDP, _) => 300,
            (ICMP | ICMPV6, _) => 60,
            _ => 300,
        };
        self.last_seen + seconds * 1000
    }

    pub fn is_over(&self, now: u64) -> bool {
        now >= self.end()
    }

    /// Notes a packet of it.
    pub fn note(&mut self, now: u64, packet: &Packet, is_local: bool) {
        let side = usize::from(!is_local);
        self.last_seen = now;
        self.spoken[side] = true;
        let flags = packet.tcp_flags();
        let other_has_spoken = self.spoken[1 - side];
        if is_local == self.outgoing && other_has_spoken && flags & ACK != 0 && flags & SYN == 0 {
            self.confirmed = true;
        }
        self.finished[side] |= flags & FIN != 0;
        self.reset |= flags & RST != 0;
        if let super::super::wire::Body::Tcp { ack, .. } = packet.body
            && is_local
            && flags & ACK != 0
        {
            self.last_ack = ack;
        }
    }
}

impl Model {
    pub fn by_egress(&self, key: &Key) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.egress() == *key)
    }

    pub fn by_ingress(&self, key: &Key) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.ingress() == *key)
    }

    pub fn flow(&self, token: Token) -> Option<&Flow> {
        self.flows.iter().find(|flow| flow.token == token)
    }

    pub fn flow_mut(&mut self, token: Token) -> Option<&mut Flow> {
        self.flows.iter_mut().find(|flow| flow.token == token)
    }

    pub fn is_attached(&self, flow: &Flow) -> bool {
        self.is_there(flow.attachment)
    }

    pub fn is_remote_there(&self, flow: &Flow) -> bool {
        self.is_there(flow.instance)
    }

    pub fn is_stale(&self, flow: &Flow) -> bool {
        !self.is_attached(flow) || !self.is_remote_there(flow)
    }

    pub fn end_flow(&mut self, token: Token) {
        self.flows.retain(|flow| flow.token != token);
    }

    /// Takes a flow in, if a flow that is not over has neither of its keys. `kept` does not make room for it.
    pub fn begin(&mut self, now: u64, flow: Flow, kept: Option<Token>) -> Result<Token, Reason> {
        let (egress, ingress) = (flow.egress(), flow.ingress());
        let has_a_key = |old: &Flow| old.egress() == egress || old.ingress() == ingress;
        if self.flows.iter().any(|old| has_a_key(old) && !old.is_over(now)) {
            return Err("reverse_collision");
        }
        self.flows.retain(|old| !has_a_key(old));
        if self.flows.len() == FLOWS {
            self.make_room(now, kept);
        }
        self.tokens += 1;
        self.flows.push(Flow { token: self.tokens, ..flow });
        self.counters.flows_begun += 1;
        Ok(self.tokens)
    }

    fn make_room(&mut self, now: u64, kept: Option<Token>) {
        let rank = |flow: &Flow| {
            let is_established_tcp = flow.protocol == TCP && flow.stage() == Stage::Established;
            let class = if flow.is_over(now) { 0 } else { 1 + u8::from(is_established_tcp) };
            (class, flow.end(), flow.egress())
        };
        let Some(first) = self.flows.iter().filter(|flow| Some(flow.token) != kept).min_by_key(|flow| rank(flow))
        else {
            return;
        };
        let (token, class) = (first.token, rank(first).0);
        self.counters.flows_evicted += u64::from(class > 0);
        self.counters.established_evicted += u64::from(class == 2);
        self.end_flow(token);
    }

    /// Ends the flows that are over.
    pub fn expire(&mut self, now: u64) {
        self.flows.retain(|flow| !flow.is_over(now));
    }

    /// Ends the flows that are stale, and returns the resets for local TCP connections.
    pub fn sweep(&mut self) -> Vec<Vec<u8>> {
        let (stale, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flows).into_iter().partition(|flow| self.is_stale(flow));
        self.flows = rest;
        let mut resets = Vec::new();
        for flow in stale {
            if self.is_attached(&flow) && flow.protocol == TCP && flow.stage() != Stage::Opening {
                self.counters.replied += 1;
                let ports = (flow.remote_port, flow.local_port);
                resets.push(answers::reset(flow.dialled, flow.local, ports, flow.last_ack, None));
            }
        }
        resets
    }
}
