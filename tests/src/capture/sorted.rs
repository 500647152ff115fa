//! Packets sorted by what they are.

use super::Link;
use std::collections::BTreeMap;

/// The only port that nodes talk on.
const ACORN: u16 = 50103;

/// What a capture contained.
#[derive(Debug, Default)]
pub struct Sorted {
    /// Datagrams from UDP port 50103 to UDP port 50103.
    pub acorn: u64,
    /// Bytes of those, as captured, with all headers.
    pub acorn_bytes: u64,
    /// Housekeeping of the link itself: ARP, neighbour discovery and multicast membership reports.
    pub link: u64,
    /// Everything else, by kind. Empty on a good underlay.
    pub other: BTreeMap<String, u64>,
    /// Packets that contained the marker.
    pub readable: u64,
}

impl Sorted {
    /// All packets.
    pub fn total(&self) -> u64 {
        self.acorn + self.link + self.other.values().sum::<u64>()
    }

    /// Adds one packet; `marker` counts as readable wherever it stands in it.
    pub fn add(&mut self, link: Link, frame: &[u8], marker: &[u8]) {
        match kind(link, frame) {
            Kind::Acorn => {
                self.acorn += 1;
                self.acorn_bytes += frame.len() as u64;
            }
            Kind::Link => self.link += 1,
            Kind::Other(kind) => *self.other.entry(kind).or_default() += 1,
        }
        if !marker.is_empty() && contains(frame, marker) {
            self.readable += 1;
        }
    }
}

enum Kind {
    Acorn,
    Link,
    Other(String),
}

fn kind(link: Link, frame: &[u8]) -> Kind {
    let (length, ethertype) = match link {
        Link::Ethernet => (14, 12),
        Link::Any => (20, 0),
    };
    let Some((header, payload)) = frame.split_at_checked(length) else {
        return Kind::Other("truncated".into());
    };
    match u16::from_be_bytes([header[ethertype], header[ethertype + 1]]) {
        0x0800 => ipv4(payload),
        0x0806 => Kind::Link,
        0x86dd => ipv6(payload),
        kind => Kind::Other(format!("EtherType {kind:#06x}")),
    }
}

fn ipv4(packet: &[u8]) -> Kind {
    let [first, _, _, _, _, _, fragment, fragment_low, _, protocol, ..] = *packet else {
        return Kind::Other("truncated".into());
    };
    // RFC 791: 13 bits of fragment offset. Only the first fragment has ports.
    if u16::from_be_bytes([fragment, fragment_low]) & 0x1fff != 0 {
        return Kind::Other("IPv4 fragment".into());
    }
    let payload = packet.get(usize::from(first & 0x0f) * 4..).unwrap_or_default();
    transport("IPv4", protocol, payload)
}

fn ipv6(packet: &[u8]) -> Kind {
    let (Some(&next), Some(payload)) = (packet.get(6), packet.get(40..)) else {
        return Kind::Other("truncated".into());
    };
    match (next, payload) {
        // Multicast listener reports come behind a hop-by-hop header with the router alert (RFC 3810).
        (0, [58, 0, _, _, _, _, _, _, 130..=132 | 143, ..]) => Kind::Link,
        // Router and neighbour solicitations and advertisements (RFC 4861).
        (58, [133..=136, ..]) => Kind::Link,
        _ => transport("IPv6", next, payload),
    }
}

fn transport(family: &str, protocol: u8, payload: &[u8]) -> Kind {
    let ports = match payload {
        [a, b, c, d, ..] => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    };
    match (protocol, ports) {
        (17, Some((ACORN, ACORN))) => Kind::Acorn,
        (17, Some((from, to))) => Kind::Other(format!("{family} UDP {from} to {to}")),
        (6, Some((from, to))) => Kind::Other(format!("{family} TCP {from} to {to}")),
        // Multicast membership (RFC 3376), for addresses that do not leave the link.
        (2, _) => Kind::Link,
        (1 | 58, _) => Kind::Other(format!("{family} ICMP type {}", payload.first().copied().unwrap_or_default())),
        _ => Kind::Other(format!("{family} protocol {protocol}")),
    }
}

/// Whether a text (not an empty one) stands somewhere in these bytes.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Comparing whole windows everywhere would take longer than the transfer that is searched.
    let first = needle[0];
    haystack.windows(needle.len()).any(|window| window[0] == first && window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: &[u8] = b"secret";

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &kind.to_be_bytes(), payload].concat()
    }

    fn ipv4(protocol: u8, fragment: u8, from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[7] = fragment;
        packet[9] = protocol;
        packet.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        packet.extend(payload);
        ethernet(0x0800, &packet)
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = next;
        packet.extend(payload);
        ethernet(0x86dd, &packet)
    }

    fn sorted(frames: &[Vec<u8>]) -> Sorted {
        let mut sorted = Sorted::default();
        frames.iter().for_each(|frame| sorted.add(Link::Ethernet, frame, MARKER));
        sorted
    }

    #[test]
    fn tunnel_datagrams_and_housekeeping_are_not_other() {
        let udp = [ACORN.to_be_bytes(), ACORN.to_be_bytes()].concat();
        let report = [58, 0, 5, 2, 0, 0, 1, 0, 143, 0];
        let sorted = sorted(&[
            ipv4(17, 0, ACORN, ACORN, b"sealed"),
            ipv6(17, &udp),
            ethernet(0x0806, b"who has"),
            ipv4(2, 0, 0, 0, b"report"),
            ipv6(58, &[135, 0]),
            ipv6(0, &report),
        ]);
        assert_eq!((sorted.acorn, sorted.link, sorted.other.len(), sorted.readable), (2, 4, 0, 0));
    }

    #[test]
    fn everything_else_is_named() {
        let sorted = sorted(&[
            ipv4(17, 0, 53, ACORN, b""),
            ipv4(6, 0, 1000, 80, b""),
            ipv4(17, 1, ACORN, ACORN, b""),
            ipv6(58, &[128, 0]),
            ethernet(0x88cc, b""),
            vec![0; 13],
        ]);
        let kinds: Vec<&str> = sorted.other.keys().map(String::as_str).collect();
        let expected = [
            "EtherType 0x88cc",
            "IPv4 TCP 1000 to 80",
            "IPv4 UDP 53 to 50103",
            "IPv4 fragment",
            "IPv6 ICMP type 128",
            "truncated",
        ];
        assert_eq!((kinds, sorted.acorn), (expected.to_vec(), 0));
    }

    #[test]
    fn a_marker_inside_a_tunnel_datagram_is_found() {
        let sorted = sorted(&[ipv4(17, 0, ACORN, ACORN, b"....secret..."), ipv4(17, 0, ACORN, ACORN, b"secre")]);
        assert_eq!((sorted.acorn, sorted.readable), (2, 1));
    }

    #[test]
    fn a_packet_of_the_interface_any_is_sorted_too() {
        let mut any = vec![0; 20];
        any[..2].copy_from_slice(&0x0800_u16.to_be_bytes());
        any.extend(&ipv4(6, 0, 1000, 80, b"secret")[14..]);
        let mut sorted = Sorted::default();
        sorted.add(Link::Any, &any, MARKER);
        assert_eq!((sorted.other.get("IPv4 TCP 1000 to 80"), sorted.readable), (Some(&1), 1));
    }
}
