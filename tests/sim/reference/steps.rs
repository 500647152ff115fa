//! What can happen in a run, and how the bytes of chance choose it.

use std::fmt;
use std::net::IpAddr;

use acorn_core::addr::Dual;

use super::build::{self, Ends, Envelope, Payload, Sent};
use super::chance::Chance;
use super::model::{ATTACHMENTS, Model, SELF};
use super::wire::{ACK, FIN, ICMP, ICMPV6, Packet, RST, SYN, TCP, UDP};
use super::world::{self, NODES, NUMBERS, SERVICES};

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// So many milliseconds pass.
    Wait(u64),
    Outbound(Sent),
    /// From a node.
    Inbound(u32, Sent),
    Service(u32, Vec<Dual>),
    Complete(u32, bool),
    RemoveService(u32),
    Put(Placed),
    Withdraw(u32, u32),
    Avoid(u32, bool),
    Attach((u32, u32), Dual, Dual),
    Detach((u32, u32)),
    Sweep,
    Expire,
    OwnMtu(u16),
    PathMtu(u32, u16),
}

/// An instance as the table has it from now on.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub service: u32,
    pub number: u32,
    pub node: u32,
    pub instance_ip: Dual,
    pub namespace_ip: Dual,
    pub alive: bool,
    pub draining: bool,
}

impl Placed {
    /// A living instance at its usual addresses.
    pub fn usual(service: u32, number: u32, node: u32) -> Self {
        Self {
            service,
            number,
            node,
            instance_ip: world::instance_ip(service, number, false),
            namespace_ip: world::namespace_ip(node, service, number, false),
            alive: true,
            draining: false,
        }
    }
}

/// What went through lately, for answers to it and errors about it.
#[derive(Default)]
pub struct Lately {
    /// Packets that went on, and the node that they went to; 1 for those that were delivered.
    pub out: Vec<(u32, Vec<u8>)>,
    /// First fragments as they came, and the node that they came from; 0 for the local side.
    pub fragments: Vec<(u32, Vec<u8>)>,
}

/// How the network is in the beginning: two clients here, and services whose instances are anywhere.
pub fn beginning(chance: &mut Chance) -> Vec<Step> {
    let [first, second, third] = [chance.byte(), chance.byte(), chance.byte()];
    let mut steps = Vec::new();
    let place = |bits: u8| [2, 3, 1, 2][usize::from(bits & 3)];
    steps.push(Step::Service(1, world::service_ips(1)[..1 + usize::from(first >> 7)].to_vec()));
    for number in 0..1 + u32::from(first & 3) {
        steps.push(Step::Put(Placed::usual(1, number, place(second >> (2 * number)))));
    }
    steps.push(Step::Service(2, world::service_ips(2)[..1].to_vec()));
    for number in 0..u32::from(first >> 2 & 3) {
        steps.push(Step::Put(Placed::usual(2, number, place(third >> (2 * number)))));
    }
    steps.push(Step::Service(world::CLIENTS, Vec::new()));
    for number in 0..2 {
        steps.push(Step::Put(Placed::usual(world::CLIENTS, number, SELF)));
    }
    steps.push(Step::Complete(1, true));
    steps.push(Step::Complete(2, third & 0x40 == 0));
    let here = steps.iter().filter_map(|step| match step {
        Step::Put(placed) if placed.node == SELF => {
            Some(Step::Attach((placed.service, placed.number), placed.instance_ip, placed.namespace_ip))
        }
        _ => None,
    });
    // The clients came last.
    let here: Vec<_> = here.collect();
    steps.extend(here.into_iter().rev().take(ATTACHMENTS));
    steps
}

/// The next step.
pub fn next(chance: &mut Chance, model: &Model, lately: &Lately) -> Step {
    match chance.byte() % 40 {
        0..=6 => outbound(chance, model),
        7..=12 => inbound(chance, model),
        13..=19 => in_flow(chance, model),
        20 | 21 => again(chance, lately),
        22..=24 => error(chance, model, lately),
        25..=28 => following_fragment(chance, lately),
        29 => raw(chance),
        30 | 31 => wait(chance),
        32 | 33 => put(chance, model),
        34 => service(chance),
        35 => attachment(chance, model),
        36 => Step::Sweep,
        37 => Step::Expire,
        38 => Step::Avoid(chance.pick(&[2, 3, 1]), chance.byte() & 1 == 0),
        _ => mtu(chance),
    }
}

fn wait(chance: &mut Chance) -> Step {
    let byte = chance.byte();
    if byte >= 128 {
        return Step::Wait(u64::from(byte - 127));
    }
    const EDGES: [u64; 10] = [10_000, 30_000, 60_000, 300_000, 600_000, 7_440_000, 10_800_000, 1_000, 20_000, 5_000];
    let edge = EDGES[usize::from(byte >> 2) % EDGES.len()];
    Step::Wait(edge + u64::from(byte & 3) - 1)
}

fn mtu(chance: &mut Chance) -> Step {
    let mtu = chance.pick(&[1280, 1281, 1300, 1400, 1440, 1408, 1441, 9000, 65_535, 1499]);
    match chance.byte() {
        0..=99 => Step::PathMtu(2, mtu),
        100..=199 => Step::PathMtu(3, mtu),
        _ => Step::OwnMtu(mtu),
    }
}

fn put(chance: &mut Chance, model: &Model) -> Step {
    let (how, which) = (chance.byte(), chance.byte());
    let service = SERVICES[usize::from(which) % 3];
    let number = u32::from(which >> 2) % NUMBERS;
    let known = model.services.get(&service).and_then(|service| service.instances.get(&number));
    if how >= 224 {
        return Step::Withdraw(service, number);
    }
    let node = match known {
        Some(known) if how & 3 != 0 => known.node,
        _ => NODES[usize::from(how >> 2) % 3],
    };
    let usual = Placed::usual(service, number, node);
    Step::Put(Placed {
        instance_ip: world::instance_ip(service, number, how & 0x30 == 0x30),
        namespace_ip: world::namespace_ip(node, service, number, how & 0x48 == 0x48),
        alive: which & 0x40 == 0,
        draining: which & 0xc0 == 0x80,
        ..usual
    })
}

fn service(chance: &mut Chance) -> Step {
    let how = chance.byte();
    let id = SERVICES[usize::from(how >> 4) % 2];
    match how & 7 {
        0 => Step::RemoveService(id),
        1 => Step::Complete(id, false),
        2 | 3 => Step::Complete(id, true),
        4 => Step::Service(id, world::service_ips(id).into_iter().rev().collect()),
        count => Step::Service(id, world::service_ips(id)[..usize::from(count) - 5].to_vec()),
    }
}

fn attachment(chance: &mut Chance, model: &Model) -> Step {
    let (how, which) = (chance.byte(), chance.byte());
    if how & 3 == 0
        && let Some(attachment) = model.attachments.get(usize::from(which) % model.attachments.len().max(1))
    {
        return Step::Detach(attachment.id);
    }
    let (service, number) = (SERVICES[usize::from(which) % 3], u32::from(which >> 2) % NUMBERS);
    let id = (service, number);
    let is_new = !model.attachments.iter().any(|attachment| attachment.id == id);
    if is_new && model.attachments.len() == ATTACHMENTS {
        return Step::Detach(model.attachments[0].id);
    }
    let is_other = |bit: u8| how & bit == bit;
    Step::Attach(
        id,
        world::instance_ip(service, number, is_other(0x18)),
        world::namespace_ip(SELF, service, number, is_other(0x60)),
    )
}

fn outbound(chance: &mut Chance, model: &Model) -> Step {
    let (ends, kind) = (chance.byte(), chance.byte());
    let v6 = kind & 0x80 != 0;
    let src = match ends >> 5 {
        7 => any_address(chance, model, v6),
        n => nth(model.attachments.iter().map(|attachment| attachment.namespace_ip), n.into(), v6),
    };
    let dst = match ends & 0x1f {
        n @ 0..=13 => {
            let ips = model.services.values().flat_map(|service| service.ips.iter().map(|(ip, _)| *ip));
            nth(ips, n.into(), v6)
        }
        n @ 14..=27 => nth(instances(model).map(|(_, _, ip, _)| ip), usize::from(n) - 14, v6),
        _ => any_address(chance, model, v6),
    };
    Step::Outbound(anything(chance, kind, src, dst))
}

fn inbound(chance: &mut Chance, model: &Model) -> Step {
    let (ends, kind) = (chance.byte(), chance.byte());
    let v6 = kind & 0x80 != 0;
    let mut peer = [2, 3, 2, 1][usize::from(ends >> 6)];
    let src = match ends >> 2 & 0xf {
        15 => any_address(chance, model, v6),
        n => {
            let of_peer = instances(model).filter(|(node, ..)| *node == peer).map(|(_, _, ip, _)| ip);
            nth(of_peer, n.into(), v6)
        }
    };
    if kind & 0x60 == 0x60 {
        peer = chance.pick(&NODES);
    }
    let dst = match ends & 3 {
        3 => {
            let which = chance.byte();
            match which & 3 {
                0 | 1 => {
                    let ips = model.attachments.iter().map(|attachment| attachment.instance_ip);
                    nth(ips, usize::from(which >> 2), v6)
                }
                2 => nth(model.attachments.iter().map(|a| a.namespace_ip), usize::from(which >> 2), v6),
                _ => any_address(chance, model, v6),
            }
        }
        n => nth(model.attachments.iter().map(|attachment| attachment.namespace_ip), n.into(), v6),
    };
    Step::Inbound(peer, anything(chance, kind, src, dst))
}

/// A packet of a flow that is there, from either side.
fn in_flow(chance: &mut Chance, model: &Model) -> Step {
    let (which, kind) = (chance.byte(), chance.byte());
    let Some(flow) = model.flows.get(usize::from(which & 0x3f) % model.flows.len().max(1)) else {
        return outbound(chance, model);
    };
    let is_local = which & 0x40 == 0;
    let key = if is_local { flow.egress() } else { flow.ingress() };
    let ends = Ends { src: key.src, dst: key.dst, src_port: key.src_port, dst_port: key.dst_port };
    let kind = match flow.protocol {
        TCP => kind % 5,
        UDP => 5 + kind % 3,
        ICMP | ICMPV6 if key.dst_port == 0 => 8,
        ICMP | ICMPV6 => 9,
        _ => 16,
    };
    let peer = if which & 0x80 == 0 { flow.node } else { chance.pick(&NODES) };
    let sent = filled(chance, kind, &ends, Some(flow.protocol));
    if is_local { Step::Outbound(sent) } else { Step::Inbound(peer, sent) }
}

/// What went out comes in, or the other way round, as it is.
fn again(chance: &mut Chance, lately: &Lately) -> Step {
    let how = chance.byte();
    let (node, bytes) = match lately.out.get(usize::from(how & 7) % lately.out.len().max(1)) {
        Some(out) => out.clone(),
        None => return Step::Sweep,
    };
    let sent = build::spoil(chance, how >> 5, bytes);
    if how & 8 == 0 { Step::Outbound(sent) } else { Step::Inbound(node, sent) }
}

/// An ICMP error about something that went through.
fn error(chance: &mut Chance, model: &Model, lately: &Lately) -> Step {
    let (which, how, cut) = (chance.byte(), chance.byte(), chance.byte());
    let at = usize::from(which & 7) % lately.out.len().max(1);
    let Some((node, about)) = lately.out.get(lately.out.len().wrapping_sub(1 + at)) else {
        return inbound(chance, model);
    };
    let Some(quoted) = Packet::read(about, Default::default()) else {
        return Step::Sweep;
    };
    let v6 = quoted.v6;
    let mut quote = about.clone();
    match cut {
        0..=127 => {}
        128..=191 => quote.truncate(quoted.body_at + usize::from(cut - 128)),
        192..=239 => quote.truncate(usize::from(cut - 192)),
        _ => {
            let (at, with) = (usize::from(chance.byte()), chance.byte());
            if let Some(byte) = quote.get_mut(at) {
                *byte ^= with;
            }
        }
    }
    let kinds: &[u8] = if v6 { &[1, 2, 3, 4, 1, 1, 100, 135] } else { &[3, 11, 12, 3, 3, 4, 5, 13] };
    let kind = kinds[usize::from(how & 7)];
    let detail = match how & 0x88 {
        0 => 0,
        8 => 1280,
        // As long as it is, or so, when extensions follow.
        0x80 if v6 => u32::from(cut & 0x1f) << 24,
        0x80 => u32::from(cut & 0x3f) << 16,
        _ => 0x0102_0304,
    };
    let was_delivered = *node == SELF && which & 0x80 == 0;
    let (src, dst) = if was_delivered {
        (quoted.dst, quoted.src)
    } else {
        let there = instances(model).find(|(_, _, _, ip)| ip.contains(quoted.dst)).map(|(_, _, ip, _)| ip);
        let here = model.attachments.iter().find(|attachment| attachment.instance_ip.contains(quoted.src));
        let src = there.map_or(quoted.dst, |ip| world::of(ip, v6));
        (src, here.map_or(quoted.src, |attachment| world::of(attachment.namespace_ip, v6)))
    };
    let src = if how & 0x30 == 0x30 { any_address(chance, model, v6) } else { src };
    let dst = if how & 0xc0 == 0xc0 { any_address(chance, model, v6) } else { dst };
    let ends = Ends { src, dst, src_port: 0, dst_port: 0 };
    let payload = build::message(v6, kind, how >> 4, detail, &quote);
    let modifiers = if which & 8 == 0 { 0 } else { chance.byte() };
    let envelope = envelope(chance, modifiers);
    let sent = build::spoil(chance, modifiers >> 5, build::packet(&ends, &envelope, &payload));
    let peer = if which & 0x10 == 0 { *node } else { chance.pick(&NODES) };
    if was_delivered { Step::Outbound(sent) } else { Step::Inbound(peer, sent) }
}

/// A fragment of a datagram whose first one was sent.
fn following_fragment(chance: &mut Chance, lately: &Lately) -> Step {
    let (which, place, len) = (chance.byte(), chance.byte(), chance.byte());
    let at = usize::from(which & 3) % lately.fragments.len().max(1);
    let Some((from, first)) = lately.fragments.get(lately.fragments.len().wrapping_sub(1 + at)) else {
        return Step::Expire;
    };
    let Some(packet) = Packet::read(first, Default::default()) else {
        return Step::Expire;
    };
    let Some(fragment) = packet.fragment else {
        return Step::Expire;
    };
    // In units of 8 bytes, mostly where the first one ends.
    let offset = (fragment.to / 8) as u16 + u16::from(place & 0x3f);
    let offset = if place & 0xc0 == 0xc0 { u16::from(place & 0x1f) } else { offset };
    let more = which & 4 == 0;
    let bytes = match len {
        0..=63 => usize::from(len) * 8,
        64..=127 => usize::from(len - 64),
        128..=191 => 1_200 + usize::from(len - 128) * 8,
        _ => 8,
    };
    let envelope = Envelope {
        dont_fragment: which & 8 != 0,
        fragment: Some((fragment.id, offset, more)),
        is_uneven: which & 0x30 == 0x30,
        ..Envelope::default()
    };
    let ends = Ends { src: packet.src, dst: packet.dst, src_port: 0, dst_port: 0 };
    let bytes = build::packet(&ends, &envelope, &build::other(packet.protocol, bytes));
    let sent = if which & 0x80 == 0 { Sent::from(bytes) } else { build::spoil(chance, which >> 4, bytes) };
    match *from {
        0 => Step::Outbound(sent),
        peer => Step::Inbound(peer, sent),
    }
}

fn raw(chance: &mut Chance) -> Step {
    let how = chance.byte();
    let sent = Sent::from(chance.take(usize::from(how >> 1)).to_vec());
    if how & 1 == 0 { Step::Outbound(sent) } else { Step::Inbound(chance.pick(&NODES), sent) }
}

fn anything(chance: &mut Chance, kind: u8, src: IpAddr, dst: IpAddr) -> Sent {
    let ports = chance.byte();
    let src_port = [1000, 1001, 0, 65_535][usize::from(ports & 3)];
    let dst_port = [80, 80, 81, 0][usize::from(ports >> 2 & 3)];
    // An answer comes from where the question went.
    let (src_port, dst_port) = if ports & 0x80 == 0 { (src_port, dst_port) } else { (dst_port, src_port) };
    filled(chance, kind & 0x1f, &Ends { src, dst, src_port, dst_port }, None)
}

/// A packet with a payload of a kind, and everything around it that chance wants.
fn filled(chance: &mut Chance, kind: u8, ends: &Ends, protocol: Option<u8>) -> Sent {
    let modifiers = chance.byte();
    let v6 = ends.src.is_ipv6();
    let size = if modifiers & 1 == 0 { 8 } else { size(chance) };
    let payload = match kind % 20 {
        0..=4 => segment(chance, modifiers, ends, size),
        5 | 6 => build::udp(ends, size),
        7 => return without_checksum(chance, modifiers, ends, size),
        8 => build::echo(ends, true, size),
        9 => build::echo(ends, false, size),
        10 => build::other(132, size),
        11 => build::other(47, size),
        12 => {
            let kind = chance.byte();
            build::message(v6, kind, 0, 0, &[0; 8])
        }
        13 => {
            let number = chance.byte();
            build::other(number, size)
        }
        14 => build::other(ICMP, size + 8),
        15 => build::other(ICMPV6, size + 8),
        16 => build::other(protocol.unwrap_or(50), size),
        _ => segment(chance, modifiers, ends, size),
    };
    let envelope = envelope(chance, modifiers);
    build::spoil(chance, modifiers >> 5, build::packet(ends, &envelope, &payload))
}

fn without_checksum(chance: &mut Chance, modifiers: u8, ends: &Ends, size: usize) -> Sent {
    let payload = build::udp(ends, size);
    let mut bytes = build::packet(ends, &envelope(chance, modifiers), &payload);
    if let Some(at) = Packet::read(&bytes, Default::default()).and_then(|packet| packet.checksum_at()) {
        bytes[at..at + 2].fill(0);
    }
    build::spoil(chance, modifiers >> 5, bytes)
}

fn segment(chance: &mut Chance, modifiers: u8, ends: &Ends, size: usize) -> Payload {
    const FLAGS: [u8; 16] = [
        SYN,
        SYN | ACK,
        ACK,
        ACK,
        FIN | ACK,
        FIN | ACK,
        RST,
        RST | ACK,
        SYN,
        ACK | 8,
        FIN,
        0,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | RST | ACK,
        0xc2,
    ];
    let how = chance.byte();
    let flags = FLAGS[usize::from(how & 0xf)];
    let seq = u32::from(how).wrapping_mul(0x1234_5677);
    let ack = if how & 0x80 == 0 { u32::from(how) + 1 } else { seq.wrapping_neg() };
    let options = if modifiers & 8 == 0 { Vec::new() } else { options(chance) };
    build::tcp(ends, flags, seq, ack, &options, size)
}

/// TCP options, an MSS among them, at any offset.
fn options(chance: &mut Chance) -> Vec<u8> {
    let how = chance.byte();
    let mss = [0, 536, 1220, 1221, 1239, 1240, 1241, 1260, 1380, 1400, 1401, 1440, 1460, 8960, 65_495, 65_535]
        [usize::from(how & 0xf)];
    let mut options: Vec<u8> = match how >> 4 & 3 {
        0 => vec![],
        1 => vec![1],
        2 => vec![4, 2],
        _ => vec![3, 3, 7],
    };
    options.extend([2, 4]);
    options.extend(u16::to_be_bytes(mss));
    match how >> 6 {
        0 => {}
        1 => options.extend([2, 4, 0xff, 0xff]),
        2 => options.extend(chance.take(12)),
        _ => {
            options.insert(0, 0);
        }
    }
    options.truncate(40);
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// How much is carried: little, or about as much as fits.
fn size(chance: &mut Chance) -> usize {
    match chance.byte() {
        n @ 0..=169 => usize::from(n),
        n @ 170..=209 => 1_200 + usize::from(n - 170) * 2,
        n @ 210..=249 => 1_370 + usize::from(n - 210) * 2,
        n => [1_500, 3_000, 4_000, 8_192, 9_000, 0][usize::from(n - 250)],
    }
}

fn envelope(chance: &mut Chance, modifiers: u8) -> Envelope {
    let mut envelope = Envelope::default();
    if modifiers & 2 != 0 {
        let how = chance.byte();
        let offset = if how & 0xe0 == 0xe0 { chance.byte().into() } else { 0 };
        envelope.fragment = Some((u32::from(how & 3), offset, how & 0x1c != 0));
        envelope.is_uneven = how & 0x1c == 0x1c;
    }
    if modifiers & 4 != 0 {
        let how = chance.byte();
        envelope.v4_options = usize::from(how >> 4) % 11 * 4;
        envelope.v6_headers = match how & 0xf {
            0 => vec![0],
            1 => vec![60],
            2 => vec![43],
            3 => vec![0, 60, 43, 60],
            4 => vec![44, 60],
            5 => vec![60, 44, 60],
            6 => vec![44, 44],
            7 => vec![60, 0],
            8 => vec![60; 8],
            9 => vec![60; 9],
            10 => vec![0, 44],
            11 => vec![44],
            n => vec![60; usize::from(n) - 10],
        };
    }
    if modifiers & 16 != 0 {
        envelope.dont_fragment = true;
    }
    envelope
}

/// Node, service, instance IP and namespace IP of all instances.
fn instances(model: &Model) -> impl Iterator<Item = (u32, u32, Dual, Dual)> + Clone + '_ {
    model.services.iter().flat_map(|(id, service)| {
        service.instances.values().map(|instance| (instance.node, *id, instance.instance_ip, instance.namespace_ip))
    })
}

fn any_address(chance: &mut Chance, model: &Model, v6: bool) -> IpAddr {
    let which = chance.byte();
    let n = usize::from(which >> 2);
    match which & 3 {
        0 => nth(instances(model).map(|(_, _, ip, _)| ip), n, v6),
        1 => nth(instances(model).map(|(_, _, _, ip)| ip), n, v6),
        _ => world::strange(v6, which >> 1),
    }
}

fn nth(mut pairs: impl Iterator<Item = Dual> + Clone, n: usize, v6: bool) -> IpAddr {
    match pairs.clone().count() {
        0 => world::strange(v6, n as u8),
        count => pairs.nth(n % count).map_or(world::strange(v6, 0), |pair| world::of(pair, v6)),
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Packet::read(&self.bytes, self.offload) {
            Some(packet) => {
                write!(f, "{} -> {} protocol {} ", packet.src, packet.dst, packet.protocol)?;
                write!(f, "{:?} {} bytes", packet.body, packet.len)?;
                if let Some(fragment) = packet.fragment {
                    write!(f, " {fragment:?}")?;
                }
                if packet.dont_fragment && !packet.v6 {
                    write!(f, " DF")?;
                }
            }
            None => write!(f, "not well formed, {} bytes", self.bytes.len())?,
        }
        if self.offload != Default::default() {
            write!(f, " {:?}", self.offload)?;
        }
        write!(f, " [{}]", Hex(&self.bytes))
    }
}

/// Bytes as they are shown; long ones are cut.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().take(160).enumerate() {
            write!(f, "{}{byte:02x}", if at > 0 && at % 4 == 0 { " " } else { "" })?;
        }
        if self.0.len() > 160 { write!(f, " ... {} bytes", self.0.len()) } else { Ok(()) }
    }
}
