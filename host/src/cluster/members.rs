//! The nodes behind a cluster, as the root has let them in.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use acorn_core::addr::WorkerSubnet;
use acorn_core::ids::{Endpoint, NodeId, NodeKey};
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::{Digest, Hello, NodeRecord, Welcome};
use acorn_core::time::Instant;

/// How long the root's word on a node that says nothing new is believed. Renewals in between cost the root nothing.
pub const BELIEVED: Duration = Duration::from_secs(60);

/// A node as its cluster remembers it over restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownNode {
    /// Its key.
    pub key: NodeKey,
    /// Its number.
    pub id: NodeId,
    /// Where it was seen last.
    pub endpoint: Endpoint,
}

/// What of a `Hello` the root has to know when it changes.
#[derive(Clone, Debug, PartialEq)]
struct Said {
    epoch: u32,
    name: String,
    endpoint: Endpoint,
    subnet: Option<std::net::Ipv4Addr>,
    lease_ms: u32,
    instances: Digest,
}

impl Said {
    fn of(from: Sender, hello: &Hello) -> Self {
        Self {
            epoch: hello.epoch,
            name: hello.name.as_str().to_owned(),
            endpoint: if hello.endpoint == Endpoint::UNKNOWN { from.observed } else { hello.endpoint },
            subnet: hello.subnet,
            lease_ms: hello.lease_ms,
            instances: hello.instances,
        }
    }
}

/// What the root has granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub(super) subnet: WorkerSubnet,
    pub(super) lease_ms: u32,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) known: KnownNode,
    pub(super) epoch: u32,
    pub(super) grant: Option<Grant>,
    said: Option<Said>,
    said_at: Instant,
    pub(super) alive: bool,
    pub(super) silent_since: Instant,
    /// When what it has not said again in this epoch is withdrawn.
    pub(super) settle_at: Option<Instant>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<NodeId, Member>,
    by_key: HashMap<NodeKey, NodeId>,
}

impl Members {
    pub(super) fn id_of(&self, key: &NodeKey) -> Option<NodeId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Member> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A node from before the start. It counts as alive until it is silent for long enough.
    pub(super) fn remember(&mut self, known: KnownNode) {
        let member = Member {
            known,
            epoch: 0,
            grant: None,
            said: None,
            said_at: Instant::ZERO,
            alive: true,
            silent_since: Instant::ZERO,
            settle_at: None,
        };
        self.by_key.insert(known.key, known.id);
        self.by_id.insert(known.id, member);
    }

    /// What the root has granted to a node that says this, when it need not be asked again.
    pub(super) fn granted(&self, now: Instant, from: Sender, hello: &Hello, root_is_there: bool) -> Option<&Member> {
        let member = self.get(self.id_of(&from.key)?)?;
        let is_as_it_was = member.said.as_ref() == Some(&Said::of(from, hello));
        let is_fresh = now < member.said_at.saturating_add(BELIEVED);
        (member.grant.is_some() && ((is_as_it_was && is_fresh) || !root_is_there)).then_some(member)
    }

    /// The root has let a node in. Returns whether it is new here, and whether it has started again.
    pub(super) fn welcome(&mut self, now: Instant, from: Sender, hello: &Hello, welcome: &Welcome) -> (bool, bool) {
        let is_new = self.id_of(&from.key) != Some(welcome.node);
        if is_new {
            self.remove(&from.key);
            self.remember(KnownNode { key: from.key, id: welcome.node, endpoint: from.observed });
        }
        let Some(member) = self.by_id.get_mut(&welcome.node) else {
            return (false, false);
        };
        let restarted = member.epoch != hello.epoch;
        member.epoch = hello.epoch;
        member.grant = Some(Grant { subnet: welcome.subnet, lease_ms: welcome.lease_ms });
        let said = Said::of(from, hello);
        member.known.endpoint = said.endpoint;
        member.said = (!welcome.reattach).then_some(said);
        member.said_at = now;
        (is_new, restarted)
    }

    /// Another root is asked from now on: what nodes say it has to hear again.
    pub(super) fn say_all_again(&mut self) {
        for member in self.by_id.values_mut() {
            member.said = None;
        }
    }

    pub(super) fn remove(&mut self, key: &NodeKey) -> bool {
        let id = self.by_key.remove(key);
        id.is_some_and(|id| self.by_id.remove(&id).is_some())
    }

    pub(super) fn record(&self, id: NodeId) -> Option<NodeRecord> {
        let member = self.by_id.get(&id)?;
        Some(NodeRecord { id, key: member.known.key, endpoint: member.known.endpoint, epoch: member.epoch })
    }
}
