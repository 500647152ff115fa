//! One flow: the keys that it is found by, and what a packet changes of it.

use super::Stage;
use crate::packet::{Protocol, View};
use crate::slots::RowRef;
use crate::time::Instant;

/// One direction of a flow as it is found: addresses in their 16-byte form, ports, protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The source address.
    pub src: [u8; 16],
    /// The destination address.
    pub dst: [u8; 16],
    /// The source port; the identifier of an echo request; otherwise 0.
    pub src_port: u16,
    /// The destination port; the identifier of an echo reply; otherwise 0.
    pub dst_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
}

/// A flow, seen from its local end.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The local instance's namespace IP.
    pub local: [u8; 16],
    /// What the local application takes for its peer: a service IP, or the remote instance IP.
    pub dialled: [u8; 16],
    /// The remote namespace IP: the destination on the wire.
    pub remote: [u8; 16],
    /// The remote instance IP: the source of what comes back.
    pub remote_instance: [u8; 16],
    /// The local port, as in [`FlowKey`].
    pub local_port: u16,
    /// The remote port, as in [`FlowKey`].
    pub remote_port: u16,
    /// The IP protocol number.
    pub protocol: u8,
    /// How far it is.
    pub stage: Stage,
    /// What else is known of it.
    pub marks: Marks,
    /// The row of the remote instance's node.
    pub node: u32,
    /// The remote instance: its row in the table, or among the attachments when it is [`Marks::WITHIN`] this node.
    pub instance: RowRef,
    /// The local instance, whose instance IP is the source on the wire.
    pub attachment: RowRef,
    /// When its last packet was seen.
    pub last_seen: Instant,
    /// The last acknowledgement that the local TCP sent: the sequence number that it would take a RST with.
    pub last_ack: u32,
}

/// What holds of a flow or not. One bit each: there are many flows, and in a board little room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// Nothing of it.
    pub const NONE: Self = Self(0);
    /// The local application began it.
    pub const OUTGOING: Self = Self(1);
    /// The remote instance is attached to this node too and began the flow.
    pub const WITHIN: Self = Self(2);
    /// TCP only: the side that did not begin it has spoken.
    pub const ANSWERED: Self = Self(4);
    /// TCP only: the local application has sent a FIN.
    pub const LOCAL_FIN: Self = Self(8);
    /// TCP only: the remote instance has sent a FIN.
    pub const REMOTE_FIN: Self = Self(16);

    /// Both sides have sent a FIN.
    const BOTH_FINS: Self = Self(Self::LOCAL_FIN.0 | Self::REMOTE_FIN.0);

    /// Whether all of these hold.
    #[inline]
    #[must_use]
    pub const fn has(self, marks: Self) -> bool {
        self.0 & marks.0 == marks.0
    }

    #[inline]
    fn add(&mut self, marks: Self) {
        self.0 |= marks.0;
    }
}

impl Flow {
    pub(crate) const EMPTY: Self = Self {
        local: [0; 16],
        dialled: [0; 16],
        remote: [0; 16],
        remote_instance: [0; 16],
        local_port: 0,
        remote_port: 0,
        protocol: 0,
        stage: Stage::Opening,
        marks: Marks::NONE,
        node: 0,
        instance: RowRef::NONE,
        attachment: RowRef::NONE,
        last_seen: Instant::ZERO,
        last_ack: 0,
    };

    /// The key under which packets of the local application find it.
    #[inline]
    pub fn egress_key(&self) -> FlowKey {
        FlowKey {
            src: self.local,
            dst: self.dialled,
            src_port: self.local_port,
            dst_port: self.remote_port,
            protocol: self.protocol,
        }
    }

    /// Whether this is the key under which packets of the local application find it.
    #[inline]
    pub(super) fn has_egress_key(&self, key: &FlowKey) -> bool {
        (self.local_port, self.remote_port, self.protocol) == (key.src_port, key.dst_port, key.protocol)
            && (self.local, self.dialled) == (key.src, key.dst)
    }

    /// Whether this is the key under which packets from the remote node find it.
    #[inline]
    pub(super) fn has_ingress_key(&self, key: &FlowKey) -> bool {
        (self.remote_port, self.local_port, self.protocol) == (key.src_port, key.dst_port, key.protocol)
            && (self.remote_instance, self.local) == (key.src, key.dst)
    }

    /// The key under which packets from the remote node find it.
    #[inline]
    pub fn ingress_key(&self) -> FlowKey {
        FlowKey {
            src: self.remote_instance,
            dst: self.local,
            src_port: self.remote_port,
            dst_port: self.local_port,
            protocol: self.protocol,
        }
    }

    /// The row of the table whose flows it counts among; none for one that began [`Marks::WITHIN`] this node.
    pub(crate) fn counted(&self) -> RowRef {
        if self.marks.has(Marks::WITHIN) { RowRef::NONE } else { self.instance }
    }

    /// Notes a packet of the flow that is translated: its time, its stage, and what a RST would have to say. `outgoing` says
    /// that the local application sent it. Not for ICMP errors about the flow: they must not end it (RFC 5382 section 7.3
    /// REQ-10) and are no sign of life of it.
    ///
    /// The stages follow RFC 6146 section 3.5.2.2:
    /// - `Opening` until both sides have spoken; TCP until the side that began it has acknowledged the answer, so that a SYN alone
    ///   never makes a connection that lives for hours (RFC 5382 section 5 REQ-5: partially open is transitory).
    /// - A FIN from one side ends nothing: the other may go on to send, or be silent, as long as in any established
    ///   connection. Only FINs from both sides lead to `Closing`.
    /// - A RST from either side leads to `Closing`. Sequence numbers are not tracked, so this may be a stray or forged one that
    ///   the receiver ignores (RFC 5961 section 3.2). Therefore it does not end the flow: it is passed on, and the flow goes on
    ///   to carry packets, each of which renews the short lifetime. All that such a RST can do to a connection that is in use
    ///   is to have it forgotten at its next long silence. It does not return to `Established`, other than in RFC 6146: what
    ///   the two sides still send after a true RST would keep the flow for hours.
    #[inline]
    pub fn note(&mut self, view: &View, now: Instant, outgoing: bool) {
        self.last_seen = now;
        let answers = outgoing != self.marks.has(Marks::OUTGOING);
        if self.protocol == Protocol::Tcp.number() {
            if answers {
                self.marks.add(Marks::ANSWERED);
            }
        } else if answers {
            self.stage = Stage::Established;
        }
        if let Some(segment) = view.tcp() {
            let confirms = self.marks.has(Marks::ANSWERED) && !answers && segment.flags.ack() && !segment.flags.syn();
            if self.stage == Stage::Opening && confirms {
                self.stage = Stage::Established;
            }
            if segment.flags.fin() {
                self.marks.add(if outgoing { Marks::LOCAL_FIN } else { Marks::REMOTE_FIN });
            }
            if segment.flags.rst() || self.marks.has(Marks::BOTH_FINS) {
                self.stage = Stage::Closing;
            }
            if outgoing && segment.flags.ack() {
                self.last_ack = segment.ack;
            }
        }
    }

    /// Whether a packet begins a TCP connection anew on a flow whose last one has ended: a SYN without ACK (RFC 9293 section
    /// 3.6.1 lets the ports be used again before TIME-WAIT is over).
    #[inline]
    pub fn reopens(&self, view: &View) -> bool {
        self.stage == Stage::Closing && view.tcp().is_some_and(|segment| segment.flags.syn() && !segment.flags.ack())
    }
}
