//! Who follows what: the subscriptions, found by client and subject, threaded by client and by service.

use super::timers::Timers;
use crate::ids::{InstanceId, ServiceId};
use crate::index::{HashIndex, HashKey};
use crate::slots::{RowRef, Slots};
use crate::sync::message::{SERVER_STREAMS, Subject};
use crate::time::Instant;

/// What a stream waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// A change.
    #[default]
    Idle,
    /// The right moment to send the next page of the walk for the first time.
    Ready,
    /// The acknowledgement of a page.
    Sent,
}

/// What the pages of the walk under way say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Walk {
    /// All that there is.
    #[default]
    Replace,
    /// What has changed since the version that the client holds.
    Patch,
    /// The end.
    Gone,
}

/// The part of a table that is sent to a client that can't hold all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) limited: bool,
    pub(super) first: u32,
    /// Lower than `first` when the window goes around the end.
    pub(super) last: u32,
}

impl Window {
    pub(super) fn covers(&self, number: u32) -> bool {
        if !self.limited {
            return true;
        }
        let (behind_first, before_last) = (number >= self.first, number <= self.last);
        if self.first <= self.last { behind_first && before_last } else { behind_first || before_last }
    }
}

/// A row of a list, plus one; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn of(row: usize) -> Self {
        Self((row as u32).saturating_add(1))
    }

    fn get(self) -> Option<usize> {
        self.0.checked_sub(1).map(|row| row as usize)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    next: Place,
    prev: Place,
}

/// The lists that a stream is in.
#[derive(Clone, Copy)]
enum List {
    Client,
    Service,
}

/// One subscription: a client's view of one subject, one page at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stream {
    /// The client's row.
    pub(super) client: u32,
    pub(super) subject: Subject,
    /// The number by which client and server call it.
    pub(super) number: u32,
    /// The number of the page that is outstanding, or of the last one; 0 before the first.
    pub(super) sequence: u32,
    pub(super) phase: Phase,
    pub(super) walk: Walk,
    pub(super) window: Window,
    /// The version that the client holds whole; 0 is none.
    pub(super) held: u32,
    /// The version of the walk under way.
    pub(super) target: u32,
    /// The first number of the page that is outstanding or next.
    pub(super) position: u32,
    /// The first number behind the outstanding page; none when it is the last of its walk.
    pub(super) end: Option<u32>,
    /// Removals may be missing from the outstanding page: its walk counts for nothing.
    pub(super) stale: bool,
    /// The header's version that the client holds, and the one in the outstanding page when it was first sent, 0 when there was
    /// none in it.
    pub(super) header_held: u32,
    pub(super) header_sent: u32,
    /// A page goes out even if nothing has changed, to see whether the client knows the stream.
    pub(super) probe: bool,
    pub(super) tries: u8,
    /// The client's instance that talks to the instances of the table.
    pub(super) asker: Option<InstanceId>,
    pub(super) opened: Instant,
    /// Until when pages of this walk wait for nodes that hold an old record of the asker; zero before the first wait.
    pub(super) hold_until: Instant,
    /// The session that waits for this introduction; [`RowRef::default`] when none does.
    pub(super) introduces: RowRef,
    /// No address that was withdrawn in this version or before is still in use at the client.
    confirmed: u32,
    interest: u32,
    of_client: Link,
    of_service: Link,
}

impl Stream {
    const EMPTY: Self = Self {
        client: 0,
        subject: Subject { service: ServiceId(0), instance: None },
        number: 0,
        sequence: 0,
        phase: Phase::Idle,
        walk: Walk::Replace,
        window: Window { limited: false, first: 0, last: 0 },
        held: 0,
        target: 0,
        position: 0,
        end: None,
        stale: false,
        header_held: 0,
        header_sent: 0,
        probe: false,
        tries: 0,
        asker: None,
        opened: Instant::ZERO,
        hold_until: Instant::ZERO,
        introduces: RowRef::NONE,
        confirmed: 0,
        interest: 0,
        of_client: Link { next: Place(0), prev: Place(0) },
        of_service: Link { next: Place(0), prev: Place(0) },
    };

    /// Begins the stream anew under another number. What the client may still hold from before is not forgotten.
    pub(super) fn restart(&mut self, now: Instant, number: u32, asker: Option<InstanceId>) {
        *self = Self {
            client: self.client,
            subject: self.subject,
            confirmed: self.confirmed,
            interest: self.interest,
            of_client: self.of_client,
            of_service: self.of_service,
            number,
            asker,
            opened: now,
            ..Self::EMPTY
        };
    }

    /// Whether the server opened it.
    pub(super) fn is_introduction(&self) -> bool {
        self.number >= SERVER_STREAMS
    }

    /// Whether the client has acknowledged this page, and nothing has been sent since.
    pub(super) fn is_at_rest_after(&self, sequence: u32) -> bool {
        self.sequence == sequence && self.phase == Phase::Idle && !self.stale
    }

    /// Whether the client, a cluster, has acknowledged the end.
    pub(super) fn is_over(&self) -> bool {
        self.walk == Walk::Gone && self.phase == Phase::Idle
    }

    /// Whether everything that the client holds is confirmed.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed >= self.held
    }

    fn link_mut(&mut self, list: List) -> &mut Link {
        match list {
            List::Client => &mut self.of_client,
            List::Service => &mut self.of_service,
        }
    }
}

/// What is common to all subscriptions of a service.
#[derive(Clone, Copy)]
struct Interest {
    service: ServiceId,
    first: Place,
    /// The lowest confirmed version of the subscriptions, and how many have it.
    floor: u32,
    at_floor: u32,
    /// The floor of which the directory was told.
    told: u32,
    /// How many instances there are in the version `counted`.
    instances: u32,
    counted: u32,
}

/// Up to `S` subscriptions of up to `C` clients.
pub(super) struct Streams<const C: usize, const S: usize> {
    hash_key: HashKey,
    rows: [Stream; S],
    slots: Slots<S>,
    by_subject: HashIndex<S, 1>,
    interests: [Interest; S],
    interest_slots: Slots<S>,
    by_service: HashIndex<S, 1>,
    first_of_client: [Place; C],
    count_of_client: [u32; C],
    /// When each stream is to be looked at.
    pub(super) due: Timers<S>,
}

impl<const C: usize, const S: usize> Streams<C, S> {
    pub(super) const fn new() -> Self {
        const NO_INTEREST: Interest = Interest {
            service: ServiceId(0),
            first: Place(0),
            floor: 0,
            at_floor: 0,
            told: 0,
            instances: 0,
            counted: 0,
        };
        Self {
            hash_key: HashKey(0, 0),
            rows: [Stream::EMPTY; S],
            slots: Slots::new(),
            by_subject: HashIndex::new(),
            interests: [NO_INTEREST; S],
            interest_slots: Slots::new(),
            by_service: HashIndex::new(),
            first_of_client: [Place(0); C],
            count_of_client: [0; C],
            due: Timers::new(),
        }
    }

    pub(super) fn set_hash_key(&mut self, key: HashKey) {
        self.hash_key = key;
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn count_of_client(&self, client: usize) -> u32 {
        self.count_of_client.get(client).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, row: usize) -> Option<&Stream> {
        if self.slots.is_used(row) { self.rows.get(row) } else { None }
    }

    pub(super) fn get_mut(&mut self, row: usize) -> Option<&mut Stream> {
        if self.slots.is_used(row) { self.rows.get_mut(row) } else { None }
    }

    pub(super) fn find(&self, client: usize, subject: Subject) -> Option<usize> {
        let is_it =
            |row: usize, _| self.rows.get(row).is_some_and(|s| s.client as usize == client && s.subject == subject);
        self.by_subject.find(self.subject_hash(client, subject), is_it).map(|(row, _)| row)
    }

    pub(super) fn first_of_client(&self, client: usize) -> Option<usize> {
        self.first_of_client.get(client).copied()?.get()
    }

    pub(super) fn next_of_client(&self, row: usize) -> Option<usize> {
        self.rows.get(row)?.of_client.next.get()
    }

    pub(super) fn of_client(&self, client: usize) -> impl Iterator<Item = &Stream> {
        let rows = core::iter::successors(self.first_of_client(client), |row| self.next_of_client(*row));
        rows.filter_map(|row| self.rows.get(row))
    }

    pub(super) fn first_of_service(&self, service: ServiceId) -> Option<usize> {
        let interest = self.find_interest(service)?;
        self.interests.get(interest)?.first.get()
    }

    pub(super) fn next_of_service(&self, row: usize) -> Option<usize> {
        self.rows.get(row)?.of_service.next.get()
    }

    /// Opens a subscription; none when all are in use. `version` is the service's now: what was withdrawn in it or before
    /// the client will not see.
    pub(super) fn open(
        &mut self,
        now: Instant,
        client: usize,
        subject: Subject,
        number: u32,
        version: u32,
    ) -> Option<usize> {
        let row = self.slots.take()?.row();
        let found = self.find_interest(subject.service).or_else(|| self.add_interest(subject.service));
        // There are as many interests as streams: with a stream there is an interest.
        let Some(interest) = found else {
            self.slots.give_back(row);
            return None;
        };
        if let Some(stream) = self.rows.get_mut(row) {
            *stream = Stream {
                client: client as u32,
                subject,
                number,
                opened: now,
                confirmed: version,
                interest: interest as u32,
                ..Stream::EMPTY
            };
        }
        self.by_subject.insert(self.subject_hash(client, subject), row, 0);
        if let Some(head) = self.first_of_client.get_mut(client) {
            link(&mut self.rows, List::Client, head, row);
        }
        if let Some(count) = self.count_of_client.get_mut(client) {
            *count = count.saturating_add(1);
        }
        if let Some(interest) = self.interests.get_mut(interest) {
            if interest.at_floor == 0 || version < interest.floor {
                interest.floor = version;
                interest.at_floor = 1;
            } else if version == interest.floor {
                interest.at_floor = interest.at_floor.saturating_add(1);
            }
            link(&mut self.rows, List::Service, &mut interest.first, row);
        }
        Some(row)
    }

    /// Ends a subscription. Returns what the directory is to be told.
    pub(super) fn remove(&mut self, row: usize) -> Risen {
        let Some(stream) = self.get(row).copied() else {
            return Risen::No;
        };
        let (client, place) = (stream.client as usize, stream.interest as usize);
        self.due.clear(row);
        self.by_subject.remove(self.subject_hash(client, stream.subject), row, 0);
        if let Some(head) = self.first_of_client.get_mut(client) {
            unlink(&mut self.rows, List::Client, head, row);
        }
        if let Some(count) = self.count_of_client.get_mut(client) {
            *count = count.saturating_sub(1);
        }
        let Some(interest) = self.interests.get_mut(place) else {
            return Risen::No;
        };
        unlink(&mut self.rows, List::Service, &mut interest.first, row);
        self.slots.give_back(row);
        if interest.first.get().is_none() {
            interest.at_floor = 0;
            self.by_service.remove(self.service_hash(stream.subject.service), place, 0);
            self.interest_slots.give_back(place);
            return Risen::Free;
        }
        self.leave_floor(place, stream.confirmed);
        self.risen(place)
    }

    /// The client holds everything up to `version`. Returns what the directory is to be told.
    pub(super) fn confirm(&mut self, row: usize, version: u32) -> Risen {
        let Some(stream) = self.get_mut(row) else {
            return Risen::No;
        };
        let (before, place) = (stream.confirmed, stream.interest as usize);
        if version > before {
            stream.confirmed = version;
            self.leave_floor(place, before);
        }
        self.risen(place)
    }

    /// How many instances the service of a stream has in `version`, counted by `count` unless that is known already.
    pub(super) fn instances(&mut self, row: usize, version: u32, count: impl FnOnce() -> u32) -> u32 {
        let Some(place) = self.get(row).map(|s| s.interest as usize) else {
            return 0;
        };
        let Some(interest) = self.interests.get_mut(place) else {
            return 0;
        };
        if interest.counted != version {
            interest.counted = version;
            interest.instances = count();
        }
        interest.instances
    }

    /// A subscription that had confirmed `from` has confirmed more, or has ended. All are looked at only when it was the last
    /// one at the floor.
    fn leave_floor(&mut self, place: usize, from: u32) {
        let Some(interest) = self.interests.get_mut(place) else {
            return;
        };
        if from != interest.floor {
            return;
        }
        interest.at_floor = interest.at_floor.saturating_sub(1);
        if interest.at_floor > 0 {
            return;
        }
        interest.floor = u32::MAX;
        let mut at = interest.first.get();
        while let Some(stream) = at.and_then(|row| self.rows.get(row)) {
            if stream.confirmed < interest.floor {
                (interest.floor, interest.at_floor) = (stream.confirmed, 1);
            } else if stream.confirmed == interest.floor {
                interest.at_floor = interest.at_floor.saturating_add(1);
            }
            at = stream.of_service.next.get();
        }
    }

    /// Whether the floor is above what the directory was told.
    fn risen(&mut self, place: usize) -> Risen {
        match self.interests.get_mut(place) {
            Some(interest) if interest.floor > interest.told => {
                interest.told = interest.floor;
                Risen::To(interest.floor)
            }
            _ => Risen::No,
        }
    }

    fn find_interest(&self, service: ServiceId) -> Option<usize> {
        let is_it = |row: usize, _| self.interests.get(row).is_some_and(|i| i.service == service);
        self.by_service.find(self.service_hash(service), is_it).map(|(row, _)| row)
    }

    fn add_interest(&mut self, service: ServiceId) -> Option<usize> {
        let place = self.interest_slots.take()?.row();
        *self.interests.get_mut(place)? =
            Interest { service, first: Place(0), floor: 0, at_floor: 0, told: 0, instances: 0, counted: 0 };
        self.by_service.insert(self.service_hash(service), place, 0);
        Some(place)
    }

    fn service_hash(&self, service: ServiceId) -> u64 {
        self.hash_key.hash(&service.0.to_le_bytes())
    }

    fn subject_hash(&self, client: usize, subject: Subject) -> u64 {
        let instance = subject.instance.map_or(0, |number| u64::from(number).saturating_add(1));
        let words = u128::from(subject.service.0) << 96 | u128::from(instance) << 32 | (client as u128 & 0xffff_ffff);
        self.hash_key.hash(&words.to_le_bytes())
    }
}

/// How the lowest version that all subscriptions of a service have confirmed has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Risen {
    /// Not.
    No,
    /// It is this now.
    To(u32),
    /// There is no subscription any more.
    Free,
}

fn link(rows: &mut [Stream], list: List, head: &mut Place, row: usize) {
    let behind = *head;
    if let Some(stream) = rows.get_mut(row) {
        *stream.link_mut(list) = Link { next: behind, prev: Place(0) };
    }
    if let Some(stream) = behind.get().and_then(|row| rows.get_mut(row)) {
        stream.link_mut(list).prev = Place::of(row);
    }
    *head = Place::of(row);
}

fn unlink(rows: &mut [Stream], list: List, head: &mut Place, row: usize) {
    let Some(Link { next, prev }) = rows.get_mut(row).map(|stream| *stream.link_mut(list)) else {
        return;
    };
    match prev.get().and_then(|row| rows.get_mut(row)) {
        Some(stream) => stream.link_mut(list).next = next,
        None => *head = next,
    }
    if let Some(stream) = next.get().and_then(|row| rows.get_mut(row)) {
        stream.link_mut(list).prev = prev;
    }
}
