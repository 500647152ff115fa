//! When a node says what about its own address, and what it takes for a clash. Time is an argument; nothing here sends.

use core::net::Ipv4Addr;

use embassy_time::Instant;

use super::arp::{Heard, Message};
use super::{ANNOUNCE_INTERVAL, Clash, DEFEND_INTERVAL};

/// How far a node is with an address.
#[derive(Clone, Copy)]
enum Stage {
    /// There is none.
    Idle,
    /// Nothing has been said yet.
    Probe,
    /// The question is out, the first announcement not.
    Announce,
    /// The first announcement is out. Who objects now was here before.
    Repeat { at: Instant },
    /// Nobody has objected in time.
    Held,
    /// Somebody was here before: it is not for this node to defend the address.
    Contested,
}

/// This node's claim to one IPv4 address on one link.
pub(super) struct Claim {
    address: Option<Ipv4Addr>,
    is_link_up: bool,
    stage: Stage,
    must_defend: bool,
    /// No defence is allowed before.
    quiet_until: Instant,
    /// Who asked last whether it may use the address, until it has its answer.
    asker: Option<[u8; 6]>,
}

impl Claim {
    pub(super) const fn new() -> Self {
        Self {
            address: None,
            is_link_up: false,
            stage: Stage::Idle,
            must_defend: false,
            quiet_until: Instant::MIN,
            asker: None,
        }
    }

    /// Claims another address, or none. Returns whether this is news.
    pub(super) fn set_address(&mut self, address: Option<Ipv4Addr>) -> bool {
        let address = address.filter(|a| !a.is_unspecified() && !a.is_multicast() && !a.is_broadcast());
        let is_new = address != self.address;
        if is_new {
            self.address = address;
            self.begin();
        }
        is_new
    }

    /// Tells the state of the link. On a link that has come up the address is asked for anew: it may be another network, or another
    /// node may have taken the address meanwhile (RFC 5227 section 2.1).
    pub(super) fn set_link(&mut self, is_up: bool) {
        if is_up && !self.is_link_up {
            self.begin();
        }
        self.is_link_up = is_up;
    }

    /// Takes in what a received frame says; `own` is this node's hardware address.
    pub(super) fn hear(&mut self, now: Instant, own: [u8; 6], heard: &Heard) -> Option<Clash> {
        let address = self.address?;
        // A bridge may give a node its own broadcasts back.
        if heard.sender == own {
            return None;
        }
        if heard.sender_ip == address {
            self.contest(now);
            return Some(Clash { address, other: heard.sender, at: now });
        }
        let is_claimed = matches!(self.stage, Stage::Announce | Stage::Repeat { .. } | Stage::Held);
        // An answer to a group address would be a broadcast that anybody could cause.
        let is_to_one = heard.sender[0] & 1 == 0;
        if heard.is_probe() && heard.target_ip == address && is_claimed && is_to_one {
            self.asker = Some(heard.sender);
        }
        None
    }

    /// What is to be said now, and about which address.
    pub(super) fn due(&self, now: Instant) -> Option<(Message, Ipv4Addr)> {
        let address = self.address.filter(|_| self.is_link_up)?;
        let message = match self.stage {
            Stage::Probe => Some(Message::Probe),
            Stage::Announce => Some(Message::Announcement),
            Stage::Repeat { at } if at <= now => Some(Message::Announcement),
            _ if self.must_defend => Some(Message::Announcement),
            _ => self.asker.map(|to| Message::Answer { to }),
        };
        message.map(|message| (message, address))
    }

    /// Tells that what was due is out.
    pub(super) fn sent(&mut self, now: Instant, message: Message) {
        match (message, self.stage) {
            (Message::Probe, _) => self.stage = Stage::Announce,
            (Message::Announcement, Stage::Announce) => {
                self.stage = Stage::Repeat { at: now.saturating_add(ANNOUNCE_INTERVAL) };
            }
            (Message::Announcement, Stage::Repeat { .. }) => self.stage = Stage::Held,
            (Message::Announcement, _) => self.must_defend = false,
            (Message::Answer { .. }, _) => self.asker = None,
        }
    }

    /// The moment at which something will be due that is not yet.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        match self.stage {
            Stage::Repeat { at } if self.is_link_up && now < at => Some(at),
            _ => None,
        }
    }

    fn begin(&mut self) {
        self.stage = if self.address.is_some() { Stage::Probe } else { Stage::Idle };
        self.must_defend = false;
        self.asker = None;
    }

    fn contest(&mut self, now: Instant) {
        match self.stage {
            Stage::Held if self.quiet_until <= now => {
                self.must_defend = true;
                self.quiet_until = now.saturating_add(DEFEND_INTERVAL);
            }
            Stage::Probe | Stage::Announce | Stage::Repeat { .. } => {
                self.stage = Stage::Contested;
                self.asker = None;
            }
            Stage::Held | Stage::Contested | Stage::Idle => {}
        }
    }
}

#[cfg(test)]
mod tests;
