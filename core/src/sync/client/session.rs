//! The node's standing with its manager: `Hello`, `Welcome`, the lease, and which managers there are.

use core::time::Duration;

use heapless::Vec;

use super::Profile;
use crate::addr::WorkerSubnet;
use crate::ids::{Endpoint, NodeId, NodeKey};
use crate::late::Late;
use crate::sync::Backoff;
use crate::sync::message::{Digest, Hello, MANAGERS_MAX, ManagerRecord, Refusal, Welcome};
use crate::time::Instant;

const HELLO: Backoff = Backoff { first: Duration::from_millis(250), most: Duration::from_secs(2) };
/// A refusal is final for the request as it was; an operator may change the manager's mind meanwhile.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// So many unanswered `Hello`s, and the next manager is tried.
const TRIES_PER_MANAGER: u8 = 4;
/// The numbers of `Hello` requests have this bit, those of all others have not.
const HELLO_REQUESTS: u32 = 0x8000_0000;
/// A lease is renewed when this part of it has passed.
const RENEWALS_PER_LEASE: u32 = 3;

/// What the manager has made of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The node's number.
    pub node: NodeId,
    /// Its subnets.
    pub subnet: WorkerSubnet,
    /// Its lease.
    pub lease: Duration,
    /// Where the manager sees it.
    pub observed: Endpoint,
}

/// What a `Welcome` changes.
pub(super) struct News {
    /// The manager does not remember this node's interests and instances.
    pub(super) forgotten: bool,
}

pub(super) struct Session {
    managers: Vec<ManagerRecord, MANAGERS_MAX>,
    current: usize,
    membership: Late<Membership>,
    /// The boot epoch of the manager that welcomed; 0 before.
    manager_epoch: u32,
    /// The request number of the `Hello` that is under way; 0 when none is.
    request: u32,
    /// The first one that was sent since the last answer.
    first_request: u32,
    last_request: u32,
    tries: u8,
    next_hello: Instant,
    last_hello: Instant,
    last_welcome: Instant,
    refusal: Late<Refusal>,
}

impl Session {
    pub(super) const fn new() -> Self {
        Self {
            managers: Vec::new(),
            current: 0,
            membership: Late::new(),
            manager_epoch: 0,
            request: 0,
            first_request: 0,
            last_request: 0,
            tries: 0,
            next_hello: Instant::ZERO,
            last_hello: Instant::ZERO,
            last_welcome: Instant::ZERO,
            refusal: Late::new(),
        }
    }

    pub(super) fn start(&mut self, now: Instant, managers: &[ManagerRecord]) {
        self.managers = managers.iter().take(MANAGERS_MAX).copied().collect();
        self.next_hello = now;
    }

    pub(super) fn is_manager(&self, key: &NodeKey) -> bool {
        self.managers.iter().any(|manager| manager.key == *key)
    }

    pub(super) fn manager(&self) -> Option<ManagerRecord> {
        self.managers.get(self.current).copied()
    }

    pub(super) fn membership(&self) -> Option<&Membership> {
        self.membership.get()
    }

    pub(super) fn is_member(&self) -> bool {
        self.manager_epoch != 0
    }

    pub(super) fn is_connected(&self, now: Instant) -> bool {
        self.membership.get().is_some_and(|m| self.is_member() && now < self.last_welcome.saturating_add(m.lease))
    }

    /// Whether the manager has answered within the lease, and no more than its last `Hello` is without an answer.
    pub(super) fn is_answered(&self, now: Instant) -> bool {
        self.is_connected(now) && self.tries <= 1
    }

    /// When the next `Hello` is due; never when there is nobody to say it to.
    pub(super) fn next_hello(&self) -> Option<Instant> {
        (!self.managers.is_empty()).then_some(self.next_hello)
    }

    pub(super) fn hello_now(&mut self, now: Instant) {
        self.next_hello = now;
        self.tries = 0;
    }

    /// The request number of a `Hello` that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<u32> {
        if now < self.next_hello || self.managers.is_empty() {
            return None;
        }
        if self.tries >= TRIES_PER_MANAGER && self.managers.len() > 1 {
            self.current = self.current.saturating_add(1).checked_rem(self.managers.len()).unwrap_or(0);
            self.tries = 0;
        }
        // The upper half of the numbers, so that a refusal can't be taken for that of a look-up or an attachment.
        self.last_request = self.last_request.wrapping_add(1) | HELLO_REQUESTS;
        if self.request == 0 {
            self.first_request = self.last_request;
        }
        self.request = self.last_request;
        self.last_hello = now;
        self.next_hello = now.saturating_add(HELLO.after(self.tries));
        self.tries = self.tries.saturating_add(1);
        Some(self.request)
    }

    /// Takes a `Welcome` in; none when it answers nothing that was asked.
    pub(super) fn welcome(&mut self, now: Instant, from: &NodeKey, welcome: &Welcome) -> Option<News> {
        // Any Hello since the last answer may be the one that was answered; one before that has been answered already.
        if self.request == 0
            || !(self.first_request..=self.request).contains(&welcome.request)
            || self.manager().is_none_or(|m| m.key != *from)
        {
            return None;
        }
        let lease = Duration::from_millis(u64::from(welcome.lease_ms.max(1)));
        let forgotten = self.manager_epoch != welcome.epoch;
        self.manager_epoch = welcome.epoch.max(1);
        self.membership.set(Membership {
            node: welcome.node,
            subnet: welcome.subnet,
            lease,
            observed: welcome.observed,
        });
        self.request = 0;
        self.tries = 0;
        self.refusal.clear();
        self.last_welcome = now;
        self.next_hello = now.saturating_add(lease.checked_div(RENEWALS_PER_LEASE).unwrap_or(lease));
        self.learn_managers(from, &welcome.managers);
        Some(News { forgotten })
    }

    /// The manager has taken the node's own key in: it is to be greeted under it.
    pub(super) fn joined(&mut self, now: Instant) {
        self.manager_epoch = 0;
        self.hello_now(now);
    }

    pub(super) fn restarted(&mut self, now: Instant) {
        // A `Hello` of a moment ago may be on its way; an older one went to the manager that is no more.
        if self.request == 0 || now >= self.last_hello.saturating_add(HELLO.first) {
            self.hello_now(now);
        }
    }

    /// Takes the refusal of a `Hello` in; false when it is of something else.
    pub(super) fn refused(&mut self, now: Instant, request: u32, refusal: Refusal) -> bool {
        if request != self.request || self.request == 0 {
            return false;
        }
        self.refusal.set(refusal);
        self.next_hello = now.saturating_add(AFTER_REFUSAL);
        true
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    /// The managers of the answer replace the known ones; the one that answered stays current.
    fn learn_managers(&mut self, from: &NodeKey, managers: &[ManagerRecord]) {
        let Some(place) = managers.iter().position(|m| m.key == *from) else {
            return;
        };
        let known = self.manager().map_or(Endpoint::UNKNOWN, |m| m.endpoint);
        self.managers = managers.iter().take(MANAGERS_MAX).copied().collect();
        self.current = place;
        // The endpoint that works is better than one that the manager believes to have.
        if let Some(manager) = self.managers.get_mut(place) {
            manager.endpoint = known;
        }
    }

    pub(super) fn managers(&self) -> &[ManagerRecord] {
        &self.managers
    }
}

pub(super) fn hello(profile: &Profile, request: u32, streams: Digest, instances: Digest) -> Hello {
    Hello {
        request,
        epoch: profile.epoch,
        joining: profile.joining.then_some(profile.key),
        name: profile.name.clone(),
        endpoint: profile.endpoint,
        subnet: profile.subnet,
        lease_ms: profile.lease_ms,
        capacities: profile.capacities,
        streams,
        instances,
    }
}
