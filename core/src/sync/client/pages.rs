//! Table pages: which are believed, and what they change.

use super::interests::{Interests, State};
use super::{Client, INTEREST_IDLE, Replica};
use crate::addr::Dual;
use crate::ids::InstanceId;
use crate::sync::client::requests::{Outcome, RequestId};
use crate::sync::message::{Adjustment, AttachKind, PageKind, SERVER_STREAMS, Subject, TablePage};
use crate::time::Instant;

impl<const M: usize, const Q: usize, const R: usize> Client<M, Q, R> {
    /// Asks the manager to attach an instance that is to be picked as `settings` say; none when too many requests are under way.
    /// The outcome comes through [`Self::poll_outcome`].
    pub fn attach(
        &mut self,
        now: Instant,
        kind: AttachKind,
        namespace_ip: Dual,
        settings: Adjustment,
    ) -> Option<RequestId> {
        let number = self.next_number();
        self.requests.attach(now, number, kind, namespace_ip, settings)
    }

    /// Asks the manager to have an instance of this node picked otherwise; none when too many requests are under way. Several
    /// for one instance happen in the order of these calls.
    pub fn adjust(&mut self, now: Instant, instance: InstanceId, change: Adjustment) -> Option<RequestId> {
        let number = self.next_number();
        self.requests.adjust(now, number, instance, change)
    }

    /// Tells the manager that an instance does not run here any more; none when too many requests are under way.
    pub fn detach(&mut self, now: Instant, instance: InstanceId) -> Option<RequestId> {
        let number = self.next_number();
        self.requests.detach(now, number, instance)
    }

    /// Says that an instance has been running here all the while, as after a restart of the node.
    pub fn resume(&mut self, now: Instant, attachment: &crate::router::Attachment) {
        let number = self.next_number();
        self.requests.resume(now, number, attachment);
        self.pin(now, attachment.id);
    }

    /// An instance is not attached here any more: its interest may end.
    pub(crate) fn unpin(&mut self, id: InstanceId) {
        if let Some(interest) = self.interests.find(Subject::from(id)).and_then(|row| self.interests.get_mut(row)) {
            interest.pinned = false;
            self.next_idle = Instant::ZERO;
        }
    }

    /// Whether this page is the latest that is known of its subject.
    pub(crate) fn is_latest(&self, page: &TablePage) -> bool {
        self.interests
            .find(page.subject)
            .and_then(|row| self.interests.get(row))
            .is_none_or(|i| i.stream == page.stream && i.sequence == page.sequence)
    }

    /// Gives a request up.
    pub fn cancel(&mut self, request: RequestId) {
        self.requests.cancel(request);
    }

    /// The next outcome of a request.
    pub fn poll_outcome(&mut self) -> Option<(RequestId, Outcome)> {
        self.requests.poll_outcome()
    }

    /// Keeps an interest in an attached instance, so that its move to another node is noticed.
    pub(super) fn pin(&mut self, now: Instant, id: InstanceId) {
        let Some(row) = self.open(now, Subject::from(id)) else {
            return;
        };
        // Pages of a stream that was open before may be older than the attachment: only a new one tells of its loss.
        if self.interests.get(row).is_some_and(|i| i.state != State::Opening && !i.pinned) {
            let stream = self.next_number();
            self.interests.reopen(now, row, stream);
        }
        if let Some(interest) = self.interests.get_mut(row) {
            interest.pinned = true;
        }
    }

    /// Follows a subject that is known by its number, for somebody else. False when there is no room for another interest.
    pub fn follow(&mut self, now: Instant, subject: Subject) -> bool {
        self.open(now, subject).is_some()
    }

    /// The row of an interest, which is opened if it is not there, or is about to end; none when there is no room for another one.
    fn open(&mut self, now: Instant, subject: Subject) -> Option<usize> {
        let found = self.interests.find(subject);
        if found.and_then(|row| self.interests.get(row)).is_some_and(|interest| interest.state != State::Ending) {
            return found;
        }
        let stream = self.next_number();
        let row = found.or_else(|| self.interests.add(now, subject, stream));
        match row {
            Some(row) => self.interests.reopen(now, row, stream),
            None => self.counters.interests_full = self.counters.interests_full.wrapping_add(1),
        }
        row
    }

    /// Whether a subject is followed, or about to be.
    pub fn is_following(&self, subject: Subject) -> bool {
        self.interests.find(subject).is_some()
    }

    /// The stream of a subject that is followed, and its last page that was applied.
    pub fn position(&self, subject: Subject) -> Option<(u32, u32)> {
        let interest = self.interests.find(subject).and_then(|row| self.interests.get(row))?;
        (interest.state == State::Open).then_some((interest.stream, interest.sequence))
    }

    /// Opens all streams afresh: the manager does not have them. What the table holds stays until the pages come.
    pub(super) fn reopen_interests(&mut self, now: Instant) {
        let mut row = 0usize;
        while let Some(next) = self.interests.next_row(row) {
            if self.interests.get(next).is_some_and(|i| i.state == State::Ending) {
                self.interests.remove(next);
            } else {
                let stream = self.next_number();
                self.interests.reopen(now, next, stream);
            }
            row = next.saturating_add(1);
        }
    }

    pub(super) fn handle_not_found(&mut self, now: Instant, stream: u32, replica: &mut impl Replica) {
        if self.queries.not_found(now, stream) {
            return;
        }
        let row = self
            .interests
            .rows()
            .find(|row| self.interests.get(*row).is_some_and(|i| i.stream == stream && i.state == State::Opening));
        match row {
            Some(row) => self.drop_interest(row, replica),
            None => self.counters.unexpected = self.counters.unexpected.wrapping_add(1),
        }
    }

    pub(super) fn handle_page(&mut self, now: Instant, page: &TablePage, replica: &mut impl Replica) {
        let Some(row) = self.accept(now, page) else {
            return;
        };
        self.acknowledge(page);
        if self.interests.get(row).is_none_or(|i| i.sequence == page.sequence) {
            self.counters.stale_pages = self.counters.stale_pages.wrapping_add(1);
            return;
        }
        if let Some(interest) = self.interests.get_mut(row) {
            interest.sequence = page.sequence;
            interest.state = State::Open;
            if !interest.pinned {
                self.next_idle = self.next_idle.min(interest.idle_since.saturating_add(INTEREST_IDLE));
            }
        }
        self.counters.pages = self.counters.pages.wrapping_add(1);
        if page.kind == PageKind::Gone {
            replica.remove_named(page);
            self.drop_interest(row, replica);
            return;
        }
        // A manager that sends a part of a large table leaves out who is followed for another reason.
        let interests = &self.interests;
        let is_followed = |number| {
            page.subject.instance.is_none() && holds(interests, Subject { instance: Some(number), ..page.subject })
        };
        if replica.apply(page, is_followed).is_err() {
            self.counters.table_full = self.counters.table_full.wrapping_add(1);
        }
        if !page.more {
            if page.subject.instance.is_none() {
                replica.complete(page.subject.service);
            }
            self.queries.settle(|wanted| replica.is_known(wanted));
        }
    }

    /// The row of the interest that a page belongs to, if the page is the next one of its stream or the last one again.
    fn accept(&mut self, now: Instant, page: &TablePage) -> Option<usize> {
        let first = page.sequence == 1;
        let known = self.interests.find(page.subject);
        if let Some(row) = known
            && let Some(interest) = self.interests.get(row)
            && interest.stream == page.stream
        {
            let wanted = page.sequence == interest.sequence || page.sequence == interest.sequence.wrapping_add(1);
            if wanted && interest.state != State::Ending {
                return Some(row);
            }
            self.counters.stale_pages = self.counters.stale_pages.wrapping_add(1);
            return None;
        }
        let interest = known.and_then(|row| self.interests.get(row));
        let introduced = page.stream >= SERVER_STREAMS
            && interest.is_none_or(|i| i.state != State::Open || i.stream >= SERVER_STREAMS);
        // The look-ups of two addresses of one service open one stream after the other; the first may have answered both.
        let asked = self.queries.is_asked(page.stream)
            || (page.stream < SERVER_STREAMS
                && !is_later(page.stream, self.last_number)
                && interest.is_some_and(|i| is_later(page.stream, i.stream)));
        if !first || !(asked || introduced) {
            self.counters.stale_pages = self.counters.stale_pages.wrapping_add(1);
            push_out(&mut self.forgets, (page.subject, page.stream));
            return None;
        }
        let asker = self.queries.asker_of(page.stream);
        match known {
            Some(row) => {
                let interest = self.interests.get_mut(row)?;
                interest.set_asker(asker);
                interest.stream = page.stream;
                interest.sequence = 0;
                interest.state = State::Open;
                interest.idle_since = now;
                Some(row)
            }
            None => {
                let row = self.interests.add(now, page.subject, page.stream);
                if let Some(interest) = row.and_then(|row| self.interests.get_mut(row)) {
                    interest.set_asker(asker);
                } else {
                    self.counters.interests_full = self.counters.interests_full.wrapping_add(1);
                    push_out(&mut self.forgets, (page.subject, page.stream));
                }
                row
            }
        }
    }

    fn acknowledge(&mut self, page: &TablePage) {
        push_out(&mut self.acks, (page.subject, page.stream, page.sequence));
    }

    /// Ends an interest that the manager has ended.
    fn drop_interest(&mut self, row: usize, replica: &mut impl Replica) {
        let Some(subject) = self.interests.get(row).map(|i| i.subject) else {
            return;
        };
        self.interests.remove(row);
        self.clear(subject, replica);
    }

    /// Ends interests whose last flow ended some time ago, unless the manager is away: what it can't tell again stays. Returns
    /// when the next one may end.
    pub(super) fn end_idle_interests(&mut self, now: Instant, replica: &mut impl Replica) -> Instant {
        let is_answered = self.session.is_answered(now);
        let mut next = Instant::MAX;
        let mut from = 0usize;
        while let Some(row) = self.interests.next_row(from) {
            from = row.saturating_add(1);
            let Some(interest) = self.interests.get_mut(row) else {
                continue;
            };
            if interest.state == State::Ending || interest.pinned {
                continue;
            }
            let subject = interest.subject;
            let in_use = replica.is_in_use(subject);
            if in_use {
                interest.idle_since = Instant::MAX;
                continue;
            }
            interest.idle_since = interest.idle_since.min(now);
            let end = interest.idle_since.saturating_add(INTEREST_IDLE);
            if interest.state != State::Open {
                // It is looked at again when its page comes.
            } else if now >= end && !is_answered {
                // It is looked at again when the manager answers.
            } else if now >= end {
                self.interests.end(now, row);
                self.clear(subject, replica);
            } else {
                next = next.min(end);
            }
        }
        next
    }

    /// Takes out of the table what only this subject kept there.
    fn clear(&mut self, subject: Subject, replica: &mut impl Replica) {
        let whole = holds(&self.interests, Subject::whole(subject.service));
        let interests = &self.interests;
        replica.clear(subject, whole, |number| holds(interests, Subject { instance: Some(number), ..subject }));
    }
}

/// Whether a subject is followed, and not only until its end is confirmed.
fn holds<const M: usize>(interests: &Interests<M>, subject: Subject) -> bool {
    interests.find(subject).and_then(|row| interests.get(row)).is_some_and(|i| i.state != State::Ending)
}

/// Whether this node gave the stream number `a` after `b`, or `b` was given by the manager.
fn is_later(a: u32, b: u32) -> bool {
    b >= SERVER_STREAMS || (1..SERVER_STREAMS / 2).contains(&(a.wrapping_sub(b) % SERVER_STREAMS))
}

/// Appends; when there is no room the oldest goes, and is said again when the manager repeats itself.
fn push_out<T, const K: usize>(queue: &mut heapless::Deque<T, K>, item: T) {
    if queue.is_full() {
        queue.pop_front();
    }
    let _ = queue.push_back(item);
}

#[cfg(test)]
mod tests {
    use heapless::Vec;

    use super::*;
    use crate::addr::AddressPlan;
    use crate::ids::{Endpoint, NodeId, NodeKey, ServiceId};
    use crate::index::HashKey;
    use crate::router::Router;
    use crate::sync::client::Profile;
    use crate::sync::message::{Capacities, MESSAGE_MAX, ManagerRecord, Message, Welcome};
    use crate::time::Duration;

    const MANAGER: NodeKey = NodeKey([9; 32]);

    type SmallRouter = Router<4, 8, 4, 4, 2>;
    type SmallClient = Client<4, 4, 1>;

    fn next(client: &mut SmallClient, now: Instant, router: &SmallRouter) -> Option<Message> {
        let mut out = [0; MESSAGE_MAX];
        let (_, length) = client.poll_transmit(now, router, &mut out)?;
        Message::decode(out.get(..length)?).ok()
    }

    /// The stream that is to be opened next.
    fn opened(client: &mut SmallClient, now: Instant, router: &SmallRouter) -> u32 {
        loop {
            match next(client, now, router) {
                Some(Message::Resolve(resolve)) => return resolve.stream,
                Some(_) => {}
                None => panic!("nothing is opened"),
            }
        }
    }

    /// A client that its manager has welcomed.
    fn member(now: Instant, router: &mut SmallRouter) -> SmallClient {
        let mut client = SmallClient::new();
        let profile = Profile {
            key: NodeKey([1; 32]),
            name: heapless::String::new(),
            joining: false,
            epoch: 1,
            endpoint: Endpoint::UNKNOWN,
            subnet: None,
            lease_ms: 0,
            capacities: Capacities::default(),
        };
        let manager = ManagerRecord { key: MANAGER, endpoint: Endpoint::UNKNOWN };
        client.start(now, profile, &[manager], HashKey(1, 2));
        let Some(Message::Hello(hello)) = next(&mut client, now, router) else { panic!("a Hello comes first") };
        let subnet = AddressPlan::DEFAULT.worker_subnet(0).unwrap();
        let welcome = Welcome {
            request: hello.request,
            epoch: 5,
            node: NodeId(1),
            subnet,
            lease_ms: 60_000,
            observed: Endpoint::UNKNOWN,
            reopen: false,
            reattach: false,
            managers: Vec::from_slice(&[manager]).unwrap(),
        };
        client.handle(now, &MANAGER, &Message::Welcome(welcome), router);
        client
    }

    #[test]
    fn what_is_followed_again_while_it_ends_is_opened_again() {
        let mut router = SmallRouter::new();
        let mut now = Instant::from_millis(1_000);
        let mut client = member(now, &mut router);
        let subject = Subject::whole(ServiceId(7));
        assert!(client.follow(now, subject));
        let first = opened(&mut client, now, &router);
        let page = TablePage {
            subject,
            stream: first,
            sequence: 1,
            more: false,
            kind: PageKind::Replace { from: 0, to: None },
            header: None,
            nodes: Vec::new(),
            records: Vec::new(),
            removed: Vec::new(),
        };
        client.handle(now, &MANAGER, &Message::Table(page), &mut router);
        now = now.saturating_add(INTEREST_IDLE).saturating_add(Duration::from_secs(2));
        client.handle_timeout(now, &mut router);
        assert_eq!(client.position(subject), None, "nobody uses it, so it ends");
        assert!(client.is_following(subject), "the manager has not confirmed that");

        assert!(client.follow(now, subject));
        assert_ne!(opened(&mut client, now, &router), first);
        client.handle(now, &MANAGER, &Message::Forgotten { subject, stream: first }, &mut router);
        assert!(client.is_following(subject), "what was confirmed is the end of the stream before");
    }
}
