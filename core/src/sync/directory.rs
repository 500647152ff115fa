//! What a sync server asks of the state behind it: the root's store, or a cluster's cache.

use crate::addr::WorkerSubnet;
use crate::ids::{Endpoint, NodeId, NodeKey, ServiceId};
use crate::sync::cluster::KeyStanding;
use crate::sync::message::{
    Adjust, Adjustment, Attach, Attached, Detach, Hello, InstanceRecord, ManagerRecord, NodeRecord, Refusal, Report,
    ResolveKey, ServiceHeader, Subject,
};
use crate::time::Instant;

/// Who sent a message: the key that its tunnel proved, and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The proven key: a node's own, or a join key.
    pub key: NodeKey,
    /// The underlay source of the datagram.
    pub observed: Endpoint,
}

/// A node is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Its number.
    pub node: NodeId,
    /// Its subnets.
    pub subnet: WorkerSubnet,
    /// Its lease, in milliseconds.
    pub lease_ms: u32,
    /// The managers that it may believe.
    pub managers: heapless::Vec<ManagerRecord, { super::message::MANAGERS_MAX }>,
    /// The directory's view of the instances on the node differs from the digest of its `Hello`.
    pub reattach: bool,
}

/// Why a request has no answer of the kind that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is refused, and nothing has changed.
    Refused(Refusal),
    /// Not known yet (a cluster asks its root): nothing is answered, and the client's repeat will find out.
    Pending,
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The outcome of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is this.
    Found(Subject),
    /// There is nothing of that kind.
    NotFound,
    /// Not known yet (a cluster asks its root): the client's repeat will find out.
    Pending,
}

/// One difference between two versions of a service's table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The instance is, or is new, as given.
    Present(InstanceRecord),
    /// The instance of this number is withdrawn.
    Removed(u32),
}

impl Change {
    /// The number of the instance that changed.
    pub fn number(&self) -> u32 {
        match self {
            Self::Present(record) => record.number,
            Self::Removed(number) => *number,
        }
    }
}

/// The state that a sync server serves. Each call is one operation: it happens whole or not at all.
///
/// Versions are per service, start at 1 and grow with every change of the service's addresses or instances, of the
/// liveness, endpoint, key or epoch of a node that runs one of them.
pub trait Directory {
    /// Lets a node in, or renews it. `hello.joining` is set when `from.key` is a join key.
    ///
    /// # Errors
    /// [`Denied`].
    fn hello(&mut self, now: Instant, from: Sender, hello: &Hello) -> Result<Admission, Denied>;

    /// The number of the node with this key.
    fn node_of(&self, key: &NodeKey) -> Option<NodeId>;

    /// What tables say of a node.
    fn node(&self, id: NodeId) -> Option<NodeRecord>;

    /// Records that `node` runs an instance. Idempotent: the same node and namespace IP get the same answer. A late repeat must
    /// not bring back what was detached since: the request is older than the [`Detach`] of its namespace IP then, and is refused.
    /// `settings` are those
    /// of an instance that is new or comes from another node, where they say nothing those that it had; one that runs on `node`
    /// already keeps its own.
    ///
    /// # Errors
    /// [`Denied`].
    fn attach(&mut self, now: Instant, node: NodeId, attach: &Attach, settings: Adjustment)
    -> Result<Attached, Denied>;

    /// Records that `node` does not run an instance any more. Idempotent: one that is gone is fine.
    ///
    /// # Errors
    /// [`Denied`], for instance when the instance runs on another node.
    fn detach(&mut self, now: Instant, node: NodeId, detach: &Detach) -> Result<(), Denied>;

    /// Changes how an instance that `node` runs is picked. Idempotent: an [`Adjust`] whose turn is not
    /// [after](super::message::Turn::is_after) the last one for the instance, a restart of the directory included, is fine and
    /// changes nothing. The turn of the [`Attach`] that brought the instance to the node counts as one.
    ///
    /// # Errors
    /// [`Denied`], for instance when the instance is gone or runs on another node.
    fn adjust(&mut self, now: Instant, node: NodeId, adjust: &Adjust) -> Result<(), Denied>;

    /// `node` believes to be somewhere: tables say so of its instances from now on. Not stored, because nodes say it again. False when
    /// it comes too soon after the one before, and is to be repeated: everyone who follows an instance of the node hears of it.
    /// Idempotent. A directory that has no use for it is done with it.
    fn report(&mut self, _now: Instant, _node: NodeId, _report: &Report) -> bool {
        true
    }

    /// Finds what a key names: a service IP its whole service, an instance IP that one instance.
    fn resolve(&mut self, key: &ResolveKey) -> Lookup;

    /// The version of a service's table; none when the service is gone.
    fn version(&self, service: ServiceId) -> Option<u32>;

    /// The version in which the service's header (name, addresses) last changed.
    fn header_version(&self, service: ServiceId) -> u32;

    /// The service's name and addresses.
    fn header(&self, service: ServiceId) -> Option<ServiceHeader>;

    /// The lowest-numbered instance from number `from` on that changed after version `since` (0: everything that is there;
    /// removals are not reported then).
    fn next_change(&self, service: ServiceId, from: u32, since: u32) -> Option<Change>;

    /// The oldest version from which `next_change` still reports every removal. Clients behind it get the whole table.
    fn patchable_since(&self, service: ServiceId) -> u32;

    /// A node's lease has ended, or it is heard from again.
    fn set_alive(&mut self, now: Instant, node: NodeId, alive: bool);

    /// Every client that is interested in the service has acknowledged all changes up to `version`: addresses that were
    /// withdrawn in it or before start their quarantine.
    fn acknowledged(&mut self, now: Instant, service: ServiceId, version: u32);

    /// The instances that ran on `node` and were not attached again since `epoch` began are withdrawn.
    fn settle(&mut self, now: Instant, node: NodeId, epoch: u32);

    /// Whether a client is a cluster, whose nodes' requests it passes on.
    fn is_cluster(&self, _client: NodeId) -> bool {
        false
    }

    /// Whether `cluster` may speak for the node with this key: the node was let in through it.
    fn is_behind(&self, _cluster: NodeId, _node: &NodeKey) -> bool {
        false
    }

    /// As [`hello`](Self::hello), said through a cluster. Pending when the node is heard from through somebody else.
    ///
    /// # Errors
    /// [`Denied`].
    fn hello_through(
        &mut self,
        _now: Instant,
        _cluster: NodeId,
        _from: Sender,
        _hello: &Hello,
    ) -> Result<Admission, Denied> {
        Err(Denied::Refused(Refusal::NotANode))
    }

    /// What a key is here.
    fn key_standing(&self, _now: Instant, _key: &NodeKey) -> KeyStanding {
        KeyStanding::Unknown
    }

    /// A cluster says that a node of its own is heard from, or is not any more.
    fn set_alive_through(&mut self, _now: Instant, _cluster: NodeId, _node: NodeId, _alive: bool) {}

    /// A client begins to follow a subject.
    fn opened(&mut self, _subject: Subject) {}

    /// A client does not follow a subject any more.
    fn closed(&mut self, _subject: Subject) {}

    /// A service whose table changed since the last call of this method, for the server to tell its clients. Drains.
    fn poll_changed(&mut self) -> Option<ServiceId>;
}
