//! The nodes of the table: who they are, what has changed of them, and which are of no use any more.

use super::rows::News;
use super::{Kind, Node, Table, TableFull};
use crate::ids::NodeKey;
use crate::slots::RowRef;
use crate::sync::message::NodeRecord;
use crate::time::{Duration, Instant};

impl<const S: usize, const I: usize, const N: usize> Table<S, I, N> {
    /// Finds or makes the row of a node, and takes over what the record says of it.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for another node.
    pub fn put_node(&mut self, record: &NodeRecord) -> Result<usize, TableFull> {
        const FULL: fn(usize) -> TableFull = |limit| TableFull { kind: Kind::Nodes, limit };
        if let Some(slot) = self.find_node(&record.key) {
            let node = self.nodes.get_mut(slot).ok_or(FULL(N))?;
            if record.endpoint.get().is_some() && node.endpoint != record.endpoint {
                node.endpoint = record.endpoint;
                node.news = node.news.max(News::Changed);
            }
            if record.epoch != 0 && node.epoch != record.epoch {
                let news = if node.epoch != 0 { News::Restarted } else { News::Changed };
                node.news = node.news.max(news);
                node.epoch = record.epoch;
                node.avoided = false;
            }
            if record.id.0 != 0 {
                node.id = record.id;
            }
            self.node_news |= node.news != News::None;
            return Ok(slot);
        }
        let taken = self.node_slots.take().or_else(|| {
            let idle = self.find_idle_node()?;
            self.end_node(idle);
            self.node_slots.take()
        });
        let slot = taken.ok_or(FULL(N))?.row();
        if let Some(node) = self.nodes.get_mut(slot) {
            *node =
                Node { id: record.id, key: record.key, endpoint: record.endpoint, epoch: record.epoch, ..Node::EMPTY };
            node.news = News::Changed;
            self.node_news = true;
            self.node_idle = true;
        }
        self.nodes_by_key.insert(self.hash.hash(&record.key.0), slot, 0);
        Ok(slot)
    }

    /// A node that is new or has changed since it was last asked for, and whether it has been started again meanwhile.
    pub(crate) fn poll_node_news(&mut self) -> Option<(RowRef, bool)> {
        if !self.node_news {
            return None;
        }
        let found = self.node_slots.iter().find(|slot| self.nodes.get(*slot).is_some_and(|n| n.news != News::None));
        let Some(slot) = found else {
            self.node_news = false;
            return None;
        };
        let node = self.nodes.get_mut(slot)?;
        let restarted = node.news == News::Restarted;
        node.news = News::None;
        Some((self.node_slots.reference(slot)?, restarted))
    }

    /// Changes what the engine itself notes about a node.
    pub fn node_mut(&mut self, slot: usize) -> Option<&mut Node> {
        if !self.node_slots.is_used(slot) {
            return None;
        }
        self.node_idle = true;
        self.nodes.get_mut(slot)
    }

    /// Changes how a node is measured, which makes it no more and no less idle.
    pub(crate) fn node_measured(&mut self, slot: usize) -> Option<&mut Node> {
        if self.node_slots.is_used(slot) { self.nodes.get_mut(slot) } else { None }
    }

    /// Whether some node may have become idle since [`Self::end_idle_nodes`].
    pub(crate) fn has_idle_news(&self) -> bool {
        self.node_idle
    }

    /// Notes which nodes are idle, and takes out those that nothing has needed for `linger`. Returns when the next one's time is over.
    pub(crate) fn end_idle_nodes(&mut self, now: Instant, linger: Duration) -> Option<Instant> {
        self.node_idle = false;
        let mut next: Option<Instant> = None;
        for slot in 0..self.node_slots.high_water() {
            if !self.node(slot).is_some_and(Node::is_idle) {
                continue;
            }
            let Some(node) = self.nodes.get_mut(slot) else {
                continue;
            };
            if node.idle_since == Instant::ZERO {
                node.idle_since = now;
            }
            let end = node.idle_since.saturating_add(linger);
            if now < end || !self.end_node(slot) {
                next = Some(next.map_or(end, |next| next.min(end)));
            }
        }
        next
    }

    /// A node that was taken out, until all of them have been told.
    pub(crate) fn poll_node_gone(&mut self) -> Option<(RowRef, NodeKey)> {
        self.nodes_gone.pop_front()
    }

    /// The node that nothing has needed for longest.
    fn find_idle_node(&self) -> Option<usize> {
        let idle = |slot: usize| self.node(slot).filter(|node| node.is_idle());
        let slots = self.node_slots.iter();
        let idle = slots.filter_map(|slot| Some((idle(slot)?.idle_since, slot)));
        // What has not been noted has begun last.
        let since = |since: Instant| if since == Instant::ZERO { Instant::MAX } else { since };
        idle.min_by_key(|(at, _)| since(*at)).map(|(_, slot)| slot)
    }

    /// Takes a node out. False when too many have been that were not told yet.
    fn end_node(&mut self, slot: usize) -> bool {
        let gone = self.node_slots.reference(slot);
        let Some((peer, key)) = gone.and_then(|peer| Some((peer, self.node(slot)?.key))) else {
            return false;
        };
        if self.nodes_gone.push_back((peer, key)).is_err() {
            return false;
        }
        self.nodes_by_key.remove(self.hash.hash(&key.0), slot, 0);
        self.node_slots.give_back(slot);
        true
    }

    pub(super) fn hold_node(&mut self, slot: usize) {
        if let Some(node) = self.nodes.get_mut(slot) {
            node.holds = node.holds.saturating_add(1);
            node.idle_since = Instant::ZERO;
        }
    }

    pub(super) fn release_node_of(&mut self, instance: usize) {
        let Some(slot) = self.instances.get(instance).map(|i| i.node) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(slot) {
            node.holds = node.holds.saturating_sub(1);
            self.node_idle |= node.holds == 0;
        }
    }
}
