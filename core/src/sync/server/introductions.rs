//! Introductions: the nodes in a table learn who is about to talk to them before the one who asked learns of them.

use core::time::Duration;

use super::Server;
use super::counters::bump;
use super::sessions::Standing;
use super::streams::Phase;
use crate::ids::{InstanceId, NodeId, NodeKey};
use crate::slots::RowRef;
use crate::sync::directory::{Change, Directory};
use crate::sync::message::{NodeRecord, SERVER_STREAMS, Subject};
use crate::time::Instant;

/// How long a table waits for the nodes in it to learn of the instance that asked for it.
pub const INTRODUCE_WAIT: Duration = Duration::from_millis(100);
/// How often a page looks whether it need not wait any longer, where nothing else tells it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl<const C: usize, const S: usize> Server<C, S> {
    /// Introduces a stream's asker to the nodes that its next page names. Returns until when the page is to wait for them.
    pub(super) fn introduce(
        &mut self,
        now: Instant,
        row: usize,
        nodes: &[NodeRecord],
        directory: &mut impl Directory,
    ) -> Option<Instant> {
        let stream = self.streams.get(row)?;
        let asker = stream.asker?;
        let client = stream.client as usize;
        let own = self.sessions.get(client)?.node;
        if !runs_on(asker, own, directory) {
            // It has moved or gone since; whoever runs it now asks for itself.
            self.streams.get_mut(row)?.asker = None;
            return None;
        }
        let mut until = Instant::ZERO;
        for node in nodes.iter().filter(|node| node.id != own) {
            let wait = self.introduce_to(now, row, client, asker, &node.key, directory);
            until = until.max(wait.unwrap_or(Instant::ZERO));
        }
        (until > now).then(|| until.min(now.saturating_add(LOOK_AGAIN)))
    }

    /// Introduces a stream's new asker to the nodes of the table that the client has already.
    pub(super) fn introduce_to_all(&mut self, now: Instant, row: usize, directory: &mut impl Directory) {
        let Some(stream) = self.streams.get(row).copied() else {
            return;
        };
        let Some(own) = self.sessions.get(stream.client as usize).map(|s| s.node) else {
            return;
        };
        let Some(asker) = stream.asker else { return };
        let mut last = NodeId(0);
        let mut from = Some(stream.subject.instance.unwrap_or(0));
        while let Some(change) = from.and_then(|from| directory.next_change(stream.subject.service, from, 0)) {
            from = change.number().checked_add(1).filter(|_| stream.subject.instance.is_none());
            if let Change::Present(record) = change
                && stream.subject.instance.is_none_or(|number| number == record.number)
                && record.node != own
                && record.node != last
                && let Some(node) = directory.node(record.node)
            {
                last = record.node;
                let _ = self.introduce_to(now, row, stream.client as usize, asker, &node.key, directory);
            }
        }
    }

    /// Sees to it that a node learns of the asker. Returns until when that is worth waiting for, none when it knows.
    fn introduce_to(
        &mut self,
        now: Instant,
        row: usize,
        client: usize,
        asker: InstanceId,
        key: &NodeKey,
        directory: &mut impl Directory,
    ) -> Option<Instant> {
        let peer = self.sessions.find_session(key)?;
        let session = self.sessions.get(peer)?;
        if peer == client || session.standing != Standing::Alive {
            return None;
        }
        let known = self
            .streams
            .find(peer, Subject::from(asker))
            .or_else(|| self.streams.find(peer, Subject::whole(asker.service)))
            .and_then(|known| self.streams.get(known));
        if let Some(known) = known {
            if known.held == 0 {
                return Some(known.opened.saturating_add(INTRODUCE_WAIT));
            }
            return is_newer(asker, known.held, directory).then(|| self.hold(now, row));
        }
        if self.streams.count_of_client(peer) >= session.capacities.instances {
            bump(&mut self.counters.introductions_full);
            return None;
        }
        let version = directory.version(asker.service)?;
        self.introduced = self.introduced.wrapping_add(1);
        let number = SERVER_STREAMS | self.introduced;
        let waiting = self.sessions.reference(client);
        let Some(opened) = self.streams.open(now, peer, Subject::from(asker), number, version) else {
            bump(&mut self.counters.introductions_full);
            return None;
        };
        directory.opened(Subject::from(asker));
        if let Some(stream) = self.streams.get_mut(opened) {
            stream.introduces = waiting;
        }
        bump(&mut self.counters.introductions);
        self.streams.due.set(opened, now);
        Some(now.saturating_add(INTRODUCE_WAIT))
    }

    /// A node that knows an older record of the asker is waited for once in a walk, not once for every page.
    fn hold(&mut self, now: Instant, row: usize) -> Instant {
        let Some(stream) = self.streams.get_mut(row) else {
            return now;
        };
        if stream.hold_until == Instant::ZERO {
            stream.hold_until = now.saturating_add(INTRODUCE_WAIT);
        }
        stream.hold_until
    }

    /// An introduction has arrived: the pages of the client that it was made for may go.
    pub(super) fn end_wait(&mut self, now: Instant, client: RowRef) {
        if !self.sessions.is_current(client) {
            return;
        }
        let mut at = self.streams.first_of_client(client.row());
        while let Some(row) = at {
            at = self.streams.next_of_client(row);
            if self.streams.get(row).is_some_and(|stream| stream.phase == Phase::Ready) {
                self.streams.due.set(row, now);
            }
        }
    }
}

/// Whether an instance runs on a node.
pub(super) fn runs_on(instance: InstanceId, node: NodeId, directory: &impl Directory) -> bool {
    let found = directory.next_change(instance.service, instance.number, 0);
    matches!(found, Some(Change::Present(record)) if record.number == instance.number && record.node == node)
}

/// Whether an instance has changed since a version.
fn is_newer(instance: InstanceId, since: u32, directory: &impl Directory) -> bool {
    directory
        .next_change(instance.service, instance.number, since)
        .is_some_and(|change| change.number() == instance.number)
}
