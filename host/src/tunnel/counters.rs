//! What the tunnels did and what they dropped. The list of drops is closed: nothing is lost without a name.

use std::fmt;

macro_rules! drops {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// Why a datagram from the network or a payload for a peer was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum TunnelDrop {
            $($(#[doc = $doc])* $variant,)*
        }

        impl TunnelDrop {
            /// Every reason, in the order of their declaration.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The name of the reason's counter, in snake case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What the reason means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),*).trim_ascii(),)*
                }
            }
        }
    };
}

drops! {
    /// Received: no bytes at all.
    Empty => "empty",
    /// Received: too short for the message type it claims.
    Short => "short",
    /// Received: not a WireGuard message: unknown type, reserved bits set, or a wrong length for its type.
    Malformed => "malformed",
    /// Received: more handshake messages from one source address than any honest one sends.
    SourceLimited => "source_limited",
    /// Received: a handshake message whose first MAC is not for a key of ours.
    BadMac => "bad_mac",
    /// Received: a handshake message with a right MAC that does not authenticate.
    BadHandshake => "bad_handshake",
    /// Received under load: too many handshake messages from a source that did return its cookie.
    RateLimited => "rate_limited",
    /// Received under load: a handshake message without a cookie. The cookie was sent.
    CookieDemanded => "cookie_demanded",
    /// Received: an initiation of a key we don't know, on an interface that keeps none.
    UnknownKey => "unknown_key",
    /// A kept initiation of an unknown key gave way to a newer one.
    UnknownKeyDisplaced => "unknown_key_displaced",
    /// A kept initiation of an unknown key waited until the initiator repeats it anyway.
    UnknownKeyStale => "unknown_key_stale",
    /// Received: an initiation not newer than the last one accepted from its key.
    ReplayedInitiation => "replayed_initiation",
    /// Received: a handshake response or cookie that nobody asked for.
    Unasked => "unasked",
    /// Received: a data message of a session we don't have (any more).
    NoSession => "no_session",
    /// Received: a data message whose counter was seen already or lies behind the window.
    ReplayedData => "replayed_data",
    /// Received: a data message that does not authenticate.
    BadData => "bad_data",
    /// The buffer for the result was too small; nothing was delivered or sent.
    BufferTooSmall => "buffer_too_small",
    /// To send: the peer was removed, or never added.
    UnknownPeer => "unknown_peer",
    /// To send: a payload of no bytes, which would be a keepalive.
    EmptyPayload => "empty_payload",
    /// To send: a payload that fits no UDP datagram.
    TooLong => "too_long",
    /// To send: no session, and no endpoint to make one with.
    NoEndpoint => "no_endpoint",
    /// To send: the queue of a peer without a session was full, its oldest payload gave way.
    QueueFull => "queue_full",
    /// To send: the queues of all peers together hold as much as they may.
    QueuesFull => "queues_full",
    /// A queued payload waited too long for its session.
    QueueStale => "queue_stale",
    /// A queued payload's peer was removed.
    PeerRemoved => "peer_removed",
    /// A handshake message or keepalive gave way because the caller did not fetch what was to be sent.
    NotFetched => "not_fetched",
}

/// Counters of all tunnels of a process, from its start.
#[derive(Clone, Default)]
pub struct TunnelCounters {
    /// Payloads sealed, each into one data message.
    pub sealed: u64,
    /// Data messages opened, keepalives not counted.
    pub opened: u64,
    /// Keepalives received.
    pub keepalives_received: u64,
    /// Payloads that had to wait for a session.
    pub queued: u64,
    /// Handshake initiations sent, repeats counted.
    pub initiations_sent: u64,
    /// Handshake initiations answered.
    pub initiations_answered: u64,
    /// Handshakes of ours that were answered.
    pub handshakes_completed: u64,
    /// Initiations of unknown keys that were kept.
    pub unknown_keys_kept: u64,
    drops: [u64; TunnelDrop::ALL.len()],
}

impl TunnelCounters {
    /// How often `reason` came up.
    pub fn drops(&self, reason: TunnelDrop) -> u64 {
        self.drops[reason as usize]
    }

    /// Every reason with its count, zeros included.
    pub fn all_drops(&self) -> impl Iterator<Item = (TunnelDrop, u64)> + '_ {
        TunnelDrop::ALL.iter().map(|reason| (*reason, self.drops(*reason)))
    }

    /// The sum over all reasons.
    pub fn total_drops(&self) -> u64 {
        self.drops.iter().sum()
    }

    pub(super) fn count(&mut self, reason: TunnelDrop) {
        self.count_many(reason, 1);
    }

    pub(super) fn count_many(&mut self, reason: TunnelDrop, times: usize) {
        self.drops[reason as usize] += times as u64;
    }
}

impl fmt::Debug for TunnelCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        map.entry(&"sealed", &self.sealed)
            .entry(&"opened", &self.opened)
            .entry(&"keepalives_received", &self.keepalives_received)
            .entry(&"queued", &self.queued)
            .entry(&"initiations_sent", &self.initiations_sent)
            .entry(&"initiations_answered", &self.initiations_answered)
            .entry(&"handshakes_completed", &self.handshakes_completed)
            .entry(&"unknown_keys_kept", &self.unknown_keys_kept);
        for (reason, count) in self.all_drops().filter(|(_, count)| *count > 0) {
            map.entry(&reason.name(), &count);
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_drop_has_a_name_and_a_counter_of_its_own() {
        let names: HashSet<_> = TunnelDrop::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), TunnelDrop::ALL.len());
        for reason in TunnelDrop::ALL {
            let mut counters = TunnelCounters::default();
            counters.count(reason);
            assert_eq!(counters.drops(reason), 1);
            assert_eq!(counters.total_drops(), 1);
            assert!(format!("{counters:?}").contains(reason.name()));
        }
    }
}
