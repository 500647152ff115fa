//! Which peers are measured: the nearest of each service whose flows go by distance, as far as is known, and now and then any of them,
//! because what is known may be wrong.

use heapless::Vec;

use super::Node;
use super::orders::{Action, Output};
use crate::coordinate::Coordinate;
use crate::measure::probes::Due;
use crate::measure::{Learn, Place, ProbeCounters, Sample};
use crate::packet::Offload;
use crate::slots::RowRef;
use crate::stats::DropReason;
use crate::sync::message::Probe;
use crate::time::{Duration, Instant};

/// How many nodes of a service are measured once, when its table comes: the nearest as far as is predicted.
const LOOK: usize = 16;
/// How many of them are measured again and again.
const NEAREST: usize = 6;
/// How many others are tried at once.
const STROLL: usize = 2;
/// How often others are tried.
const STROLLS: Duration = Duration::from_secs(10);
/// How often peers are chosen, at most.
const ROUND: Duration = Duration::from_secs(1);

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize, const P: usize>
    Node<S, I, N, F, L, P>
{
    /// Measures peers from now on, learns network coordinates from that with [`vivaldi::learn`](crate::measure::vivaldi::learn), and
    /// tells the manager. A node that does not answers probes and sends none; a program without this call does not carry its code.
    pub fn set_learning(&mut self, learn: Learn) {
        self.probes.learn = Some(learn);
        self.measuring = Some(Self::take_step);
    }

    /// Does a step of measuring, on a node that measures.
    pub(super) fn measuring(&mut self, now: Instant, step: Step<'_>) -> Option<Output> {
        let take = self.measuring?;
        take(self, now, step)
    }

    fn take_step(&mut self, now: Instant, step: Step<'_>) -> Option<Output> {
        match step {
            Step::Choose => self.choose_peers(now),
            Step::Soon => self.probes.choose_at(now),
            Step::Established(peer) => self.probes.ask_again(peer),
            Step::Heard(peer, answers, probe) => self.learn_from(now, peer, answers, probe),
            Step::Send(peer, out) => return self.send_probe(now, peer, out),
        }
        None
    }

    /// Where this node believes to be.
    pub fn place(&self) -> &Place {
        &self.probes.place
    }

    /// What became of probes.
    pub fn probe_counters(&self) -> &ProbeCounters {
        &self.probes.counters
    }

    /// Handles a control payload that may come from any peer; none when it is one of a manager's.
    #[inline(never)]
    pub(super) fn handle_probe(&mut self, now: Instant, peer: RowRef, payload: &[u8]) -> Option<Action> {
        let (answers, probe) = Probe::decode(payload)?;
        let (Ok(probe), Some(node)) = (probe, self.router.table.node_measured(peer.row())) else {
            return Some(self.drop(DropReason::BadControl));
        };
        if answers || self.probes.asked(now, peer, &mut node.way, probe.token) {
            self.measuring(now, Step::Heard(peer, answers, probe));
        }
        Some(Action::Nothing)
    }

    fn learn_from(&mut self, now: Instant, peer: RowRef, answers: bool, probe: Probe) {
        // What the peer has measured is as good as an own measurement for the place, but not for the table: it may lie.
        let mut round_trip = probe.round_trip;
        if answers {
            let Some(node) = self.router.table.node_measured(peer.row()) else {
                return;
            };
            let Some(measured) = self.probes.answered(now, peer, &mut node.way, probe.token) else {
                return;
            };
            self.router.table.set_round_trip(peer.row(), Some(measured));
            round_trip = u32::try_from(measured.as_micros()).unwrap_or(u32::MAX);
        }
        if let Some(learn) = self.probes.learn {
            let random = self.probes.random();
            learn(
                &mut self.probes.place,
                Sample { round_trip, place: Coordinate(probe.coordinate), error: probe.error, random },
            );
            self.router.table.set_coordinate(self.probes.place.coordinate());
            self.client.report(now, &self.probes.place);
        }
    }

    /// Chooses peers to measure when it is time.
    fn choose_peers(&mut self, now: Instant) {
        if self.router.table.has_use_news() {
            self.probes.choose_at(now);
        }
        if self.probes.next_round == Instant::ZERO || now < self.probes.next_round {
            return;
        }
        self.probes.next_round = Instant::ZERO;
        let registry = self.router.registry();
        let strolls = now >= self.probes.next_stroll;
        let mut next = Instant::MAX;
        for row in 0..S {
            let by_distance = self.router.table.service(row).is_some_and(|service| {
                service.complete && service.ips.iter().any(|ip| registry.policy(ip.policy).needs_distance())
            });
            if !by_distance || self.router.table.flows_of(row) == 0 {
                continue;
            }
            let (nearest, others) = self.nearest_of(row, strolls);
            for (place, (_, node)) in nearest.iter().enumerate() {
                let is_new = self.router.table.node(*node).is_some_and(|node| node.way.is_new());
                if place < NEAREST || is_new {
                    next = next.min(self.measure(now, *node));
                }
            }
            for node in others {
                next = next.min(self.measure(now, node));
            }
            if strolls {
                self.probes.next_stroll = now.saturating_add(STROLLS);
            }
        }
        if next != Instant::MAX {
            self.probes.choose_at(next.max(now.saturating_add(ROUND)));
        }
    }

    /// The nodes of a service that are nearest, and some others if it `strolls`.
    fn nearest_of(&mut self, service: usize, strolls: bool) -> (Vec<(u32, usize), LOOK>, Vec<usize, STROLL>) {
        let (mut nearest, mut others) = (Vec::<(u32, usize), LOOK>::new(), Vec::<usize, STROLL>::new());
        let (table, probes) = (&self.router.table, &mut self.probes);
        let mut seen = 0u32;
        for instance in table.instances_of(service).filter_map(|slot| table.instance(slot)) {
            let Some(node) = table.node(instance.node).filter(|node| !node.is_self && !node.avoided) else {
                continue;
            };
            if !instance.alive || instance.draining || nearest.iter().any(|(_, other)| *other == instance.node) {
                continue;
            }
            // Among those of which nothing is known chance decides, behind all others.
            let distance = table.distance(instance, node).unwrap_or_else(|| (u32::MAX / 2) | (probes.random() >> 1));
            let place = nearest.iter().position(|(other, _)| distance < *other).unwrap_or(nearest.len());
            if nearest.is_full() && place < LOOK {
                nearest.pop();
            }
            // What is farther than all of those that fit is none of them.
            let _ = nearest.insert(place, (distance, instance.node));
            seen = seen.saturating_add(1);
            if !strolls || others.contains(&instance.node) {
                continue;
            }
            // Each gets its chance, however many there are (Vitter's algorithm R).
            let chance = probes.random().checked_rem(seen).unwrap_or(0);
            if others.push(instance.node).is_err()
                && let Some(other) = others.get_mut(chance as usize)
            {
                *other = instance.node;
            }
        }
        (nearest, others)
    }

    /// Measures a node if it is time; returns when it will be.
    fn measure(&mut self, now: Instant, node: usize) -> Instant {
        let next = self.router.table.node(node).map_or(Instant::MAX, |node| node.way.next);
        if now >= next
            && let Some(peer) = self.router.table.node_ref(node)
        {
            self.probes.ask(peer);
            return now;
        }
        next
    }

    /// Writes the next probe or answer.
    pub(super) fn poll_probe(&mut self, now: Instant, out: &mut [u8]) -> Option<Output> {
        while let Some(due) = self.probes.next_due() {
            let (Due::Probe(peer) | Due::Answer(peer, _)) = due;
            if self.peer(peer).is_none() {
                continue;
            }
            let sent = match due {
                Due::Probe(_) => self.measuring(now, Step::Send(peer, out)),
                Due::Answer(_, token) => self.send(peer, true, Probe { token, ..Probe::default() }, out),
            };
            if sent.is_some() {
                return sent;
            }
        }
        None
    }

    fn send_probe(&mut self, now: Instant, peer: RowRef, out: &mut [u8]) -> Option<Output> {
        let node = self.router.table.node_measured(peer.row())?;
        let measured = node.round_trip().map_or(0, |time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        let token = self.probes.sends(now, peer, &mut node.way);
        self.send(peer, false, Probe { token, round_trip: measured, ..Probe::default() }, out)
    }

    fn send(&self, peer: RowRef, answers: bool, probe: Probe, out: &mut [u8]) -> Option<Output> {
        let place = &self.probes.place;
        let len = Probe { coordinate: place.coordinate().0, error: place.error(), ..probe }.encode(answers, out)?;
        Some(Output::Peer { peer, len, offload: Offload::NONE })
    }
}

/// Takes a step on a node that measures.
pub(super) type Measuring<T> = fn(&mut T, Instant, Step<'_>) -> Option<Output>;

/// A step of measuring: all that only a node does that measures.
pub(super) enum Step<'a> {
    /// Time has passed.
    Choose,
    /// There may be others to measure now.
    Soon,
    /// A tunnel to the peer has been set up.
    Established(RowRef),
    /// The peer has sent a probe or, if it answers, an answer.
    Heard(RowRef, bool, Probe),
    /// The peer is to be sent a probe, written here.
    Send(RowRef, &'a mut [u8]),
}
