//! The underlay: datagrams that are late, lost, doubled, overtaken, or cut off, as the seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use acorn_core::time::{Duration, Instant};

use crate::random::Random;
use crate::tunnel::Frame;

/// Bytes of the IPv4 and UDP headers around a frame.
const UNDERLAY_HEADERS: u64 = 28;
/// By how much a datagram that others overtake is late, in milliseconds.
const OVERTAKEN_MS: u64 = 30;

/// How the underlay is.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// How long every datagram takes.
    pub delay: Duration,
    /// How many of 100 get lost.
    pub loss: u64,
    /// How many of 100 come twice.
    pub duplicate: u64,
    /// How many of 100 are overtaken by later ones.
    pub reorder: u64,
}

impl Conditions {
    /// Nothing is lost, and nothing overtakes anything.
    pub const CLEAN: Self = Self { delay: Duration::from_millis(2), loss: 0, duplicate: 0, reorder: 0 };
    /// A bad radio link.
    pub const ROUGH: Self = Self { delay: Duration::from_millis(3), loss: 10, duplicate: 5, reorder: 10 };
}

/// A datagram that is under way.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub frame: Frame,
}

/// What one address has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub datagrams: u64,
    /// With the headers of the underlay.
    pub bytes: u64,
}

/// How long the way between two addresses takes this time.
pub type Way = Box<dyn FnMut(SocketAddr, SocketAddr) -> Duration>;

pub struct Network {
    random: Random,
    pub conditions: Conditions,
    /// How long the way from one address to another takes, where it is not the same everywhere.
    pub ways: Option<Way>,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    flight: BTreeMap<(Instant, u64), Datagram>,
    /// Datagrams so far; tells those apart that arrive together, in the order in which they were sent.
    count: u64,
    sent: BTreeMap<SocketAddr, Sent>,
}

impl Network {
    pub fn new(random: Random) -> Self {
        Self {
            random,
            conditions: Conditions::CLEAN,
            ways: None,
            cut: BTreeSet::new(),
            flight: BTreeMap::new(),
            count: 0,
            sent: BTreeMap::new(),
        }
    }

    pub fn send(&mut self, now: Instant, datagram: Datagram) {
        let sent = self.sent.entry(datagram.from).or_default();
        sent.datagrams += 1;
        sent.bytes += datagram.frame.len() as u64 + UNDERLAY_HEADERS;
        if self.cut.contains(&pair(datagram.from, datagram.to)) || self.random.percent(self.conditions.loss) {
            return;
        }
        if self.random.percent(self.conditions.duplicate) {
            self.fly(now, datagram.clone());
        }
        self.fly(now, datagram);
    }

    fn fly(&mut self, now: Instant, datagram: Datagram) {
        let way = self.ways.as_mut().map(|way| way(datagram.from, datagram.to));
        let mut at = now.saturating_add(way.unwrap_or(self.conditions.delay));
        if self.random.percent(self.conditions.reorder) {
            at = at.saturating_add(Duration::from_millis(1 + self.random.below(OVERTAKEN_MS)));
        }
        self.count += 1;
        self.flight.insert((at, self.count), datagram);
    }

    /// When the next datagram arrives.
    pub fn next(&self) -> Option<Instant> {
        self.flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next datagram that has arrived.
    pub fn receive(&mut self, now: Instant) -> Option<Datagram> {
        let first = self.flight.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Nothing goes between the two from now on; what is under way still arrives.
    pub fn cut(&mut self, a: SocketAddr, b: SocketAddr) {
        self.cut.insert(pair(a, b));
    }

    pub fn mend(&mut self, a: SocketAddr, b: SocketAddr) {
        self.cut.remove(&pair(a, b));
    }

    pub fn sent_by(&self, from: SocketAddr) -> Sent {
        self.sent.get(&from).copied().unwrap_or_default()
    }
}

fn pair(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    (a.min(b), a.max(b))
}
