//! How long a flow lives without a packet, by protocol and stage.

use core::time::Duration;

/// How far a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Only one side has spoken.
    #[default]
    Opening,
    /// Both sides have spoken; TCP: the side that began it has acknowledged the answer.
    Established,
    /// TCP FINs were seen from both sides, or a RST from one.
    Closing,
}

/// How long flows live without a packet, in whole milliseconds, 49 days at most.
///
/// Three of the defaults are shorter than what the RFCs ask of address translators: TCP that opens or closes, and one-way UDP.
/// Nobody's next connection waits for what they hold: no address or port is shared between applications. A flow that ended
/// too early begins anew with the next SYN or datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// TCP until its handshake is done, 30 seconds: several repetitions of a SYN (RFC 6298 section 5). RFC 5382 section 5
    /// REQ-5 and RFC 7857 section 2.1 ask for 4 minutes.
    pub tcp_opening: Duration,
    /// TCP after that, half-closed connections included: 2 hours 4 minutes at least (RFC 5382 section 5 REQ-5, RFC 6146
    /// section 4).
    pub tcp_established: Duration,
    /// TCP after FINs from both sides or a RST from one, 10 seconds: time for the last segments and their repetitions. RFC
    /// 5382 section 5 REQ-5 and RFC 7857 sections 2.1 and 2.2 ask for 4 minutes.
    pub tcp_closing: Duration,
    /// UDP while only one side has spoken, 30 seconds. RFC 4787 section 4.3 REQ-5 asks for 2 minutes.
    pub udp_opening: Duration,
    /// UDP when both have: 5 minutes recommended, 2 at least (RFC 4787 section 4.3 REQ-5).
    pub udp_established: Duration,
    /// ICMP and ICMPv6 echo: 60 seconds at least (RFC 5508 section 3.2 REQ-2).
    pub icmp: Duration,
    /// Protocols that are carried without ports, 5 minutes as for UDP (RFC 4787 section 4.3 REQ-5): ten heartbeats of SCTP (RFC
    /// 9260 section 16, 30 seconds); GRE has none.
    pub other: Duration,
}

impl Lifetimes {
    /// The lifetime of a flow at a stage.
    pub fn of(&self, protocol: u8, stage: Stage) -> Duration {
        Duration::from_millis(Millis::from(*self).of(protocol, stage).into())
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_secs(30),
            tcp_established: Duration::from_secs(2 * 3600 + 4 * 60),
            tcp_closing: Duration::from_secs(10),
            udp_opening: Duration::from_secs(30),
            udp_established: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            other: Duration::from_secs(300),
        }
    }
}

/// Lifetimes as every packet needs them: in milliseconds.
pub(super) struct Millis {
    tcp_opening: u32,
    tcp_established: u32,
    tcp_closing: u32,
    udp_opening: u32,
    udp_established: u32,
    icmp: u32,
    other: u32,
}

impl Millis {
    /// No time at all: what a table holds before it is configured.
    pub(super) const ZERO: Self = Self {
        tcp_opening: 0,
        tcp_established: 0,
        tcp_closing: 0,
        udp_opening: 0,
        udp_established: 0,
        icmp: 0,
        other: 0,
    };

    /// The shortest lifetime that there is.
    pub(super) fn shortest(&self) -> u32 {
        let tcp = self.tcp_opening.min(self.tcp_established).min(self.tcp_closing);
        tcp.min(self.udp_opening).min(self.udp_established).min(self.icmp).min(self.other)
    }

    /// The lifetime of a flow at a stage.
    #[inline]
    pub(super) fn of(&self, protocol: u8, stage: Stage) -> u32 {
        match (protocol, stage) {
            (6, Stage::Opening) => self.tcp_opening,
            (6, Stage::Established) => self.tcp_established,
            (6, Stage::Closing) => self.tcp_closing,
            (17, Stage::Opening) => self.udp_opening,
            (17, _) => self.udp_established,
            (1 | 58, _) => self.icmp,
            _ => self.other,
        }
    }
}

impl From<Lifetimes> for Millis {
    fn from(lifetimes: Lifetimes) -> Self {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        Self {
            tcp_opening: millis(lifetimes.tcp_opening),
            tcp_established: millis(lifetimes.tcp_established),
            tcp_closing: millis(lifetimes.tcp_closing),
            udp_opening: millis(lifetimes.udp_opening),
            udp_established: millis(lifetimes.udp_established),
            icmp: millis(lifetimes.icmp),
            other: millis(lifetimes.other),
        }
    }
}
