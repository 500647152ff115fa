//! A run: the router and the model take the same steps, and must agree after each.

use std::fmt::Write as _;
use std::rc::Rc;

use acorn_core::mtu::OverlayMtu;
use acorn_core::packet::{Checksum, Fragments, Offload, View};
use acorn_core::stats::DropReason;
use acorn_core::table::Owner;

use super::build::Sent;
use super::chance::Chance;
use super::model::{Instance, Key, Model, Outcome, SELF};
use super::steps::{self, Hex, Lately, Step};
use super::sums;
use super::system::System;
use super::wire::{Body, Packet};

/// The most steps of a run.
const STEPS: usize = 400;
/// How much of what went through is kept.
const LATELY: usize = 8;
/// When a run begins, in milliseconds.
pub const START: u64 = 1_000;

/// The router, the model, and what has happened to them.
pub struct Run {
    now: u64,
    system: System,
    model: Model,
    lately: Lately,
    story: Vec<Rc<Step>>,
}

/// Takes the steps that these bytes say.
///
/// # Panics
/// When the router and the model differ, with all steps.
pub fn play(bytes: &[u8]) -> Run {
    let mut chance = Chance::new(bytes);
    let mut run = Run::new();
    for step in steps::beginning(&mut chance) {
        run.take(step);
    }
    for _ in 0..STEPS {
        if chance.is_empty() {
            break;
        }
        let step = steps::next(&mut chance, &run.model, &run.lately);
        run.take(step);
    }
    run
}

impl Run {
    pub fn new() -> Self {
        Self {
            now: START,
            system: System::new(),
            model: Model::default(),
            lately: Lately::default(),
            story: Vec::new(),
        }
    }

    /// Takes a step, and returns what became of its packet if it has one.
    pub fn take(&mut self, step: Step) -> Option<Outcome> {
        let step = Rc::new(step);
        self.story.push(step.clone());
        let outcome = self.both(&step);
        self.compare_counters();
        self.compare_flows();
        outcome
    }

    fn both(&mut self, step: &Step) -> Option<Outcome> {
        let (now, system, model) = (self.now, &mut self.system, &mut self.model);
        match *step {
            Step::Wait(millis) => self.now += millis,
            Step::Outbound(ref sent) => {
                let (is, should) = (system.outbound(now, sent), model.outbound(now, &sent.bytes, sent.offload));
                return Some(self.judge(is, should, sent, 0));
            }
            Step::Inbound(peer, ref sent) => {
                let is = system.inbound(now, peer, sent);
                let should = model.inbound(now, peer, &sent.bytes, sent.offload);
                return Some(self.judge(is, should, sent, peer));
            }
            Step::Service(id, ref ips) => {
                system.set_service(id, ips);
                model.set_service(id, ips);
            }
            Step::Complete(id, is_complete) => {
                system.set_complete(id, is_complete);
                if let Some(service) = model.services.get_mut(&id) {
                    service.complete = is_complete;
                }
            }
            Step::RemoveService(id) => {
                system.remove_service(id);
                model.remove_service(id);
            }
            Step::Put(placed) => {
                let instance = Instance {
                    token: 0,
                    node: placed.node,
                    instance_ip: placed.instance_ip,
                    namespace_ip: placed.namespace_ip,
                    alive: placed.alive,
                    draining: placed.draining,
                };
                system.put_instance(placed.service, placed.number, &instance);
                model.put_instance(placed.service, placed.number, instance);
            }
            Step::Withdraw(service, number) => {
                system.remove_instance(service, number);
                model.remove_instance(service, number);
            }
            Step::Avoid(node, is_avoided) => {
                system.avoid(node, is_avoided);
                model.avoided.retain(|avoided| *avoided != node);
                model.avoided.extend(is_avoided.then_some(node));
            }
            Step::Attach(id, instance_ip, namespace_ip) => {
                system.attach(id, instance_ip, namespace_ip);
                model.attach(id, instance_ip, namespace_ip);
            }
            Step::Detach(id) => {
                system.detach(id);
                model.detach(id);
            }
            Step::Sweep => {
                let (mut is, mut should) = (system.sweep(), model.sweep());
                // In which order flows are looked at is nobody's business.
                is.sort_unstable();
                should.sort_unstable();
                self.expect("the resets of a sweep", &is, &should);
            }
            Step::Expire => {
                system.expire(now);
                model.expire(now);
            }
            Step::OwnMtu(mtu) => {
                system.set_mtu(mtu);
                model.set_mtu(mtu);
            }
            Step::PathMtu(node, mtu) => {
                system.learn_mtu(now, node, mtu);
                model.learn_mtu(now, node, mtu);
            }
        }
        None
    }

    /// The outcome of a packet from a peer, or from here, which is 0.
    fn judge(&mut self, is: Outcome, should: Outcome, sent: &Sent, from: u32) -> Outcome {
        if is != should {
            self.fail(&format!("the outcome\n  is        {is:?}\n  should be {should:?}"));
        }
        if let Some(flaw) = self.flaw(&is, sent) {
            self.fail(&format!("{flaw}: {is:?}"));
        }
        if let Some(packet) = is.packet() {
            let node = match &is {
                Outcome::Forward { node, .. } | Outcome::Fragment { node, .. } => *node,
                _ => SELF,
            };
            keep(&mut self.lately.out, (node, packet.to_vec()));
            let first = Packet::read(&sent.bytes, Offload::NONE).filter(|first| first.fragment.is_some());
            if first.is_some_and(|first| first.body != Body::Behind) {
                keep(&mut self.lately.fragments, (from, sent.bytes.clone()));
            }
        }
        is
    }

    /// What is wrong with an outcome whatever the packet was.
    fn flaw(&self, outcome: &Outcome, sent: &Sent) -> Option<&'static str> {
        let router = &self.system.router;
        if let Outcome::Reply { reply, .. } = outcome {
            let (Some(answer), Some(question)) =
                (Packet::read(reply, Offload::NONE), Packet::read(&sent.bytes, sent.offload))
            else {
                return Some("a reply that is not well formed");
            };
            let is_back = (answer.src, answer.dst) == (question.dst, question.src);
            return match () {
                () if !is_back => Some("a reply to someone else"),
                () if !sums::is_right(reply, &answer) => Some("a reply with a wrong checksum"),
                () if reply.len() > if answer.v6 { 1280 } else { 576 } => Some("a reply that is too long"),
                () => None,
            };
        }
        let out = outcome.packet()?;
        let Some(packet) = Packet::read(out, sent.offload) else {
            return Some("not well formed any more");
        };
        let came = Packet::read(&sent.bytes, sent.offload)?;
        if packet.len != came.len || packet.len != out.len() {
            return Some("not as long as it came");
        }
        let is_whole = packet.fragment.is_none() && sent.offload.checksum == Checksum::Full;
        if is_whole && sums::is_right(&sent.bytes, &came) && !sums::is_right(out, &packet) {
            return Some("a right checksum has become wrong");
        }
        if let Outcome::Fragment { mtu, .. } = outcome
            && let Some(wrong) = wrong_with_fragments(out, sent.offload, *mtu)
        {
            return Some(wrong);
        }
        match outcome {
            Outcome::Forward { node, .. } | Outcome::Fragment { node, .. } => {
                let owner = router.table.owner(packet.dst);
                let is_there = match owner {
                    Some(Owner::Namespace(row)) => router.table.instance(row).is_some_and(|instance| {
                        router.table.node(instance.node).is_some_and(|there| there.id.0 == *node && !there.is_self)
                    }),
                    _ => false,
                };
                (!is_there || router.attachments.by_instance_ip(packet.src).is_none())
                    .then_some("not from an instance IP to a namespace IP of that node")
            }
            _ => router.attachments.by_namespace_ip(packet.dst).is_none().then_some("delivered to nobody"),
        }
    }

    fn compare_counters(&self) {
        let (is, should) = (&self.system.router.counters, &self.model.counters);
        for (reason, should) in DropReason::ALL.into_iter().zip(should.drops) {
            self.expect(reason.name(), &is.drops(reason), &should);
        }
        self.expect("forwarded", &is.forwarded, &should.forwarded);
        self.expect("delivered", &is.delivered, &should.delivered);
        self.expect("replied", &is.replied, &should.replied);
        self.expect("flows_begun", &is.flows_begun, &should.flows_begun);
        self.expect("flows_evicted", &is.flows_evicted, &should.flows_evicted);
        self.expect("established_evicted", &is.established_evicted, &should.established_evicted);
        self.expect("datagrams_evicted", &is.datagrams_evicted, &should.datagrams_evicted);
        self.expect("errors_limited", &is.errors_limited, &should.errors_limited);
        self.expect("fragmented", &is.fragmented, &should.fragmented);
    }

    fn compare_flows(&self) {
        let (router, model) = (&self.system.router, &self.model);
        self.expect("the number of flows", &router.flows.len(), &model.flows.len());
        for flow in &model.flows {
            let (egress, ingress) = (real_key(&flow.egress()), real_key(&flow.ingress()));
            let by_egress = router.flows.find_egress(&egress);
            if by_egress.is_none() || by_egress != router.flows.find_ingress(&ingress) {
                self.fail(&format!("the router does not have the flow {flow:?}"));
            }
        }
        for (id, service) in &model.services {
            for (number, instance) in &service.instances {
                let row = self.system.instance(*id, *number);
                let is = row.and_then(|row| router.table.instance(row)).map(|instance| instance.flows);
                let should = model.flows.iter().filter(|flow| flow.instance == instance.token).count();
                self.expect("the flows to an instance", &is, &Some(should as u32));
            }
        }
    }

    fn expect<T: PartialEq + std::fmt::Debug>(&self, what: &str, is: &T, should: &T) {
        if is != should {
            self.fail(&format!("{what}\n  is        {is:?}\n  should be {should:?}"));
        }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("the router is not what it should be: {what}\nafter these steps:\n{}", self.tell());
    }

    /// All steps so far.
    #[cfg(test)]
    pub fn story(&self) -> &[Rc<Step>] {
        &self.story
    }

    /// What the router has counted.
    #[cfg(test)]
    pub fn counters(&self) -> &acorn_core::stats::Counters {
        &self.system.router.counters
    }

    /// All steps so far, for people.
    fn tell(&self) -> String {
        let mut text = String::new();
        for step in &self.story {
            let _ = writeln!(text, "  {step:?}");
        }
        text
    }
}

/// Whatever panics, the steps are told.
impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after these steps:\n{}", self.tell());
        }
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forward { node, len, buffer } => write!(f, "Forward to {node}, {len} bytes: {}", Hex(buffer)),
            Self::Fragment { node, len, mtu, buffer } => {
                write!(f, "Fragment to {node}, {len} bytes in {mtu}: {}", Hex(buffer))
            }
            Self::Deliver { len, buffer } => write!(f, "Deliver {len} bytes: {}", Hex(buffer)),
            Self::Reply { reason, reply } => write!(f, "Reply for {reason}: {}", Hex(reply)),
            Self::Wait { address, asker } => write!(f, "Wait for {address}, asked by {asker:?}"),
            Self::Drop(reason) => write!(f, "Drop for {reason}"),
        }
    }
}

/// What is wrong with the fragments that a packet is cut into.
fn wrong_with_fragments(packet: &[u8], offload: Offload, mtu: u16) -> Option<&'static str> {
    let mut packet = packet.to_vec();
    let view = View::parse(&packet, offload).ok()?;
    let Some(mut fragments) = OverlayMtu::new(mtu).and_then(|mtu| Fragments::new(&mut packet, &view, mtu).ok()) else {
        return Some("can't be cut");
    };
    let header = usize::from(packet[0] & 15) * 4;
    let field = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (mut payload, mut out) = (Vec::new(), [0; u16::MAX as usize]);
    let (offset, had_more) = (field(&packet, 6) & 0x1fff, field(&packet, 6) & 0x2000 != 0);
    loop {
        let Some(len) = fragments.next(&packet, &mut out) else { return Some("the last fragment is missing") };
        let fragment = &out[..len];
        let more = field(fragment, 6) & 0x2000 != 0;
        payload.extend_from_slice(&fragment[usize::from(fragment[0] & 15) * 4..]);
        let is_last = payload.len() == packet.len() - header;
        let expected = usize::from(offset) * 8 + payload.len() + usize::from(fragment[0] & 15) * 4 - len;
        match () {
            () if len > usize::from(mtu) => return Some("a fragment that is too long"),
            () if usize::from(field(fragment, 2)) != len => return Some("a fragment that says another length"),
            () if usize::from(field(fragment, 6) & 0x1fff) * 8 != expected => {
                return Some("a fragment at a wrong place");
            }
            () if more != (had_more || !is_last) => return Some("a wrong flag for more fragments"),
            () if is_last => break,
            () => {}
        }
    }
    let is_whole = payload == packet[header..] && fragments.next(&packet, &mut out).is_none();
    (!is_whole).then_some("fragments that do not make the packet")
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() == LATELY {
        list.remove(0);
    }
    list.push(item);
}

fn real_key(key: &Key) -> acorn_core::flow::FlowKey {
    let bytes = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        std::net::IpAddr::V6(v6) => v6.octets(),
    };
    acorn_core::flow::FlowKey {
        src: bytes(key.src),
        dst: bytes(key.dst),
        src_port: key.src_port,
        dst_port: key.dst_port,
        protocol: key.protocol,
    }
}
