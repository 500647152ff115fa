//! What an application is told when its packet goes nowhere, so that it fails at once instead of hanging.

use crate::addr::{Family, address_of};
use crate::flow::Flow;
use crate::packet::{Protocol, View, reply};
use crate::stats::DropReason;

/// ICMP "host unreachable" (RFC 792), for TCP and echo.
const V4_HOST_UNREACHABLE: u8 = 1;
/// ICMP "communication administratively prohibited" (RFC 1812 section 5.2.7.1), for UDP: Linux does not report the former on a
/// connected UDP socket.
const V4_PROHIBITED: u8 = 13;
/// ICMPv6 "address unreachable" (RFC 4443 section 3.1), for TCP and echo.
const V6_ADDRESS_UNREACHABLE: u8 = 3;
/// ICMPv6 "communication with destination administratively prohibited" (RFC 4443 section 3.1), for UDP.
const V6_PROHIBITED: u8 = 1;

/// An answer, by its length in bytes.
pub(super) enum Answer {
    /// A RST.
    Reset(usize),
    /// An ICMP error.
    Error(usize),
}

/// Writes the answer to a packet that is dropped for `reason`; none when it must not be answered.
/// It comes from the address that was dialled.
pub(super) fn to(reason: DropReason, packet: &[u8], view: &View, out: &mut [u8]) -> Option<Answer> {
    let is_about_the_connection =
        matches!(reason, DropReason::NoFlow | DropReason::InstanceGone | DropReason::ReverseCollision);
    if view.tcp().is_some_and(|segment| segment.flags.rst()) {
        return None;
    }
    if view.protocol() == Protocol::Tcp && is_about_the_connection {
        return reply::tcp_reset_for(out, view).ok().map(Answer::Reset);
    }
    let code = match (view.family(), view.protocol()) {
        (Family::V4, Protocol::Udp) => V4_PROHIBITED,
        (Family::V4, _) => V4_HOST_UNREACHABLE,
        (Family::V6, Protocol::Udp) => V6_PROHIBITED,
        (Family::V6, _) => V6_ADDRESS_UNREACHABLE,
    };
    reply::unreachable(out, packet, view, view.dst(), code).ok().map(Answer::Error)
}

/// Writes the RST that ends a local application's TCP connection and returns its length. It carries the sequence number that
/// the application expects next, so it is believed (RFC 5961 section 3.2).
pub(super) fn reset_flow(flow: &Flow, out: &mut [u8]) -> Option<usize> {
    let family = family_of(flow.local);
    let reset = reply::TcpReset {
        src: address_of(flow.dialled, family),
        dst: address_of(flow.local, family),
        src_port: flow.remote_port,
        dst_port: flow.local_port,
        seq: flow.last_ack,
        ack: None,
    };
    reply::tcp_reset(out, &reset).ok()
}

fn family_of(bytes: [u8; 16]) -> Family {
    match core::net::Ipv6Addr::from(bytes).to_ipv4_mapped() {
        Some(_) => Family::V4,
        None => Family::V6,
    }
}
