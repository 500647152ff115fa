//! How long a flow lives without a packet, by protocol and stage.

use core::time::Duration;

/// How far a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Only one side has spoken.
    #[default]
    Opening,
    /// Both sides have spoken.
    Established,
    /// A TCP FIN or RST was seen.
    Closing,
}

/// How long flows live without a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// TCP before the handshake is done (RFC 5382 section 5 asks for at least 4 minutes for established ones only).
    pub tcp_opening: Duration,
    /// TCP after the handshake: 2 hours 4 minutes at least (RFC 5382 REQ-5).
    pub tcp_established: Duration,
    /// TCP after a FIN or RST.
    pub tcp_closing: Duration,
    /// UDP while only one side has spoken.
    pub udp_opening: Duration,
    /// UDP when both have: 5 minutes recommended (RFC 4787 REQ-5).
    pub udp_established: Duration,
    /// ICMP echo: 60 seconds at least (RFC 5508 REQ-1).
    pub icmp: Duration,
}

impl Lifetimes {
    /// No time at all: what a table holds before it is configured.
    pub(super) const ZERO: Self = Self {
        tcp_opening: Duration::ZERO,
        tcp_established: Duration::ZERO,
        tcp_closing: Duration::ZERO,
        udp_opening: Duration::ZERO,
        udp_established: Duration::ZERO,
        icmp: Duration::ZERO,
    };

    /// The lifetime of a flow at a stage.
    #[inline]
    pub fn of(&self, protocol: u8, stage: Stage) -> Duration {
        match (protocol, stage) {
            (6, Stage::Opening) => self.tcp_opening,
            (6, Stage::Established) => self.tcp_established,
            (6, Stage::Closing) => self.tcp_closing,
            (17, Stage::Opening) => self.udp_opening,
            (17, _) => self.udp_established,
            _ => self.icmp,
        }
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
        }
    }
}
