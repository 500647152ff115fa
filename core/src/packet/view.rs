//! What is known of a packet once it has been checked.

use core::fmt;
use core::net::IpAddr;

use crate::addr::{Family, address_of, is_mapped, key_of};

/// Why bytes are no packet that can be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// No bytes at all.
    Empty,
    /// The IP version is neither 4 nor 6.
    Version,
    /// The IPv4 header length is below 20 bytes.
    HeaderLength,
    /// The length in the IP header says less than the header itself.
    TotalLength,
    /// The packet is longer than the bytes that are there.
    Truncated,
    /// An IPv6 extension header is cut off, there are more than eight, or one stands where it must not (RFC 8200 §4.1).
    ExtensionHeaders,
    /// An IPv6 routing header with segments left, or an IPv4 source route: the packet is not for its destination address (RFC 8200 §4.4,
    /// RFC 5095, RFC 7126 §4.3).
    SourceRoute,
    /// A fragment that ends beyond 65,535 bytes, or that is not the last and is not made of whole eight bytes (RFC 791 §3.2, RFC 8200 §4.5).
    Fragment,
    /// The TCP, UDP or ICMP header is cut off, or says a length that can't be.
    TransportTruncated,
    /// The offload information does not fit the packet.
    Offload,
    /// What an ICMP error quotes is too short to tell whose packet it was, or is of another IP version.
    Quote,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Version => "unknown IP version",
            Self::HeaderLength => "bad IPv4 header length",
            Self::TotalLength => "bad IP total length",
            Self::Truncated => "truncated",
            Self::ExtensionHeaders => "bad IPv6 extension headers",
            Self::SourceRoute => "source route with segments left",
            Self::Fragment => "bad fragment",
            Self::TransportTruncated => "bad or truncated transport header",
            Self::Offload => "offload information does not fit",
            Self::Quote => "bad quote in an ICMP error",
        })
    }
}

impl core::error::Error for Malformed {}

/// What the sender of a packet left for the network card to do (virtio-net, `VIRTIO_NET_HDR_F_NEEDS_CSUM` and `gso_size`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Offload {
    /// Whether the transport checksum is finished.
    pub checksum: Checksum,
    /// Payload bytes per segment that the packet is to be cut into; 0 when it is not to be cut.
    pub gso_size: u16,
}

impl Offload {
    /// A packet as it would be on a wire: finished checksum, one segment.
    pub const NONE: Self = Self { checksum: Checksum::Full, gso_size: 0 };
}

/// The state of the transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Checksum {
    /// Finished: the field is the checksum.
    #[default]
    Full,
    /// Unfinished: the field holds the sum of the pseudo-header, not complemented.
    Partial {
        /// Where the sum over the packet is to start, in bytes from its first: the transport header.
        start: u16,
        /// Where the checksum is to go, in bytes from `start`.
        offset: u16,
    },
}

/// The protocol above IP. ICMP counts only over its own family; over the other it is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, 6.
    Tcp,
    /// UDP, 17.
    Udp,
    /// ICMP over IPv4, 1.
    Icmp,
    /// ICMPv6 over IPv6, 58.
    Icmpv6,
    /// Any other, by its number in the IP header.
    Other(u8),
}

impl Protocol {
    /// The number in the IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Icmpv6 => 58,
            Self::Other(number) => number,
        }
    }

    /// The protocol with this number over `family`.
    #[must_use]
    pub const fn from_number(number: u8, family: Family) -> Self {
        match (number, family) {
            (6, _) => Self::Tcp,
            (17, _) => Self::Udp,
            (1, Family::V4) => Self::Icmp,
            (58, Family::V6) => Self::Icmpv6,
            (number, _) => Self::Other(number),
        }
    }

    /// Whether new addresses leave a packet of it right. They do where the checksum is known and updated (TCP, UDP, ICMP, ICMPv6), and
    /// where none covers the addresses:
    /// - IPv4 in IP (4, RFC 2003) and IPv6 in IP (41, RFC 4213): a whole packet, which has its own;
    /// - GRE (47, RFC 2784 §2.1): its checksum covers the GRE header and the payload;
    /// - ESP (50, RFC 4303 §2.8): its integrity value starts at the ESP header;
    /// - EtherIP (97, RFC 3378 §3): none;
    /// - L2TPv3 (115, RFC 3931 §4.1.1): none over IP;
    /// - SCTP (132, RFC 9260 §6.8): its CRC covers the SCTP packet alone;
    /// - MPLS in IP (137, RFC 4023 §3): none.
    ///
    /// AH (RFC 4302 §3.3.3), DCCP (RFC 4340 §9.1), UDP-Lite (RFC 3828 §3.1) and others cover the addresses. What isn't known is taken
    /// to do so.
    #[must_use]
    pub const fn is_translatable(self) -> bool {
        match self {
            Self::Tcp | Self::Udp | Self::Icmp | Self::Icmpv6 => true,
            Self::Other(number) => matches!(number, 4 | 41 | 47 | 50 | 97 | 115 | 132 | 137),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
            Self::Udp => f.write_str("UDP"),
            Self::Icmp => f.write_str("ICMP"),
            Self::Icmpv6 => f.write_str("ICMPv6"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Where it starts, in bytes from the start of the datagram's payload; 0 for the first.
    pub offset: u16,
    /// How much of the datagram's payload it has, in bytes.
    pub len: u16,
    /// Whether more follow.
    pub more: bool,
    /// The datagram it belongs to; 16 bits in IPv4.
    pub id: u32,
}

impl Fragment {
    /// The place of a packet that is not a fragment.
    pub(super) const WHOLE: Self = Self { offset: 0, len: 0, more: false, id: 0 };

    /// Whether it is the datagram and not a fragment of it.
    pub(super) const fn is_whole(self) -> bool {
        self.offset == 0 && !self.more
    }

    /// Whether it is the first, the one that has the transport header.
    #[must_use]
    pub const fn is_first(self) -> bool {
        self.offset == 0
    }
}

/// The control bits of a TCP segment (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// The acknowledgment field counts.
    pub const ACK: Self = Self(0x10);

    /// Whether all bits of `flags` are set.
    #[must_use]
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// FIN.
    #[must_use]
    pub const fn fin(self) -> bool {
        self.contains(Self::FIN)
    }

    /// SYN.
    #[must_use]
    pub const fn syn(self) -> bool {
        self.contains(Self::SYN)
    }

    /// RST.
    #[must_use]
    pub const fn rst(self) -> bool {
        self.contains(Self::RST)
    }

    /// ACK.
    #[must_use]
    pub const fn ack(self) -> bool {
        self.contains(Self::ACK)
    }
}

/// What matters of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpSegment {
    /// The source port.
    pub src_port: u16,
    /// The destination port.
    pub dst_port: u16,
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgment number; counts only with the ACK flag.
    pub ack: u32,
    /// The control bits.
    pub flags: TcpFlags,
    /// Bytes behind the TCP header in this packet.
    pub payload_len: u32,
}

impl TcpSegment {
    /// How much sequence space the segment occupies: its payload, plus one each for SYN and FIN (SEG.LEN of RFC 9293).
    #[must_use]
    pub const fn sequence_len(&self) -> u32 {
        self.payload_len.wrapping_add(self.flags.syn() as u32).wrapping_add(self.flags.fin() as u32)
    }
}

/// What an ICMP or ICMPv6 message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpKind {
    /// Ping, with its identifier.
    EchoRequest {
        /// The identifier.
        ident: u16,
    },
    /// The answer to a ping, with the identifier of the ping.
    EchoReply {
        /// The identifier.
        ident: u16,
    },
    /// A message about another packet, which it quotes from eight bytes behind the start of the ICMP header on: ICMP types 3, 4, 5, 11 and 12;
    /// ICMPv6 types below 128.
    Error {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// Anything else.
    Other {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
}

impl IcmpKind {
    /// Whether it is an error over `family` that is translated together with its quote: unreachable, time exceeded, parameter problem
    /// (RFC 792: 3, 11, 12; RFC 4443: 1, 3, 4) and packet too big (2). Source quench and redirect are for the hosts of one link, and nobody
    /// should send the former (RFC 6633).
    #[must_use]
    pub const fn is_translatable_error(self, family: Family) -> bool {
        match (self, family) {
            (Self::Error { kind, .. }, Family::V4) => matches!(kind, 3 | 11 | 12),
            (Self::Error { kind, .. }, Family::V6) => matches!(kind, 1..=4),
            _ => false,
        }
    }
}

/// What the packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// A UDP datagram.
    Udp {
        /// The source port.
        src_port: u16,
        /// The destination port.
        dst_port: u16,
    },
    /// An ICMP or ICMPv6 message; which one says [`View::protocol`].
    Icmp(IcmpKind),
    /// Another protocol: not looked into.
    Other,
    /// A fragment that is not the first: there is no transport header to look at.
    LaterFragment,
}

/// A checked packet: where its parts are and what they say. The bytes stay where they are.
///
/// A view belongs to the bytes it was parsed from. Used with others it gives wrong results, but never a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub(super) family: Family,
    pub(super) src: [u8; 16],
    pub(super) dst: [u8; 16],
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    pub(super) fragment: Fragment,
    pub(super) dont_fragment: bool,
    pub(super) transport_offset: u16,
    pub(super) total_len: u32,
    pub(super) offload: Offload,
}

impl View {
    /// Checks the packet at the start of `buf`. Bytes behind its end are ignored ([`total_len`](Self::total_len) says where that is):
    /// tunnels pad.
    ///
    /// Checksums are not verified: a rewritten packet is exactly as right or wrong as it came, and its receiver decides.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong with it.
    #[inline]
    pub fn parse(buf: &[u8], offload: Offload) -> Result<Self, Malformed> {
        super::parse::parse(buf, offload)
    }

    /// The view of the same packet after [`rewrite`](super::rewrite) with these addresses.
    #[inline]
    #[must_use]
    pub fn with_addresses(self, new_src: Option<IpAddr>, new_dst: Option<IpAddr>) -> Self {
        Self { src: new_src.map_or(self.src, key_of), dst: new_dst.map_or(self.dst, key_of), ..self }
    }

    /// The IP version.
    #[inline]
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> IpAddr {
        address_of(self.src, self.family)
    }

    /// The destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        address_of(self.dst, self.family)
    }

    /// Whether an address of an IPv6 packet is an IPv4 address in its mapped form. Such packets appear on no wire (RFC 4291 section
    /// 2.5.5.2), and tables would take the address for the IPv4 one.
    #[inline]
    #[must_use]
    pub fn has_mapped_address(&self) -> bool {
        self.family == Family::V6 && (is_mapped(self.src) || is_mapped(self.dst))
    }

    /// Source and destination as tables have them.
    #[inline]
    pub(crate) const fn keys(&self) -> ([u8; 16], [u8; 16]) {
        (self.src, self.dst)
    }

    /// The protocol above IP and its extension headers.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// What the packet carries.
    #[inline]
    #[must_use]
    pub const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The TCP segment, if it is one.
    #[inline]
    #[must_use]
    pub const fn tcp(&self) -> Option<&TcpSegment> {
        match &self.transport {
            Transport::Tcp(segment) => Some(segment),
            _ => None,
        }
    }

    /// The kind of ICMP message, if it is one.
    #[inline]
    #[must_use]
    pub const fn icmp(&self) -> Option<IcmpKind> {
        match self.transport {
            Transport::Icmp(kind) => Some(kind),
            _ => None,
        }
    }

    /// Source and destination port of TCP and UDP. For an echo request (identifier, 0), for an echo reply (0, identifier): swapped,
    /// they are those of the answer, as with ports. `None` for everything else, and for fragments behind the first.
    #[inline]
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match &self.transport {
            Transport::Tcp(segment) => Some((segment.src_port, segment.dst_port)),
            Transport::Udp { src_port, dst_port } => Some((*src_port, *dst_port)),
            Transport::Icmp(IcmpKind::EchoRequest { ident }) => Some((*ident, 0)),
            Transport::Icmp(IcmpKind::EchoReply { ident }) => Some((0, *ident)),
            _ => None,
        }
    }

    /// The place in its datagram, if it is a fragment of one.
    #[inline]
    #[must_use]
    pub const fn fragment(&self) -> Option<Fragment> {
        if self.fragment.is_whole() { None } else { Some(self.fragment) }
    }

    /// Whether routers must not fragment it: the DF flag in IPv4, always in IPv6.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.dont_fragment
    }

    /// Where the transport header starts, in bytes from the start of the packet.
    #[inline]
    #[must_use]
    pub const fn transport_offset(&self) -> usize {
        self.transport_offset as usize
    }

    /// The length of the packet in bytes. The buffer may be longer.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len as usize
    }

    /// The length in bytes of the largest IP packet that this one becomes once it is cut as its offload says; that of the packet when it
    /// is not to be cut, or is neither TCP nor UDP, which nothing cuts.
    #[inline]
    #[must_use]
    pub fn segment_len(&self) -> usize {
        let headers = match (self.offload.gso_size, &self.transport) {
            (1.., Transport::Tcp(segment)) => self.total_len.saturating_sub(segment.payload_len) as usize,
            (1.., Transport::Udp { .. }) => self.transport_offset().saturating_add(8),
            _ => return self.total_len(),
        };
        headers.saturating_add(usize::from(self.offload.gso_size)).min(self.total_len())
    }

    /// What the sender left to be done.
    #[inline]
    #[must_use]
    pub const fn offload(&self) -> Offload {
        self.offload
    }
}

#[cfg(test)]
mod tests;
