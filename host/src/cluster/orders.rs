//! What a cluster tells its root until the root has confirmed it.

use std::collections::BTreeMap;
use std::time::Duration;

use acorn_core::ids::NodeKey;
use acorn_core::sync::cluster::ClusterMessage;
use acorn_core::sync::message::Subject;
use acorn_core::time::Instant;

/// The first repeat comes after this; each later one after twice as long, up to [`MOST`].
const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Standing { node: NodeKey, alive: bool },
    Settle { node: NodeKey, epoch: u32 },
    Held { subject: Subject, stream: u32, sequence: u32 },
}

/// What an order is about: a later one takes the place of one about the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Standing([u8; 32]),
    Settle([u8; 32]),
    Held(Subject, u32),
}

impl Order {
    fn about(self) -> About {
        match self {
            Self::Standing { node, .. } => About::Standing(node.0),
            Self::Settle { node, .. } => About::Settle(node.0),
            Self::Held { subject, stream, .. } => About::Held(subject, stream),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    order: Order,
    request: u32,
    tries: u32,
    next: Instant,
}

/// All that is not confirmed. There are at most two per node and one per subject that is followed.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pending: BTreeMap<About, Pending>,
    by_time: std::collections::BTreeSet<(Instant, About)>,
    requests: BTreeMap<u32, About>,
    /// The pages that the root has noted, so that none is told twice.
    noted: BTreeMap<Subject, (u32, u32)>,
    last_request: u32,
}

impl Orders {
    pub(super) fn put(&mut self, now: Instant, order: Order) {
        if let Order::Held { subject, stream, sequence } = order
            && self.noted.get(&subject) == Some(&(stream, sequence))
        {
            return;
        }
        let about = order.about();
        if self.pending.get(&about).is_some_and(|pending| pending.order == order) {
            return;
        }
        self.remove(about);
        self.last_request = self.last_request.wrapping_add(1);
        let request = self.last_request;
        self.pending.insert(about, Pending { order, request, tries: 0, next: now });
        self.by_time.insert((now, about));
        self.requests.insert(request, about);
    }

    /// The root has done what a request asks for.
    pub(super) fn done(&mut self, request: u32) {
        if let Some(about) = self.requests.get(&request).copied() {
            self.remove(about);
        }
    }

    /// The root has noted that a page is known to all nodes.
    pub(super) fn noted(&mut self, subject: Subject, stream: u32, sequence: u32) {
        self.noted.insert(subject, (stream, sequence));
        let about = About::Held(subject, stream);
        let order = Order::Held { subject, stream, sequence };
        if self.pending.get(&about).is_some_and(|pending| pending.order == order) {
            self.remove(about);
        }
    }

    /// The root has started again: pages have other numbers now.
    pub(super) fn forget_held(&mut self) {
        self.noted.clear();
        let held = self.pending.keys().copied().filter(|about| matches!(about, About::Held(..)));
        for about in held.collect::<Vec<_>>() {
            self.remove(about);
        }
    }

    /// Forgets what was noted of subjects that are not followed any more.
    pub(super) fn retain_noted(&mut self, is_followed: impl Fn(Subject) -> bool) {
        self.noted.retain(|subject, _| is_followed(*subject));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The next message that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<ClusterMessage> {
        let (at, about) = self.by_time.first().copied().filter(|(at, _)| *at <= now)?;
        self.by_time.remove(&(at, about));
        let pending = self.pending.get_mut(&about)?;
        let factor = 1u32.checked_shl(pending.tries).unwrap_or(u32::MAX);
        pending.next = now.saturating_add(FIRST.saturating_mul(factor).min(MOST));
        pending.tries = (pending.tries + 1).min(16);
        self.by_time.insert((pending.next, about));
        let request = pending.request;
        Some(match pending.order {
            Order::Standing { node, alive } => ClusterMessage::Standing { request, node, alive },
            Order::Settle { node, epoch } => ClusterMessage::Settle { request, node, epoch },
            Order::Held { subject, stream, sequence } => ClusterMessage::Held { subject, stream, sequence },
        })
    }

    fn remove(&mut self, about: About) {
        if let Some(pending) = self.pending.remove(&about) {
            self.by_time.remove(&(pending.next, about));
            self.requests.remove(&pending.request);
        }
    }
}
