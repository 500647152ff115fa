//! Applications: each lives in an instance, answers what comes to port 80, and says what it was told.
//!
//! Every message carries who sent it and what was dialled, so that whoever gets it can judge whether it should have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use acorn_core::InstanceId;
use acorn_core::addr::{Dual, Family};

use crate::packet::{ACK, Body, FIN, Packet, RST, SYN, Segment};

/// The port that every application answers.
pub const SERVICE_PORT: u16 = 80;
const MESSAGE_LEN: usize = 64;
const MAGIC: u32 = 0xac02_1d5e;

/// The payload of every UDP packet and TCP segment with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    /// The instance IP of who asks.
    asker: IpAddr,
    dialled: IpAddr,
    sequence: u32,
    /// Who answered; none in a question.
    answerer: InstanceId,
}

/// What an application got to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A question came.
    Asked { by: IpAddr, port: u16, sequence: u32 },
    /// An answer came, to a UDP packet or TCP segment.
    Answered { port: u16, by: InstanceId, sequence: u32 },
    /// A TCP connection is set up.
    Connected { port: u16 },
    /// A TCP connection was reset.
    Reset { port: u16, seq: u32 },
    /// The network says that a packet went nowhere.
    Unreachable { port: u16, dst: IpAddr, code: u8 },
}

/// One application in one instance.
#[derive(Clone, Debug)]
pub struct App {
    pub id: InstanceId,
    pub instance_ip: Dual,
    pub namespace_ip: Dual,
    /// All addresses under which it may be dialled.
    pub names: Vec<Dual>,
    next_port: u16,
    dialled: BTreeMap<u16, IpAddr>,
    connections: BTreeMap<u16, Connection>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    seq: u32,
    ack: u32,
}

impl App {
    pub fn new(id: InstanceId, instance_ip: Dual, namespace_ip: Dual, service_ips: &[Dual]) -> Self {
        let names = service_ips.iter().copied().chain([instance_ip]).collect();
        Self {
            id,
            instance_ip,
            namespace_ip,
            names,
            next_port: 1024,
            dialled: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// A port that was not used for long.
    pub fn new_port(&mut self) -> u16 {
        self.next_port = if self.next_port == u16::MAX { 1024 } else { self.next_port + 1 };
        self.next_port
    }

    /// A UDP question.
    pub fn ask(&mut self, port: u16, dst: IpAddr, sequence: u32) -> Vec<u8> {
        self.dialled.insert(port, dst);
        let payload = self.question(dst, sequence);
        let body = Body::Udp { src_port: port, dst_port: SERVICE_PORT, payload };
        Packet { src: self.namespace_ip.of(Family::of(dst)), dst, body }.build()
    }

    /// The first segment of a TCP connection.
    pub fn connect(&mut self, port: u16, dst: IpAddr) -> Vec<u8> {
        self.dialled.insert(port, dst);
        let seq = u32::from(port) * 1_000;
        self.connections.insert(port, Connection { seq: seq + 1, ack: 0 });
        self.segment(port, dst, seq, 0, SYN, Vec::new())
    }

    /// A question on a TCP connection.
    pub fn say(&mut self, port: u16, sequence: u32) -> Vec<u8> {
        let dst = self.dialled[&port];
        let payload = self.question(dst, sequence);
        let connection = self.connections.get_mut(&port).expect("connected");
        let seq = connection.seq;
        connection.seq += MESSAGE_LEN as u32;
        let ack = connection.ack;
        self.segment(port, dst, seq, ack, ACK, payload)
    }

    /// The end of a TCP connection.
    pub fn finish(&mut self, port: u16) -> Vec<u8> {
        let dst = self.dialled[&port];
        let connection = self.connections.get_mut(&port).expect("connected");
        let (seq, ack) = (connection.seq, connection.ack);
        connection.seq += 1;
        self.segment(port, dst, seq, ack, FIN | ACK, Vec::new())
    }

    /// The sequence number that this end of a TCP connection expects next.
    pub fn expects(&self, port: u16) -> Option<u32> {
        Some(self.connections.get(&port)?.ack)
    }

    /// Takes a packet in. Returns what it tells, and the packets that answer it.
    ///
    /// # Errors
    /// Why this packet should not have come here.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(Option<What>, Vec<Vec<u8>>), String> {
        let packet = Packet::parse(bytes)?;
        let family = Family::of(packet.dst);
        if packet.dst != self.namespace_ip.of(family) {
            return Err(format!("delivered to {}, but it is for {}", self.namespace_ip, packet.dst));
        }
        match &packet.body {
            Body::Udp { src_port, dst_port: SERVICE_PORT, payload } => {
                let question = self.check_question(&packet, payload)?;
                let what = What::Asked { by: packet.src, port: *src_port, sequence: question.sequence };
                let payload = Message { answerer: self.id, ..question }.encode();
                let body = Body::Udp { src_port: SERVICE_PORT, dst_port: *src_port, payload };
                Ok((Some(what), vec![Packet { src: packet.dst, dst: packet.src, body }.build()]))
            }
            Body::Udp { src_port: SERVICE_PORT, dst_port, payload } => {
                self.check_dialled(packet.src, *dst_port)?;
                let answer = self.check_answer(packet.src, payload)?;
                Ok((
                    Some(What::Answered { port: *dst_port, by: answer.answerer, sequence: answer.sequence }),
                    Vec::new(),
                ))
            }
            Body::Tcp(segment) if segment.dst_port == SERVICE_PORT => self.serve(&packet, segment),
            Body::Tcp(segment) if segment.src_port == SERVICE_PORT => {
                self.check_dialled(packet.src, segment.dst_port)?;
                self.follow(&packet, segment)
            }
            Body::Unreachable { code, src, dst, src_port, dst_port } => {
                let is_ours = *src == packet.dst && *dst == packet.src;
                let is_question = *dst_port == SERVICE_PORT && self.dialled.get(src_port) == Some(dst);
                // An answer to somebody who has gone meanwhile.
                let is_answer = *src_port == SERVICE_PORT;
                if !is_ours || !(is_question || is_answer) {
                    return Err(format!("an ICMP error about what was never sent: {packet:?}"));
                }
                Ok((is_question.then_some(What::Unreachable { port: *src_port, dst: *dst, code: *code }), Vec::new()))
            }
            _ => Err(format!("nobody sends that: {packet:?}")),
        }
    }

    /// The server's side of TCP: every segment is answered by what it asks for; nothing is kept.
    fn serve(&self, packet: &Packet, segment: &Segment) -> Result<(Option<What>, Vec<Vec<u8>>), String> {
        let answer = |seq, ack, flags, payload| {
            let (src_port, dst_port) = (SERVICE_PORT, segment.src_port);
            let body = Body::Tcp(Segment { src_port, dst_port, seq, ack, flags, payload });
            Packet { src: packet.dst, dst: packet.src, body }.build()
        };
        if segment.flags & RST != 0 {
            return Ok((None, Vec::new()));
        }
        if segment.flags & SYN != 0 {
            return Ok((None, vec![answer(7_000, segment.seq + 1, SYN | ACK, Vec::new())]));
        }
        if segment.flags & FIN != 0 {
            return Ok((None, vec![answer(segment.ack, segment.seq + 1, FIN | ACK, Vec::new())]));
        }
        if segment.payload.is_empty() {
            return Ok((None, Vec::new()));
        }
        let question = self.check_question(packet, &segment.payload)?;
        let what = What::Asked { by: packet.src, port: segment.src_port, sequence: question.sequence };
        let payload = Message { answerer: self.id, ..question }.encode();
        Ok((Some(what), vec![answer(segment.ack, segment.seq + MESSAGE_LEN as u32, ACK, payload)]))
    }

    /// The client's side of TCP.
    fn follow(&mut self, packet: &Packet, segment: &Segment) -> Result<(Option<What>, Vec<Vec<u8>>), String> {
        let port = segment.dst_port;
        if segment.flags & RST != 0 {
            return Ok((Some(What::Reset { port, seq: segment.seq }), Vec::new()));
        }
        let Some(connection) = self.connections.get_mut(&port) else {
            return Err(format!("a segment of no connection: {packet:?}"));
        };
        let taken = segment.payload.len() as u32 + u32::from(segment.flags & (SYN | FIN) != 0);
        connection.ack = segment.seq.wrapping_add(taken);
        let (seq, ack) = (connection.seq, connection.ack);
        let acknowledge = self.segment(port, packet.src, seq, ack, ACK, Vec::new());
        if segment.flags & SYN != 0 {
            return Ok((Some(What::Connected { port }), vec![acknowledge]));
        }
        if segment.payload.is_empty() {
            return Ok((None, Vec::new()));
        }
        let answer = self.check_answer(packet.src, &segment.payload)?;
        Ok((Some(What::Answered { port, by: answer.answerer, sequence: answer.sequence }), vec![acknowledge]))
    }

    fn segment(&self, port: u16, dst: IpAddr, seq: u32, ack: u32, flags: u8, payload: Vec<u8>) -> Vec<u8> {
        let body = Body::Tcp(Segment { src_port: port, dst_port: SERVICE_PORT, seq, ack, flags, payload });
        Packet { src: self.namespace_ip.of(Family::of(dst)), dst, body }.build()
    }

    fn question(&self, dialled: IpAddr, sequence: u32) -> Vec<u8> {
        let asker = self.instance_ip.of(Family::of(dialled));
        Message { asker, dialled, sequence, answerer: InstanceId::NONE }.encode()
    }

    fn check_question(&self, packet: &Packet, payload: &[u8]) -> Result<Message, String> {
        let question = Message::decode(payload)?;
        if question.asker != packet.src {
            return Err(format!("{} asked, but the packet says {}", question.asker, packet.src));
        }
        if !self.names.iter().any(|name| name.contains(question.dialled)) {
            return Err(format!("{} was dialled, but {:?} got it", question.dialled, self.id));
        }
        Ok(question)
    }

    fn check_dialled(&self, src: IpAddr, port: u16) -> Result<(), String> {
        match self.dialled.get(&port) {
            Some(dialled) if *dialled == src => Ok(()),
            dialled => Err(format!("port {port} dialled {dialled:?}, but {src} answers")),
        }
    }

    fn check_answer(&self, src: IpAddr, payload: &[u8]) -> Result<Message, String> {
        let answer = Message::decode(payload)?;
        if answer.dialled != src || answer.asker != self.instance_ip.of(Family::of(src)) {
            return Err(format!("an answer from {src} to {} that is another's: {answer:?}", self.instance_ip));
        }
        Ok(answer)
    }
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_be_bytes().to_vec();
        for address in [self.asker, self.dialled] {
            bytes.extend(match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            });
        }
        bytes.extend([self.sequence, self.answerer.service.0, self.answerer.number].map(u32::to_be_bytes).concat());
        bytes.resize(MESSAGE_LEN, 0x5a);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let address =
            |at: usize| std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap()).to_canonical();
        if bytes.len() != MESSAGE_LEN || word(0) != MAGIC || bytes[48..].iter().any(|byte| *byte != 0x5a) {
            return Err(format!("a payload that nobody sent: {bytes:02x?}"));
        }
        let answerer = InstanceId { service: acorn_core::ServiceId(word(40)), number: word(44) };
        Ok(Self { asker: address(4), dialled: address(20), sequence: word(36), answerer })
    }
}
