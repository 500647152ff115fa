//! Walks through a table, page by page: what goes into the next page, when it is sent, and when again.

use core::time::Duration;

use heapless::Vec;

use super::counters::bump;
use super::sessions::Standing;
use super::streams::{Phase, Stream, Walk, Window};
use super::{Server, acknowledged};
use crate::ids::{NodeId, NodeKey, ServiceId};
use crate::sync::Backoff;
use crate::sync::directory::{Change, Directory};
use crate::sync::message::{Message, PageKind, TablePage};
use crate::time::Instant;

/// When a page that is not acknowledged is sent again.
const REPEAT: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(2) };

impl<const C: usize, const S: usize> Server<C, S> {
    /// Does what is due on a stream: sends its next page, or the outstanding one again. None when nothing is to be sent.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        row: usize,
        directory: &mut impl Directory,
        out: &mut [u8],
    ) -> Option<(NodeKey, usize)> {
        let client = self.streams.get(row)?.client as usize;
        let session = self.sessions.get(client).copied()?;
        if session.standing != Standing::Alive {
            // Its streams are woken when it is heard from again.
            return None;
        }
        if self.streams.get(row)?.phase == Phase::Idle {
            let limit = session.capacities.instances.max(1);
            if !self.begin_walk(now, row, session.node, limit, directory) {
                return None;
            }
        }
        let stream = self.streams.get(row)?;
        let is_repeat = stream.phase == Phase::Sent;
        let draft = Draft::new(stream, directory);
        if !is_repeat && let Some(until) = self.introduce(now, row, &draft.page.nodes, directory) {
            self.streams.due.set(row, until);
            return None;
        }
        let encoded = draft.encode(out);
        let stream = self.streams.get_mut(row)?;
        if is_repeat {
            stream.tries = stream.tries.saturating_add(1);
        } else {
            stream.tries = 0;
            stream.sequence = stream.sequence.wrapping_add(1);
            stream.phase = Phase::Sent;
            (stream.header_sent, stream.end) = (0, None);
        }
        let again = now.saturating_add(REPEAT.after(stream.tries));
        if let Some(encoded) = &encoded {
            stream.end = encoded.end;
            stream.stale |= encoded.stale;
            if !is_repeat {
                stream.header_sent = encoded.header;
            }
        }
        self.streams.due.set(row, again);
        let Some(encoded) = encoded else {
            bump(&mut self.counters.no_room);
            return None;
        };
        bump(if is_repeat { &mut self.counters.repeats } else { &mut self.counters.pages });
        Some((session.key, encoded.length))
    }

    /// Begins to tell an idle stream's client what it does not know yet. False when it knows everything.
    ///
    /// A client is sent at most `limit` instances of a subject: those that follow a place which depends on the client, so
    /// that different clients get different ones. Such a table is sent whole after every change, because an instance may
    /// come into the client's part without having changed itself.
    fn begin_walk(
        &mut self,
        now: Instant,
        row: usize,
        client: NodeId,
        limit: u32,
        directory: &mut impl Directory,
    ) -> bool {
        let Some(stream) = self.streams.get(row).copied() else {
            return false;
        };
        let service = stream.subject.service;
        let single = stream.subject.instance;
        let there = |number| matches!(directory.next_change(service, number, 0), Some(Change::Present(record)) if record.number == number);
        let version = directory.version(service).filter(|_| single.is_none_or(there));
        let Some(version) = version else {
            return self.set_walk(row, Walk::Gone, 0, Window::default());
        };
        if version == stream.held && !stream.probe {
            return false;
        }
        let mut window = Window::default();
        if single.is_none() {
            let count = self.streams.instances(row, version, || count(service, directory));
            if count > limit {
                bump(&mut self.counters.limited);
                window = cut(service, client, limit, count, directory);
            }
        }
        let anew = stream.held == 0
            || stream.held < directory.patchable_since(service)
            || window.limited
            || stream.window.limited;
        if !anew && !stream.probe && directory.header_version(service) <= stream.header_held {
            let change = directory.next_change(service, single.unwrap_or(0), stream.held);
            if change.is_none_or(|change| single.is_some_and(|number| number != change.number())) {
                // Nothing that concerns this subject has changed: the client holds this version already.
                let is_cluster = self.is_cluster_stream(row);
                let Some(stream) = self.streams.get_mut(row) else {
                    return false;
                };
                let was_settled = !is_cluster || stream.is_confirmed();
                stream.held = version;
                if !was_settled {
                    // Its nodes may not have the page before yet.
                    return false;
                }
                let risen = self.streams.confirm(row, version);
                acknowledged(now, service, risen, directory);
                return false;
            }
        }
        let walk = if anew { Walk::Replace } else { Walk::Patch };
        self.set_walk(row, walk, version, window)
    }

    fn set_walk(&mut self, row: usize, walk: Walk, target: u32, window: Window) -> bool {
        let Some(stream) = self.streams.get_mut(row) else {
            return false;
        };
        stream.phase = Phase::Ready;
        stream.walk = walk;
        stream.target = target;
        stream.position = stream.subject.instance.unwrap_or(0);
        stream.window = window;
        stream.stale = false;
        stream.probe = false;
        stream.hold_until = Instant::ZERO;
        true
    }
}

/// How many instances a service has.
fn count(service: ServiceId, directory: &impl Directory) -> u32 {
    let mut count = 0u32;
    let mut from = Some(0);
    while let Some(change) = from.and_then(|from| directory.next_change(service, from, 0)) {
        count = count.saturating_add(1);
        from = change.number().checked_add(1);
    }
    count
}

/// The part of a table of `count` instances that a client which can hold only `limit` gets.
fn cut(service: ServiceId, client: NodeId, limit: u32, count: u32, directory: &impl Directory) -> Window {
    let first = client.0.wrapping_mul(0x9e37_79b9).checked_rem(count).unwrap_or(0);
    let last = u64::from(first).saturating_add(u64::from(limit)).saturating_sub(1).checked_rem(u64::from(count));
    let mut window = Window { limited: true, first: 0, last: 0 };
    let mut rank = 0u32;
    let mut from = Some(0);
    while let Some(change) = from.and_then(|from| directory.next_change(service, from, 0)) {
        if rank == first {
            window.first = change.number();
        }
        if Some(u64::from(rank)) == last {
            window.last = change.number();
        }
        rank = rank.saturating_add(1);
        from = change.number().checked_add(1);
    }
    window
}

/// A page that may still be too long.
struct Draft {
    page: TablePage,
    /// The first number that it does not cover; none when it is the last of its walk.
    end: Option<u32>,
    header: u32,
    stale: bool,
}

/// A page as it was written.
struct Encoded {
    length: usize,
    end: Option<u32>,
    /// The version of the header in it, 0 when there is none.
    header: u32,
    /// Removals may be missing.
    stale: bool,
}

impl Draft {
    /// Puts together the next page of a walk, or the outstanding one again.
    fn new(stream: &Stream, directory: &impl Directory) -> Self {
        let is_repeat = stream.phase == Phase::Sent;
        let service = stream.subject.service;
        let single = stream.subject.instance;
        let mut draft = Self {
            page: TablePage {
                subject: stream.subject,
                stream: stream.number,
                sequence: if is_repeat { stream.sequence } else { stream.sequence.wrapping_add(1) },
                more: false,
                kind: PageKind::Gone,
                header: None,
                nodes: Vec::new(),
                records: Vec::new(),
                removed: Vec::new(),
            },
            end: None,
            header: 0,
            stale: false,
        };
        let since = match stream.walk {
            Walk::Gone => return draft,
            Walk::Replace => 0,
            Walk::Patch => stream.held,
        };
        // Of a service that is gone meanwhile nothing is known, removals included.
        draft.stale =
            directory.version(service).is_none() || (since != 0 && since < directory.patchable_since(service));
        draft.page.kind = if since == 0 {
            PageKind::Replace { from: stream.position, to: single.and_then(|number| number.checked_add(1)) }
        } else {
            PageKind::Patch
        };
        let header = directory.header_version(service);
        let wanted = stream.sequence == 0 || header > stream.header_held;
        if wanted {
            draft.page.header = directory.header(service);
            draft.header = header;
        }
        // What is repeated covers no more than before: the client may have applied that page.
        let bound = if is_repeat { stream.end } else { None };
        let mut from = Some(stream.position);
        while let Some(change) = from.and_then(|from| directory.next_change(service, from, since)) {
            let number = change.number();
            if single.is_some_and(|single| single != number) || bound.is_some_and(|bound| number >= bound) {
                break;
            }
            if stream.window.covers(number) && !draft.push(change, directory) {
                draft.end = Some(number);
                break;
            }
            from = number.checked_add(1).filter(|_| single.is_none());
        }
        draft.end = draft.end.or(bound);
        draft
    }

    /// Adds a change; false when the page is full.
    fn push(&mut self, change: Change, directory: &impl Directory) -> bool {
        let record = match change {
            Change::Removed(number) => return self.page.removed.push(number).is_ok(),
            Change::Present(record) => record,
        };
        if self.page.records.push(record).is_err() {
            return false;
        }
        if !self.page.nodes.iter().any(|node| node.id == record.node)
            && let Some(node) = directory.node(record.node)
        {
            // There is room for as many nodes as records.
            let _ = self.page.nodes.push(node);
        }
        true
    }

    /// Takes the change with the highest number out; false when there is none.
    fn pop(&mut self) -> bool {
        let record = self.page.records.last().map(|record| record.number);
        let removed = self.page.removed.last().copied();
        if record.is_none() && removed.is_none() {
            return false;
        }
        self.end = record.max(removed);
        if record > removed {
            self.page.records.pop();
            let records = &self.page.records;
            self.page.nodes.retain(|node| records.iter().any(|record| record.node == node.id));
        } else {
            self.page.removed.pop();
        }
        true
    }

    /// Writes the page, with as much of it as there is room for; none when there is no room at all.
    fn encode(mut self, out: &mut [u8]) -> Option<Encoded> {
        loop {
            self.page.more = self.end.is_some();
            if let PageKind::Replace { to, .. } = &mut self.page.kind
                && self.page.subject.instance.is_none()
            {
                *to = self.end;
            }
            let message = Message::Table(self.page);
            let length = message.encode(out);
            let Message::Table(page) = message else {
                return None;
            };
            self.page = page;
            if let Ok(length) = length {
                return Some(Encoded { length, end: self.end, header: self.header, stale: self.stale });
            }
            // A page without a change in it would be followed by the same one.
            if !self.pop() || (self.page.records.is_empty() && self.page.removed.is_empty()) {
                return None;
            }
        }
    }
}
