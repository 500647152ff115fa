//! What the tunnels did, and why they dropped something.

use wireguard_sans_io::Error;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Counters of the tunnels. They only grow, and wrap at 2^32.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct TunnelCounters {
            $($(#[doc = $doc])+ pub $name: u32,)+
        }

        impl TunnelCounters {
            /// All zero.
            pub const ZERO: Self = Self { $($name: 0,)+ };

            /// Each counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams sealed and sent.
    sealed,
    /// Datagrams opened, keepalives included.
    opened,
    /// Sessions set up, by either side.
    handshakes,
    /// Datagrams that are no WireGuard messages.
    malformed,
    /// Datagrams that belong to no session, or are not authentic.
    rejected,
    /// Initiations whose first MAC is wrong: the sender does not know this node's key.
    wrong_mac,
    /// Cookie replies sent: many initiations came, or many from that address.
    cookies,
    /// Initiations dropped because their source sent too many.
    limited,
    /// Initiations of keys that no tunnel has; kept for a moment.
    unknown_key,
    /// Initiations with a stamp that is not newer than the last.
    replayed,
    /// Tunnels that were idle and made room for another peer's.
    peers_evicted,
    /// Payloads and initiations refused because all tunnels are in use.
    peers_full,
    /// Payloads for a peer whose endpoint is not known, or not an IPv4 one.
    no_endpoint,
    /// Payloads that gave way to newer ones, or waited too long for a handshake.
    queue_lost,
    /// Operations given up because there was no entropy.
    no_entropy,
}

impl TunnelCounters {
    /// Counts payloads that gave way or waited too long.
    pub(super) fn add_lost(&mut self, payloads: u32) {
        self.queue_lost = self.queue_lost.wrapping_add(payloads);
    }

    /// Counts why the library did not do something.
    pub(super) fn note(&mut self, error: Error) {
        match error {
            // The payload waits, which is what is counted.
            Error::NotEstablished | Error::HandshakeRateLimited => {}
            Error::EntropyFailure => bump(&mut self.no_entropy),
            Error::ReplayedTimestamp => bump(&mut self.replayed),
            Error::InvalidPacket => bump(&mut self.malformed),
            _ => bump(&mut self.rejected),
        }
    }
}

pub(crate) fn bump(counter: &mut u32) {
    *counter = counter.wrapping_add(1);
}
