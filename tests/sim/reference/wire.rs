//! A packet as its bytes say, read one offset at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acorn_core::packet::{Checksum, Offload};

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// A well-formed packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub v6: bool,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    /// Where the transport header begins; in a fragment behind the first, what it carries.
    pub body_at: usize,
    /// How long it says it is.
    pub len: usize,
    pub fragment: Option<Fragment>,
    pub dont_fragment: bool,
    pub body: Body,
}

/// Which bytes of a datagram's payload a fragment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub id: u32,
    pub from: usize,
    pub to: usize,
    pub more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Tcp {
        ports: (u16, u16),
        seq: u32,
        ack: u32,
        flags: u8,
        header: usize,
    },
    Udp {
        ports: (u16, u16),
    },
    EchoRequest {
        ident: u16,
    },
    EchoReply {
        ident: u16,
    },
    /// Any other message of ICMP.
    Message {
        kind: u8,
    },
    /// A protocol that is not looked into.
    Other,
    /// A fragment behind the first.
    Behind,
}

impl Packet {
    /// Reads the packet at the start of these bytes; nothing when it is not well formed.
    pub fn read(bytes: &[u8], offload: Offload) -> Option<Self> {
        let packet = match bytes.first()? >> 4 {
            4 => read_v4(bytes)?,
            6 => read_v6(bytes)?,
            _ => return None,
        };
        packet.fits(offload).then_some(packet)
    }

    /// The ports by which it finds its flow.
    pub fn ports(&self) -> (u16, u16) {
        match self.body {
            Body::Tcp { ports, .. } | Body::Udp { ports } => ports,
            Body::EchoRequest { ident } => (ident, 0),
            Body::EchoReply { ident } => (0, ident),
            _ => (0, 0),
        }
    }

    pub fn tcp_flags(&self) -> u8 {
        match self.body {
            Body::Tcp { flags, .. } => flags,
            _ => 0,
        }
    }

    pub fn is_tcp(&self) -> bool {
        matches!(self.body, Body::Tcp { .. })
    }

    /// A SYN without ACK.
    pub fn is_first_syn(&self) -> bool {
        self.tcp_flags() & (SYN | ACK) == SYN
    }

    /// Whether its protocol can be translated. Behind the first fragment of an IPv6 packet none is told.
    pub fn may_be_translated(&self) -> bool {
        (self.v6 && self.body == Body::Behind) || is_translatable(self.v6, self.protocol)
    }

    /// Where its checksum lies that covers the addresses.
    pub fn checksum_at(&self) -> Option<usize> {
        if self.body == Body::Behind { None } else { Some(self.body_at + covering_checksum(self.v6, self.protocol)?) }
    }

    /// Whether what was left for the network card to do fits the packet.
    fn fits(&self, offload: Offload) -> bool {
        if offload != Offload::NONE && self.fragment.is_some() {
            return false;
        }
        let Checksum::Partial { start, offset } = offload.checksum else {
            return true;
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        let is_at_its_place = match covering_checksum(self.v6, self.protocol) {
            Some(place) => self.body != Body::Behind && start == self.body_at && offset == place,
            None => true,
        };
        is_at_its_place && start + offset + 2 <= self.len
    }
}

/// Where in the transport header a checksum lies that covers the addresses.
pub fn covering_checksum(v6: bool, protocol: u8) -> Option<usize> {
    match (protocol, v6) {
        (TCP, _) => Some(16),
        (UDP, _) => Some(6),
        (ICMPV6, true) => Some(2),
        _ => None,
    }
}

/// Whether a translation leaves nothing wrong that the protocol says of addresses.
pub fn is_translatable(v6: bool, protocol: u8) -> bool {
    match protocol {
        ICMP => !v6,
        ICMPV6 => v6,
        // SCTP, GRE, ESP, IPv4 and IPv6 encapsulation, L2TPv3, EtherIP, MPLS in IP.
        TCP | UDP | 132 | 47 | 50 | 4 | 41 | 115 | 97 | 137 => true,
        _ => false,
    }
}

pub fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

pub fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from(word(bytes, at)?) << 16 | u32::from(word(bytes, at + 2)?))
}

/// The IPv4 or IPv6 address at an offset.
pub fn address(bytes: &[u8], at: usize, v6: bool) -> Option<IpAddr> {
    if v6 {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    } else {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    }
}

fn read_v4(bytes: &[u8]) -> Option<Packet> {
    if bytes.len() < 20 {
        return None;
    }
    let header = usize::from(bytes[0] & 15) * 4;
    let len = usize::from(word(bytes, 2)?);
    if header < 20 || len < header || bytes.len() < len || has_source_route(&bytes[20..header]) {
        return None;
    }
    let flags = word(bytes, 6)?;
    let more = flags & 0x2000 != 0;
    let from = usize::from(flags & 0x1fff) * 8;
    let id = u32::from(word(bytes, 4)?);
    let fragment = fragment(id, from, len - header, more, header)?;
    let protocol = bytes[9];
    Some(Packet {
        v6: false,
        src: address(bytes, 12, false)?,
        dst: address(bytes, 16, false)?,
        protocol,
        body_at: header,
        len,
        fragment,
        dont_fragment: flags & 0x4000 != 0,
        body: read_body(&bytes[header..len], false, protocol, fragment)?,
    })
}

/// Whether IPv4 options have a source route in front of what can't be read any more.
fn has_source_route(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return false,
            1 => at += 1,
            131 | 137 => return true,
            _ => match options.get(at + 1) {
                Some(len) if *len >= 2 => at += usize::from(*len),
                _ => return false,
            },
        }
    }
    false
}

fn read_v6(bytes: &[u8]) -> Option<Packet> {
    if bytes.len() < 40 {
        return None;
    }
    let len = 40 + usize::from(word(bytes, 4)?);
    let bytes = bytes.get(..len)?;
    let (mut protocol, mut at, mut headers) = (bytes[6], 40, 0);
    let (mut place, mut has_fragment_header) = (None, false);
    while matches!(protocol, 0 | 43 | 44 | 60) {
        if headers == 8 || at + 8 > len || (protocol == 0 && headers > 0) {
            return None;
        }
        let next = bytes[at];
        if protocol == 44 {
            if has_fragment_header {
                return None;
            }
            has_fragment_header = true;
            let fields = word(bytes, at + 2)?;
            place = fragment(long(bytes, at + 4)?, usize::from(fields & 0xfff8), len - at - 8, fields & 1 == 1, 0)?;
            at += 8;
        } else {
            if protocol == 43 && bytes[at + 3] != 0 {
                return None;
            }
            at += (usize::from(bytes[at + 1]) + 1) * 8;
            if at > len {
                return None;
            }
        }
        protocol = next;
        headers += 1;
        if place.is_some_and(|place: Fragment| place.from > 0) {
            break;
        }
    }
    Some(Packet {
        v6: true,
        src: address(bytes, 8, true)?,
        dst: address(bytes, 24, true)?,
        protocol,
        body_at: at,
        len,
        fragment: place,
        dont_fragment: true,
        body: read_body(&bytes[at..], true, protocol, place)?,
    })
}

/// The place of a fragment in its datagram: `Some(None)` when the packet is the whole of it. `header` counts toward the longest
/// datagram.
#[expect(clippy::option_option, reason = "not well formed, or well formed and not a fragment")]
fn fragment(id: u32, from: usize, len: usize, more: bool, header: usize) -> Option<Option<Fragment>> {
    if from == 0 && !more {
        return Some(None);
    }
    let to = from + len;
    if to + header > 65_535 || (more && (len == 0 || !len.is_multiple_of(8))) {
        return None;
    }
    Some(Some(Fragment { id, from, to, more }))
}

fn read_body(body: &[u8], v6: bool, protocol: u8, fragment: Option<Fragment>) -> Option<Body> {
    if fragment.is_some_and(|fragment| fragment.from > 0) {
        return Some(Body::Behind);
    }
    match (protocol, v6) {
        (TCP, _) => {
            if body.len() < 20 {
                return None;
            }
            let header = usize::from(body[12] >> 4) * 4;
            if header < 20 || header > body.len() {
                return None;
            }
            Some(Body::Tcp {
                ports: (word(body, 0)?, word(body, 2)?),
                seq: long(body, 4)?,
                ack: long(body, 8)?,
                flags: body[13],
                header,
            })
        }
        (UDP, _) => {
            if body.len() < 8 {
                return None;
            }
            let len = usize::from(word(body, 4)?);
            // The length is that of the whole datagram.
            if len < 8 || (len > body.len() && fragment.is_none()) {
                return None;
            }
            Some(Body::Udp { ports: (word(body, 0)?, word(body, 2)?) })
        }
        (ICMP, false) | (ICMPV6, true) => {
            if body.len() < 8 {
                return None;
            }
            let ident = word(body, 4)?;
            Some(match (body[0], v6) {
                (8, false) | (128, true) => Body::EchoRequest { ident },
                (0, false) | (129, true) => Body::EchoReply { ident },
                (kind, _) => Body::Message { kind },
            })
        }
        _ => Some(Body::Other),
    }
}

/// The packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug)]
pub struct Quote {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub protocol: u8,
    pub ports: (u16, u16),
    /// Where it begins in the error's packet.
    pub at: usize,
    /// Where its transport header begins in the error's packet.
    pub body_at: usize,
    /// Where it ends in the error's packet: what is behind it are extensions.
    pub end: usize,
}

/// Why a quote can't be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoQuote {
    /// It is cut off before its ports, or is not IP.
    Malformed,
    /// It has no ports.
    WithoutPorts,
}

/// The headers of a quoted packet.
struct QuotedHeaders {
    protocol: u8,
    body_at: usize,
    /// How long the whole packet said it was, from its first byte.
    len: usize,
    is_behind: bool,
}

impl Quote {
    /// Reads what an ICMP error quotes.
    pub fn read(bytes: &[u8], error: &Packet) -> Result<Self, NoQuote> {
        let at = error.body_at + 8;
        // Extensions behind the quote make its length known, in units of 4 or 8 bytes and never less than 128 (RFC 4884).
        let len = match (error.v6, bytes[error.body_at]) {
            (false, _) => usize::from(bytes[at - 3]) * 4,
            (true, 1 | 3) => usize::from(bytes[at - 4]) * 8,
            (true, _) => 0,
        };
        let end = if len >= 128 { error.len.min(at + len) } else { error.len };
        let bytes = &bytes[..end];
        let find = if error.v6 { find_v6 } else { find_v4 };
        let headers = find(bytes, at).ok_or(NoQuote::Malformed)?;
        // Every quote has the first 8 bytes of its transport (RFC 792), unless there were fewer.
        let QuotedHeaders { protocol, body_at, .. } = headers;
        let least = (at + headers.len).saturating_sub(body_at).min(8);
        if end - body_at < least {
            return Err(NoQuote::Malformed);
        }
        if headers.is_behind || !is_translatable(error.v6, protocol) {
            return Err(NoQuote::WithoutPorts);
        }
        let ports = quoted_ports(&bytes[body_at..], error.v6, protocol).ok_or(NoQuote::WithoutPorts)?;
        let (src, dst) = if error.v6 { (at + 8, at + 24) } else { (at + 12, at + 16) };
        let (src, dst) = address(bytes, src, error.v6).zip(address(bytes, dst, error.v6)).ok_or(NoQuote::Malformed)?;
        Ok(Self { src, dst, protocol, ports, at, body_at, end })
    }
}

fn quoted_ports(body: &[u8], v6: bool, protocol: u8) -> Option<(u16, u16)> {
    match (protocol, v6) {
        (TCP | UDP, _) => Some((word(body, 0)?, word(body, 2)?)),
        (ICMP, false) | (ICMPV6, true) if body.len() < 8 => None,
        (ICMP, false) | (ICMPV6, true) => match (body[0], v6) {
            (8, false) | (128, true) => Some((word(body, 4)?, 0)),
            (0, false) | (129, true) => Some((0, word(body, 4)?)),
            _ => None,
        },
        _ => Some((0, 0)),
    }
}

fn find_v4(bytes: &[u8], at: usize) -> Option<QuotedHeaders> {
    let header = usize::from(*bytes.get(at)? & 15) * 4;
    if bytes[at] >> 4 != 4 || header < 20 || at + header > bytes.len() {
        return None;
    }
    Some(QuotedHeaders {
        protocol: bytes[at + 9],
        body_at: at + header,
        len: usize::from(word(bytes, at + 2)?),
        is_behind: word(bytes, at + 6)? & 0x1fff != 0,
    })
}

fn find_v6(bytes: &[u8], at: usize) -> Option<QuotedHeaders> {
    if at + 40 > bytes.len() || bytes[at] >> 4 != 6 {
        return None;
    }
    let (mut protocol, mut body_at, mut headers, mut has_fragment_header) = (bytes[at + 6], at + 40, 0, false);
    let len = 40 + usize::from(word(bytes, at + 4)?);
    let mut is_behind = false;
    while matches!(protocol, 0 | 43 | 44 | 60) && !is_behind {
        if headers == 8 || body_at + 8 > bytes.len() || (protocol == 0 && headers > 0) {
            return None;
        }
        match protocol {
            44 if has_fragment_header => return None,
            44 => {
                has_fragment_header = true;
                is_behind = word(bytes, body_at + 2)? & 0xfff8 != 0;
            }
            43 if bytes[body_at + 3] != 0 => return None,
            _ => {}
        }
        let units = if protocol == 44 { 1 } else { usize::from(bytes[body_at + 1]) + 1 };
        protocol = bytes[body_at];
        body_at += units * 8;
        headers += 1;
    }
    (body_at <= bytes.len()).then_some(QuotedHeaders { protocol, body_at, len, is_behind })
}
