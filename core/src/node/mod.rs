//! The engine of a node: router, table protocol and waiting packets behind one sans-IO interface.
//!
//! A shell owns the network. It passes in what arrives ([`Node::handle_tun`], [`Node::handle_payload`]) and the time
//! ([`Node::handle_timeout`]), does at once what the returned [`Action`] says, and then takes what else there is
//! ([`Node::poll_output`], [`Node::poll_peer`], [`Node::poll_event`]) until there is nothing more. Sealing and opening
//! payloads is the shell's.

#[cfg(all(target_os = "none", target_pointer_width = "32"))]
mod budget;
mod lookups;
mod measuring;
mod orders;
mod pending;

use crate::addr::{AddressPlan, Dual, WorkerSubnet};
use crate::coordinate::Coordinate;
use crate::flow::Lifetimes;
use crate::ids::{InstanceId, NodeKey};
use crate::index::HashKey;
use crate::measure::probes::Probes;
use crate::mtu::OverlayMtu;
use crate::packet::{Offload, View};
use crate::policy::Registry;
use crate::router::{Attachment, Router, Verdict};
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::sync::Client;
use crate::sync::client::{Outcome, Profile, RequestId};
use crate::sync::message::{
    Adjustment, AttachKind, DecodeError, ManagerRecord, Message, NodeRecord, PageKind, TablePage,
};
use crate::table::{Node as Peer, TableFull};
use crate::time::{Duration, Instant};
use lookups::reason_of;
use measuring::{Measuring, Step};
pub use orders::{Action, Output, PeerNews};
pub use pending::PENDING_LEN;
use pending::{Origin, Pending};

/// How many flows are looked at per round of [`Node::handle_timeout`].
const FLOWS_PER_ROUND: usize = 1024;
/// How often flows are looked at, at most.
const FLOW_ROUND: Duration = Duration::from_millis(250);

/// How long a node is remembered that nothing needs any more. It may still need this one: it does not lose its interest at the same
/// moment, and a tunnel that only one of two has forgotten swallows what the other sends. So this is longer than a WireGuard
/// session that began before the interest ended can be sent on (REJECT_AFTER_TIME of one that was renewed after REKEY_AFTER_TIME).
pub const PEER_LINGER: Duration = Duration::from_secs(300);

/// How often nodes are looked for that nothing needs, at most.
const PEER_ROUND: Duration = Duration::from_secs(1);

/// What a node is started with.
pub struct NodeConfig<'a> {
    /// The address plan; the same in the whole network.
    pub plan: AddressPlan,
    /// The policies.
    pub registry: Registry,
    /// How long flows live.
    pub lifetimes: Lifetimes,
    /// The secret of all hashes: from the shell's entropy, new with every start.
    pub hash_key: HashKey,
    /// What the node says of itself.
    pub profile: Profile,
    /// The managers to speak to.
    pub managers: &'a [ManagerRecord],
}

/// The engine of one node. All zero when new.
///
/// Capacities: `S` services, `I` instances, `N` nodes, `F` flows, `L` attachments, `P` waiting packets and look-ups.
pub struct Node<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize> {
    router: Router<S, I, N, F, L>,
    client: Client<I, P, L>,
    pending: Pending<P>,
    probes: Probes,
    /// How a node measures that does.
    measuring: Option<Measuring<Self>>,
    own: RowRef,
    lost: heapless::Deque<InstanceId, L>,
    next_flow_round: Instant,
    next_peer_round: Instant,
    /// When the next node is forgotten; none when none is to be.
    next_forgetting: Option<Instant>,
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>
    Node<S, I, N, F, L, P>
{
    /// A node that does nothing until it is started.
    pub const fn new() -> Self {
        Self {
            router: Router::new(),
            client: Client::new(),
            pending: Pending::new(),
            probes: Probes::new(),
            measuring: None,
            own: RowRef::NONE,
            lost: heapless::Deque::new(),
            next_flow_round: Instant::ZERO,
            next_peer_round: Instant::ZERO,
            next_forgetting: None,
        }
    }

    /// Starts the node. Once, before anything else.
    ///
    /// # Errors
    /// [`TableFull`] when its managers do not fit into its table.
    pub fn start(&mut self, now: Instant, config: NodeConfig<'_>) -> Result<(), TableFull> {
        self.router.configure(config.plan, config.registry, config.lifetimes, config.hash_key);
        self.pending.set_hash_key(config.hash_key);
        self.probes.seed(config.hash_key.hash(b"probes"));
        let own = NodeRecord { key: config.profile.key, epoch: config.profile.epoch, ..NodeRecord::default() };
        let slot = self.router.table.put_node(&own)?;
        self.own = self.router.table.node_ref(slot).unwrap_or_default();
        if let Some(node) = self.router.table.node_mut(slot) {
            node.is_self = true;
        }
        self.client.start(now, config.profile, config.managers, config.hash_key);
        self.note_managers()
    }

    /// The tables, flows, attachments and counters, to look at.
    pub fn router(&self) -> &Router<S, I, N, F, L> {
        &self.router
    }

    /// The table protocol's client, to look at.
    pub fn client(&self) -> &Client<I, P, L> {
        &self.client
    }

    /// Packets that wait for a table.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The peer that a reference names.
    pub fn peer(&self, peer: RowRef) -> Option<&Peer> {
        self.router.table.node_ref(peer.row()).filter(|current| *current == peer)?;
        self.router.table.node(peer.row())
    }

    /// What names the peer with this key, this node itself included.
    pub fn find_peer(&self, key: &NodeKey) -> Option<RowRef> {
        self.router.table.find_node(key).and_then(|slot| self.router.table.node_ref(slot))
    }

    /// Handles a packet that a local application sent. `reply`, which needs room for
    /// [`MAX_REPLY_LEN`](crate::packet::reply::MAX_REPLY_LEN) bytes, is written when the [`Action`] says so.
    pub fn handle_tun(&mut self, now: Instant, packet: &mut [u8], offload: Offload, reply: &mut [u8]) -> Action {
        if self.queue_behind(Origin::Local, packet, offload) {
            return Action::Nothing;
        }
        match self.router.outbound(now, packet, offload, reply) {
            Verdict::Wait { address, asker } => self.look_up(now, address, asker, packet, offload, reply),
            verdict => self.act(verdict),
        }
    }

    /// Handles an opened payload of a peer: a packet, or a message of the table protocol.
    pub fn handle_payload(&mut self, now: Instant, peer: RowRef, payload: &mut [u8]) -> Action {
        let Some(node) = self.peer(peer) else {
            return self.drop(DropReason::UnknownPeer);
        };
        let (key, is_manager) = (node.key, node.manager);
        match payload.first() {
            None => Action::Nothing,
            Some(first) if first >> 4 == 0 => {
                if let Some(action) = self.handle_probe(now, peer, payload) {
                    return action;
                }
                if !is_manager {
                    return self.drop(DropReason::NotAManager);
                }
                self.handle_control(now, &key, payload)
            }
            Some(_) if self.queue_behind(Origin::Peer(peer), payload, Offload::NONE) => Action::Nothing,
            Some(_) => match self.router.inbound(now, peer.row(), payload, Offload::NONE) {
                Verdict::Wait { address, .. } => {
                    let len = View::parse(payload, Offload::NONE).map_or(payload.len(), |view| view.total_len());
                    match self.client.resolve(now, address, None) {
                        Ok(()) => {
                            self.wait(
                                address,
                                Origin::Peer(peer),
                                payload.get(..len).unwrap_or(payload),
                                Offload::NONE,
                            );
                            Action::Nothing
                        }
                        Err(answer) => self.drop(reason_of(answer)),
                    }
                }
                verdict => self.act(verdict),
            },
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        // In this order: a flow ends an interest, and that the use of a node.
        if self.flows_due().is_some_and(|due| now >= due) {
            let next = self.router.expire_flows(now, FLOWS_PER_ROUND);
            self.next_flow_round = next.max(now.saturating_add(FLOW_ROUND));
        }
        self.measuring(now, Step::Choose);
        self.client.handle_timeout(now, &mut self.router);
        self.release_answered();
        if self.peers_due().is_some_and(|due| now >= due) {
            self.next_peer_round = now.saturating_add(PEER_ROUND);
            self.next_forgetting = self.router.table.end_idle_nodes(now, PEER_LINGER);
        }
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_output`] has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.pending.has_ready() || self.router.is_sweeping() {
            return Some(Instant::ZERO);
        }
        let due =
            [self.client.poll_timeout(&self.router), self.probes.poll_timeout(), self.flows_due(), self.peers_due()];
        due.into_iter().flatten().min()
    }

    /// When flows are to be looked at; none while there are none.
    fn flows_due(&self) -> Option<Instant> {
        (!self.router.flows.is_empty()).then_some(self.next_flow_round)
    }

    /// When nodes are to be looked at; none while none is idle.
    fn peers_due(&self) -> Option<Instant> {
        let news = self.router.table.has_idle_news().then_some(Instant::ZERO);
        news.or(self.next_forgetting).map(|due| due.max(self.next_peer_round))
    }

    /// The next thing to send, written into `out`, which needs room for [`PENDING_LEN`] bytes.
    pub fn poll_output(&mut self, now: Instant, out: &mut [u8]) -> Option<Output> {
        self.release_answered();
        // One round at a time, so that packets are not held up by a long table.
        if self.router.is_sweeping()
            && let Some(len) = self.router.poll_sweep(FLOWS_PER_ROUND, out)
        {
            return Some(Output::Local { len, offload: Offload::NONE });
        }
        while let Some(taken) = self.pending.pop_ready() {
            let verdict = self.go_on(now, &taken, out);
            let offload = taken.offload;
            let (len, output) = match self.act(verdict) {
                Action::Forward { peer, len } => (len, Output::Peer { peer, len, offload }),
                Action::Fragment { peer, len, mtu } => (len, Output::Fragments { peer, len, offload, mtu }),
                Action::Deliver { len } => (len, Output::Local { len, offload }),
                Action::Reply { len } => return Some(Output::Local { len, offload: Offload::NONE }),
                Action::Nothing => continue,
            };
            out.get_mut(..len)?.copy_from_slice(self.pending.packet(&taken).get(..len)?);
            return Some(output);
        }
        if let Some(probe) = self.poll_probe(now, out) {
            return Some(probe);
        }
        let (key, len) = self.client.poll_transmit(now, &self.router, out)?;
        let peer = self.find_peer(&key)?;
        Some(Output::Peer { peer, len, offload: Offload::NONE })
    }

    /// The next change among the nodes that this one talks to.
    pub fn poll_peer(&mut self) -> Option<PeerNews> {
        if let Some((peer, key)) = self.router.table.poll_node_gone() {
            return Some(PeerNews::Gone { peer, key });
        }
        while let Some((peer, restarted)) = self.router.table.poll_node_news() {
            let Some(node) = self.router.table.node(peer.row()) else {
                continue;
            };
            if node.is_self {
                continue;
            }
            return Some(PeerNews::Known { peer, key: node.key, endpoint: node.endpoint, restarted });
        }
        None
    }

    /// The next outcome of a request, or the loss of an instance that was attached here.
    pub fn poll_event(&mut self) -> Option<(Option<RequestId>, Outcome)> {
        if let Some(instance) = self.lost.pop_front() {
            return Some((None, Outcome::Lost(instance, crate::sync::message::Refusal::Moved)));
        }
        let (request, outcome) = self.client.poll_outcome()?;
        if let Outcome::Lost(instance, _) = outcome {
            self.remove_attachment(instance);
        }
        Some((Some(request), outcome))
    }

    /// A tunnel to the peer is set up, or has been set up anew.
    pub fn peer_established(&mut self, now: Instant, peer: RowRef) {
        if self.peer(peer).is_some()
            && let Some(node) = self.router.table.node_mut(peer.row())
        {
            node.avoided = false;
            let is_manager = node.manager;
            self.measuring(now, Step::Established(peer));
            if is_manager && !self.client.is_connected(now) {
                self.client.hello_now(now);
            }
        }
    }

    /// The peer does not answer: it is avoided for new flows until it does.
    pub fn peer_unreachable(&mut self, peer: RowRef) {
        if self.peer(peer).is_some()
            && let Some(node) = self.router.table.node_mut(peer.row())
        {
            node.avoided = true;
        }
    }

    /// Sets what fits every path that nothing smaller was learned of.
    pub fn set_overlay_mtu(&mut self, mtu: OverlayMtu) {
        self.router.set_overlay_mtu(mtu);
    }

    /// The path to the peer takes no more than this: packets that are longer are answered or cut, for
    /// [`PATH_MTU_LIFETIME`](crate::router::PATH_MTU_LIFETIME).
    pub fn learn_path_mtu(&mut self, now: Instant, peer: RowRef, mtu: OverlayMtu) {
        if self.peer(peer).is_some() {
            self.router.learn_path_mtu(now, peer.row(), mtu);
        }
    }

    /// Somebody wants a tunnel under a key that is not in the table: the manager is asked whose it is. When it is a node's, it
    /// comes as [`PeerNews::Known`].
    pub fn unknown_key(&mut self, now: Instant, key: NodeKey) {
        self.client.resolve_node(now, key);
    }

    /// Sets the subnets before the manager has said them: what it said last time.
    pub fn set_subnet(&mut self, subnet: WorkerSubnet) {
        self.router.set_subnet(subnet);
    }

    /// Asks the manager to attach an instance; the outcome comes through [`Self::poll_event`]. None when there is no room for
    /// another one, or too many requests are under way.
    pub fn attach(&mut self, now: Instant, kind: AttachKind, namespace_ip: Dual) -> Option<RequestId> {
        self.attach_as(now, kind, namespace_ip, Adjustment::default())
    }

    /// The same for an instance that is to be picked as `settings` say from its first moment on. One that runs on this node
    /// already is left as it is.
    pub fn attach_as(
        &mut self,
        now: Instant,
        kind: AttachKind,
        namespace_ip: Dual,
        settings: Adjustment,
    ) -> Option<RequestId> {
        let taken = self.router.attachments.len().saturating_add(self.client.attaching());
        if taken >= L {
            return None;
        }
        self.client.attach(now, kind, namespace_ip, settings)
    }

    /// Puts an instance in that has been running here all the while, and tells the manager.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for another attachment.
    pub fn resume(&mut self, now: Instant, attachment: Attachment) -> Result<(), TableFull> {
        if self.router.attachments.put(attachment)? {
            self.router.begin_sweep();
        }
        self.client.resume(now, &attachment);
        Ok(())
    }

    /// Takes an instance out at once, and tells the manager. None when too many requests are under way: nothing has changed
    /// then.
    pub fn detach(&mut self, now: Instant, instance: InstanceId) -> Option<RequestId> {
        let request = self.client.detach(now, instance)?;
        self.remove_attachment(instance);
        Some(request)
    }

    /// Asks the manager to have an instance of this node picked otherwise from now on; the outcome comes through
    /// [`Self::poll_event`]. Several for one instance happen in the order of these calls. None when too many requests are under
    /// way.
    pub fn adjust(&mut self, now: Instant, instance: InstanceId, change: Adjustment) -> Option<RequestId> {
        self.client.adjust(now, instance, change)
    }

    /// Speaks through the join key from now on, or under the own key: what was tried before got no answer. The shell changes the key of
    /// its tunnels to the managers with it. Not for a node that is a member.
    pub fn set_joining(&mut self, now: Instant, joining: bool) {
        self.client.set_joining(now, joining);
    }

    /// Gives a request up; what it would have brought does not come any more.
    pub fn cancel(&mut self, request: RequestId) {
        self.client.cancel(request);
    }

    /// Sets the round trip to a peer that the shell has measured; the policies go by it. Nothing happens when the peer is gone.
    pub fn set_round_trip(&mut self, peer: RowRef, round_trip: Duration) {
        if self.peer(peer).is_some() {
            self.router.table.set_round_trip(peer.row(), Some(round_trip));
        }
    }

    /// Sets this node's own network coordinates; distances to nodes without a measured round trip are predicted from them.
    pub fn set_coordinate(&mut self, coordinate: Coordinate) {
        self.router.table.set_coordinate(coordinate);
    }

    /// Handles a message of a manager. By itself, because packets should not need the stack that a message has to have.
    #[inline(never)]
    fn handle_control(&mut self, now: Instant, from: &NodeKey, payload: &[u8]) -> Action {
        let decoded = Message::decode(payload);
        // Looked at in its place.
        let message = match &decoded {
            Ok(message) => message,
            Err(error) => {
                if let DecodeError::Version(version) = error {
                    self.client.note_version(*version);
                }
                return self.drop(DropReason::BadControl);
            }
        };
        self.client.note_version(0);
        self.client.handle(now, from, message, &mut self.router);
        match message {
            Message::Welcome(_) if self.note_managers().is_err() => {
                self.client.counters.table_full = self.client.counters.table_full.wrapping_add(1);
            }
            Message::Table(page) => {
                self.measuring(now, Step::Soon);
                self.notice_losses(page);
            }
            _ => {}
        }
        self.release_answered();
        Action::Nothing
    }

    /// An attached instance whose own stream says that it runs elsewhere, or not at all, is not this node's any more.
    fn notice_losses(&mut self, page: &TablePage) {
        let Some(number) = page.subject.instance else {
            return;
        };
        let id = InstanceId { service: page.subject.service, number };
        if !self.router.attachments.iter().any(|a| a.id == id) || !self.client.is_latest(page) {
            return;
        }
        let elsewhere = page.records.iter().any(|record| {
            record.number == number
                && page
                    .nodes
                    .iter()
                    .any(|n| n.id == record.node && self.peer(self.own).is_some_and(|own| own.key != n.key))
        });
        let there = page.records.iter().any(|record| record.number == number);
        let withdrawn = match page.kind {
            PageKind::Gone => true,
            PageKind::Replace { from, to } => !there && from <= number && to.is_none_or(|to| number < to),
            PageKind::Patch => !there && page.removed.contains(&number),
        };
        if elsewhere || withdrawn {
            self.remove_attachment(id);
            let _ = self.lost.push_back(id);
        }
    }

    fn remove_attachment(&mut self, instance: InstanceId) {
        if self.router.attachments.remove(instance).is_some() {
            self.router.begin_sweep();
        }
        self.client.unpin(instance);
    }

    /// Holds the managers in the table, marked as such.
    fn note_managers(&mut self) -> Result<(), TableFull> {
        let mut managers = heapless::Vec::<ManagerRecord, { crate::sync::message::MANAGERS_MAX }>::new();
        for manager in self.client.managers() {
            // The client's list has the same capacity: nothing can be left over.
            let _ = managers.push(*manager);
        }
        for slot in 0..N {
            let is_manager = |key| managers.iter().any(|m| m.key == key);
            // A node that is touched counts as one that may be idle.
            if self.router.table.node(slot).is_some_and(|node| node.manager != is_manager(node.key))
                && let Some(node) = self.router.table.node_mut(slot)
            {
                node.manager = is_manager(node.key);
            }
        }
        for manager in &managers {
            let record = NodeRecord { key: manager.key, endpoint: manager.endpoint, ..NodeRecord::default() };
            let slot = self.router.table.put_node(&record)?;
            if self.router.table.node(slot).is_some_and(|node| !node.manager)
                && let Some(node) = self.router.table.node_mut(slot)
            {
                node.manager = true;
            }
        }
        Ok(())
    }

    fn act(&self, verdict: Verdict) -> Action {
        match verdict {
            Verdict::Forward { node, len } => match self.router.table.node_ref(node) {
                Some(peer) => Action::Forward { peer, len },
                None => Action::Nothing,
            },
            Verdict::Fragment { node, len, mtu } => match self.router.table.node_ref(node) {
                Some(peer) => Action::Fragment { peer, len, mtu },
                None => Action::Nothing,
            },
            Verdict::Deliver { len } => Action::Deliver { len },
            Verdict::Reply { len, .. } => Action::Reply { len },
            Verdict::Wait { .. } | Verdict::Drop(_) => Action::Nothing,
        }
    }

    fn drop(&mut self, reason: DropReason) -> Action {
        self.router.counters.count(reason);
        Action::Nothing
    }
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize> Default
    for Node<S, I, N, F, L, P>
{
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
