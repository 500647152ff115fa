//! What a router answers with: TCP resets and ICMP errors.
//!
//! Each builder writes a whole IP packet to the start of `out` and returns its length. None answers a packet that must not be answered
//! (RFC 1122 §3.2.2, RFC 4443 §2.4e, RFC 9293 §3.10.7.1): see [`Refusal`].

use core::fmt;
use core::net::IpAddr;

use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv6Message, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber,
};

use super::{IcmpKind, Protocol, Transport, View, checksum, is_one_host};
use crate::addr::Family;

/// The room that every reply fits in, in bytes.
pub const MAX_REPLY_LEN: usize = 1280;

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
const TCP_HEADER_LEN: usize = 20;
const ICMP_HEADER_LEN: usize = 8;

/// An ICMP error is at most 576 bytes (RFC 1812 §4.3.2.3).
const MAX_QUOTE_V4: usize = 576 - IPV4_HEADER_LEN - ICMP_HEADER_LEN;

/// An ICMPv6 error is at most the least MTU of IPv6 (RFC 4443 §2.4c).
const MAX_QUOTE_V6: usize = MAX_REPLY_LEN - IPV6_HEADER_LEN - ICMP_HEADER_LEN;

/// What hosts start with by default.
const HOP_LIMIT: u8 = 64;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyError {
    /// The packet must not be answered.
    Refused(Refusal),
    /// `out` is shorter than the reply.
    TooSmall {
        /// How many bytes the reply needs; never more than [`MAX_REPLY_LEN`].
        needed: usize,
    },
    /// The addresses are not all of one IP version.
    MixedFamilies,
}

/// Why a packet must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is an ICMP error itself.
    IcmpError,
    /// It is a TCP reset itself.
    Reset,
    /// It is a fragment, but not the first.
    LaterFragment,
    /// Its source is not the address of one host.
    Source,
    /// Its destination is not the address of one host.
    Destination,
    /// A TCP reset was asked for, but it is no TCP segment.
    NotTcp,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "must not be answered: {refusal}"),
            Self::TooSmall { needed } => write!(f, "the reply needs {needed} bytes"),
            Self::MixedFamilies => f.write_str("the addresses are of different IP versions"),
        }
    }
}

impl core::error::Error for ReplyError {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IcmpError => "an ICMP error",
            Self::Reset => "a TCP reset",
            Self::LaterFragment => "a fragment behind the first",
            Self::Source => "the source is not one host",
            Self::Destination => "the destination is not one host",
            Self::NotTcp => "not a TCP segment",
        })
    }
}

/// A TCP reset, told in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpReset {
    /// Whom it claims to come from.
    pub src: IpAddr,
    /// Whom it is for.
    pub dst: IpAddr,
    /// The port of `src`.
    pub src_port: u16,
    /// The port of `dst`.
    pub dst_port: u16,
    /// The sequence number. A receiver believes only the next one that it expects (RFC 5961 §3.2).
    pub seq: u32,
    /// The acknowledgment number; `None` for a reset without ACK.
    pub ack: Option<u32>,
}

/// Writes `reset`.
///
/// # Errors
/// [`ReplyError::TooSmall`], [`ReplyError::MixedFamilies`], and [`Refusal::Destination`] when its destination is not one host.
pub fn tcp_reset(out: &mut [u8], reset: &TcpReset) -> Result<usize, ReplyError> {
    if !is_one_host(reset.dst) {
        return Err(ReplyError::Refused(Refusal::Destination));
    }
    let (len, payload) = datagram(out, reset.src, reset.dst, Protocol::Tcp, TCP_HEADER_LEN)?;
    let header = payload.first_chunk_mut::<TCP_HEADER_LEN>().ok_or(ReplyError::TooSmall { needed: len })?;
    *header = [0; TCP_HEADER_LEN];
    let mut tcp = TcpPacket::new_unchecked(header);
    tcp.set_src_port(reset.src_port);
    tcp.set_dst_port(reset.dst_port);
    tcp.set_seq_number(TcpSeqNumber(reset.seq as i32));
    tcp.set_header_len(TCP_HEADER_LEN as u8);
    tcp.set_rst(true);
    if let Some(ack) = reset.ack {
        tcp.set_ack(true);
        tcp.set_ack_number(TcpSeqNumber(ack as i32));
    }
    let pseudo_header = checksum::pseudo_header(reset.src, reset.dst, Protocol::Tcp.number(), TCP_HEADER_LEN as u32);
    let sum = checksum::plus(pseudo_header, checksum::sum(tcp.as_ref()));
    tcp.set_checksum(checksum::finish(sum));
    Ok(len)
}

/// Writes the reset that answers the segment of `view` where there is no connection (RFC 9293 §3.10.7.1): with the sequence number
/// that the segment acknowledges, or else with sequence number 0 and an acknowledgment of the segment.
///
/// # Errors
/// [`ReplyError::Refused`], [`ReplyError::TooSmall`].
pub fn tcp_reset_for(out: &mut [u8], view: &View) -> Result<usize, ReplyError> {
    check_answerable(view)?;
    let segment = view.tcp().ok_or(ReplyError::Refused(Refusal::NotTcp))?;
    if segment.flags.rst() {
        return Err(ReplyError::Refused(Refusal::Reset));
    }
    let (seq, ack) = if segment.flags.ack() {
        (segment.ack, None)
    } else {
        (0, Some(segment.seq.wrapping_add(segment.sequence_len())))
    };
    tcp_reset(
        out,
        &TcpReset {
            src: view.dst(),
            dst: view.src(),
            src_port: segment.dst_port,
            dst_port: segment.src_port,
            seq,
            ack,
        },
    )
}

/// Writes an ICMP (RFC 792) or ICMPv6 (RFC 4443) "destination unreachable" with `code`, from `source`, that quotes `packet`.
///
/// `packet` is the one that `view` was made from, unchanged, or its application would not recognize it.
///
/// # Errors
/// [`ReplyError::Refused`], [`ReplyError::TooSmall`], [`ReplyError::MixedFamilies`].
pub fn unreachable(out: &mut [u8], packet: &[u8], view: &View, source: IpAddr, code: u8) -> Result<usize, ReplyError> {
    check_answerable(view)?;
    let kind = match view.family() {
        Family::V4 => u8::from(Icmpv4Message::DstUnreachable),
        Family::V6 => u8::from(Icmpv6Message::DstUnreachable),
    };
    icmp_error(out, packet, view, source, [kind, code], 0)
}

/// Writes an ICMP "fragmentation needed" (type 3 code 4, RFC 1191) or ICMPv6 "packet too big" (type 2, RFC 4443 §3.2) with `mtu` in bytes,
/// from `source`, that quotes `packet`. Over IPv4 it is for packets that must not be fragmented, and `mtu` is at most 65,535. Over IPv6
/// it answers fragments behind the first too, which RFC 4443 §2.4e does not forbid.
///
/// # Errors
/// [`ReplyError::Refused`], [`ReplyError::TooSmall`], [`ReplyError::MixedFamilies`].
pub fn too_big(out: &mut [u8], packet: &[u8], view: &View, source: IpAddr, mtu: u32) -> Result<usize, ReplyError> {
    match (check_answerable(view), view.family()) {
        // The rule about fragments behind the first is IPv4's. No packet of IPv6 may be cut on its way, so its sender must hear of each.
        (Ok(()) | Err(ReplyError::Refused(Refusal::LaterFragment)), Family::V6) => {}
        (answerable, _) => answerable?,
    }
    let (kind, mtu) = match view.family() {
        Family::V4 => (
            [u8::from(Icmpv4Message::DstUnreachable), u8::from(Icmpv4DstUnreachable::FragRequired)],
            mtu.min(u32::from(u16::MAX)),
        ),
        Family::V6 => ([u8::from(Icmpv6Message::PktTooBig), 0], mtu),
    };
    icmp_error(out, packet, view, source, kind, mtu)
}

/// For a packet that may be answered. `detail` is the second half of the ICMP header: the MTU, or 0.
fn icmp_error(
    out: &mut [u8],
    packet: &[u8],
    view: &View,
    source: IpAddr,
    kind: [u8; 2],
    detail: u32,
) -> Result<usize, ReplyError> {
    let (protocol, room) = match view.family() {
        Family::V4 => (Protocol::Icmp, MAX_QUOTE_V4),
        Family::V6 => (Protocol::Icmpv6, MAX_QUOTE_V6),
    };
    let quote = packet.get(..view.total_len()).unwrap_or(packet);
    let quote = quote.get(..room).unwrap_or(quote);
    let message_len = ICMP_HEADER_LEN.saturating_add(quote.len());
    let (len, message) = datagram(out, source, view.src(), protocol, message_len)?;
    let too_small = ReplyError::TooSmall { needed: len };
    let (header, body) = message.split_first_chunk_mut::<ICMP_HEADER_LEN>().ok_or(too_small)?;
    let [detail_0, detail_1, detail_2, detail_3] = detail.to_be_bytes();
    *header = [kind[0], kind[1], 0, 0, detail_0, detail_1, detail_2, detail_3];
    if body.len() != quote.len() {
        return Err(too_small);
    }
    body.copy_from_slice(quote);
    let pseudo_header = match protocol {
        Protocol::Icmpv6 => checksum::pseudo_header(source, view.src(), protocol.number(), message_len as u32),
        _ => 0,
    };
    let sum = checksum::finish(checksum::plus(pseudo_header, checksum::sum(message)));
    let field = message.get_mut(2..).and_then(<[u8]>::first_chunk_mut::<2>).ok_or(too_small)?;
    *field = sum.to_be_bytes();
    Ok(len)
}

/// Writes an IP header for `payload_len` bytes. Returns the length of the whole packet, and the room for its payload.
fn datagram(
    out: &mut [u8],
    src: IpAddr,
    dst: IpAddr,
    protocol: Protocol,
    payload_len: usize,
) -> Result<(usize, &mut [u8]), ReplyError> {
    let header_len = match Family::of(src) {
        Family::V4 => IPV4_HEADER_LEN,
        Family::V6 => IPV6_HEADER_LEN,
    };
    let len = header_len.saturating_add(payload_len);
    let too_small = ReplyError::TooSmall { needed: len };
    let packet = out.get_mut(..len).ok_or(too_small)?;
    let payload = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (header, payload) = packet.split_first_chunk_mut::<IPV4_HEADER_LEN>().ok_or(too_small)?;
            *header = [0; IPV4_HEADER_LEN];
            let mut ip = Ipv4Packet::new_unchecked(header);
            ip.set_version(4);
            ip.set_header_len(IPV4_HEADER_LEN as u8);
            ip.set_total_len(len as u16);
            // Never fragmented, so that the identification may be 0 (RFC 6864 §4.1).
            ip.set_dont_frag(true);
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_next_header(IpProtocol::from(protocol.number()));
            ip.set_src_addr(src);
            ip.set_dst_addr(dst);
            let sum = checksum::finish(checksum::sum(ip.as_ref()));
            ip.set_checksum(sum);
            payload
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (header, payload) = packet.split_first_chunk_mut::<IPV6_HEADER_LEN>().ok_or(too_small)?;
            *header = [0; IPV6_HEADER_LEN];
            let mut ip = Ipv6Packet::new_unchecked(header);
            ip.set_version(6);
            ip.set_payload_len(payload_len as u16);
            ip.set_next_header(IpProtocol::from(protocol.number()));
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_src_addr(src);
            ip.set_dst_addr(dst);
            payload
        }
        _ => return Err(ReplyError::MixedFamilies),
    };
    Ok((len, payload))
}

/// The rules that hold for every reply, the one about fragments last.
fn check_answerable(view: &View) -> Result<(), ReplyError> {
    let refusal = if !is_one_host(view.src()) {
        Refusal::Source
    } else if !is_one_host(view.dst()) {
        Refusal::Destination
    } else {
        match view.transport() {
            Transport::Icmp(IcmpKind::Error { .. }) => Refusal::IcmpError,
            Transport::LaterFragment => Refusal::LaterFragment,
            _ => return Ok(()),
        }
    };
    Err(ReplyError::Refused(refusal))
}

#[cfg(test)]
mod tests;
