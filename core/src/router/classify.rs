//! What kind of packet it is, as far as the router treats kinds differently.

use crate::addr::Family;
use crate::packet::{Fragment, IcmpKind, Protocol, Transport, View};
use crate::stats::DropReason;

/// How a packet finds its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// By its addresses and these ports, as in [`View::ports`]. Protocols without ports have zeroes.
    Ports(u16, u16),
    /// It is a fragment behind the first: by its datagram.
    Later(Fragment),
    /// It is an ICMP error: by the packet that it quotes.
    Error,
}

/// The class of a packet that is carried at all.
#[inline]
pub(super) fn classify(view: &View) -> Result<Class, DropReason> {
    // Behind the first fragment, IPv6 may have other headers than the transport's next, whose number does not count there (RFC 8200
    // section 4.5).
    let is_told = view.family() == Family::V4 || *view.transport() != Transport::LaterFragment;
    if is_told && !view.protocol().is_translatable() {
        return Err(DropReason::Protocol);
    }
    match (view.transport(), view.fragment()) {
        (Transport::LaterFragment, Some(fragment)) => Ok(Class::Later(fragment)),
        (Transport::Icmp(kind @ IcmpKind::Error { .. }), None) if kind.is_translatable_error(view.family()) => {
            Ok(Class::Error)
        }
        (Transport::Icmp(IcmpKind::Error { .. } | IcmpKind::Other { .. }), _) => Err(DropReason::IcmpMessage),
        (Transport::Other, _) => Ok(Class::Ports(0, 0)),
        _ => view.ports().map(|(src, dst)| Class::Ports(src, dst)).ok_or(DropReason::Protocol),
    }
}

/// Whether a packet may begin a flow at a service IP: one that answers something belongs to a flow, or to nothing.
pub(super) fn opens(view: &View) -> bool {
    match view.transport() {
        Transport::Tcp(segment) => segment.flags.syn() && !segment.flags.ack(),
        Transport::Icmp(IcmpKind::EchoReply { .. }) => false,
        _ => true,
    }
}

/// Whether a TCP connection is in the middle: its segments belong to a flow, or to nothing.
pub(super) fn is_amid_connection(view: &View) -> bool {
    view.protocol() == Protocol::Tcp && !opens(view)
}
