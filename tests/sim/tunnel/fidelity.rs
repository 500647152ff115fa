//! The simulated tunnel against the daemon's: both go through the same hours, and must send the same at the same times.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant as Clock};

use acorn::identity::Identity;
use acorn::tunnel as real;
use acorn_core::NodeKey;
use acorn_core::time::Instant;
use zeroize::Zeroizing;

use super::{Event, Frame, Tunnels};
use crate::random::Random;

/// How long a datagram is under way, in milliseconds.
const DELAY: u64 = 10;
/// A timer's initiation is up to 333 ms late, and what follows from it too.
const JITTER: u64 = 400;

/// One of two ends of a tunnel, of either kind.
trait End {
    type Datagram: Clone;
    /// Makes the two ends, which know each other.
    fn pair() -> [Self; 2]
    where
        Self: Sized;
    /// Loses everything but its key and its clock.
    fn restart(&mut self, now: u64);
    fn add_peer(&mut self, now: u64);
    fn remove_peer(&mut self);
    fn restart_handshake(&mut self, now: u64);
    fn send(&mut self, now: u64, payload: &[u8]);
    fn open(&mut self, now: u64, datagram: Self::Datagram) -> bool;
    fn handle_timeout(&mut self, now: u64);
    fn deadline(&mut self) -> Option<u64>;
    fn poll_transmit(&mut self, now: u64) -> Option<(char, Self::Datagram)>;
    fn poll_event(&mut self) -> Option<char>;
}

struct Simulated {
    tunnels: Tunnels,
    place: u8,
}

impl Simulated {
    fn peer(&self) -> NodeKey {
        NodeKey([2 - self.place; 32])
    }
}

impl End for Simulated {
    type Datagram = Frame;

    fn pair() -> [Self; 2] {
        [0, 1].map(|place| {
            let tunnels = Tunnels::new(NodeKey([place + 1; 32]), 0, Random::new(1, place.into()));
            Self { tunnels, place }
        })
    }

    fn restart(&mut self, now: u64) {
        self.tunnels = Tunnels::new(self.tunnels.own, self.tunnels.last_stamp(), Random::new(now, 7));
    }

    fn add_peer(&mut self, now: u64) {
        let (key, at) = (self.peer(), address(1 - self.place));
        self.tunnels.add_peer(Instant(now), key, Some(at));
    }

    fn remove_peer(&mut self) {
        self.tunnels.remove_peer(&self.peer());
    }

    fn restart_handshake(&mut self, now: u64) {
        self.tunnels.restart_handshake(Instant(now), self.peer());
    }

    fn send(&mut self, now: u64, payload: &[u8]) {
        self.tunnels.send(Instant(now), self.peer(), payload);
    }

    fn open(&mut self, now: u64, datagram: Frame) -> bool {
        self.tunnels.open(Instant(now), address(1 - self.place), datagram).is_some()
    }

    fn handle_timeout(&mut self, now: u64) {
        self.tunnels.handle_timeout(Instant(now));
    }

    fn deadline(&mut self) -> Option<u64> {
        self.tunnels.deadline().map(Instant::as_millis)
    }

    fn poll_transmit(&mut self, _: u64) -> Option<(char, Frame)> {
        let (_, frame) = self.tunnels.poll_transmit()?;
        let kind = match &frame {
            Frame::Initiation { .. } => 'i',
            Frame::Response { .. } => 'r',
            Frame::Data { payload, .. } if payload.is_empty() => 'k',
            Frame::Data { .. } => 'd',
        };
        Some((kind, frame))
    }

    fn poll_event(&mut self) -> Option<char> {
        Some(match self.tunnels.poll_event()? {
            Event::Established(_) => 'E',
            Event::Unreachable(_) => 'U',
            Event::Unknown(_) => '?',
        })
    }
}

struct Real {
    identity: Identity,
    peer: NodeKey,
    zero: Clock,
    tunnels: real::Tunnels,
    place: u8,
}

impl Real {
    fn at(&self, now: u64) -> Clock {
        self.zero + Duration::from_millis(now)
    }

    fn handle(&self) -> Option<real::PeerHandle> {
        self.tunnels.peer(&self.peer, real::Local::Own)
    }

    fn tunnels(identity: &Identity, seed: u8, zero: Clock, now: u64) -> real::Tunnels {
        let since = Duration::from_millis(now);
        real::Tunnels::new(
            identity,
            Zeroizing::new([seed; 32]),
            zero + since,
            Duration::from_secs(1_800_000_000) + since,
        )
    }
}

impl End for Real {
    type Datagram = Vec<u8>;

    fn pair() -> [Self; 2] {
        let zero = Clock::now();
        let identities = [0, 1].map(|_| Identity::generate().unwrap());
        let keys = [identities[0].public(), identities[1].public()];
        let mut place = 0;
        identities.map(|identity| {
            let tunnels = Self::tunnels(&identity, place + 1, zero, 0);
            let end = Self { peer: keys[1 - usize::from(place)], identity, zero, tunnels, place };
            place += 1;
            end
        })
    }

    fn restart(&mut self, now: u64) {
        self.tunnels = Self::tunnels(&self.identity, self.place + 10, self.zero, now);
    }

    fn add_peer(&mut self, now: u64) {
        let at = self.at(now);
        self.tunnels.add_peer(self.peer, Some(address(1 - self.place)), real::Local::Own, at).unwrap();
    }

    fn remove_peer(&mut self) {
        if let Some(peer) = self.handle() {
            self.tunnels.remove_peer(peer);
        }
    }

    fn restart_handshake(&mut self, now: u64) {
        let at = self.at(now);
        let peer = self.handle().unwrap();
        self.tunnels.restart_handshake(peer, at).unwrap();
    }

    fn send(&mut self, now: u64, payload: &[u8]) {
        // The script sends nothing where there is a session to send it in at once: all is fetched from the queue.
        let (at, mut out) = (self.at(now), [0; 2048]);
        let Some(peer) = self.handle() else { return };
        if let Ok(real::Sealed::Datagram { len, .. }) = self.tunnels.seal(peer, payload, &mut out, at) {
            PENDING.with_borrow_mut(|pending| pending.entry(self.place).or_default().push(out[..len].to_vec()));
        }
    }

    fn open(&mut self, now: u64, datagram: Vec<u8>) -> bool {
        let (at, mut out) = (self.at(now), [0; 2048]);
        let from = address(1 - self.place);
        matches!(self.tunnels.open(from, &datagram, &mut out, at), real::Opened::Data { .. })
    }

    fn handle_timeout(&mut self, now: u64) {
        let at = self.at(now);
        self.tunnels.handle_timeout(at);
    }

    fn deadline(&mut self) -> Option<u64> {
        let left = self.tunnels.poll_timeout()?.saturating_duration_since(self.zero);
        u64::try_from(left.as_micros().div_ceil(1_000)).ok()
    }

    fn poll_transmit(&mut self, now: u64) -> Option<(char, Vec<u8>)> {
        let (at, mut out) = (self.at(now), [0; 2048]);
        let sealed = PENDING.with_borrow_mut(|pending| pending.get_mut(&self.place).and_then(Vec::pop));
        let datagram = match sealed {
            Some(datagram) => datagram,
            None => {
                let len = self.tunnels.poll_transmit(&mut out, at)?.len;
                out[..len].to_vec()
            }
        };
        let kind = match (datagram[0], datagram.len()) {
            (1, _) => 'i',
            (2, _) => 'r',
            (4, 32) => 'k',
            _ => 'd',
        };
        Some((kind, datagram))
    }

    fn poll_event(&mut self) -> Option<char> {
        loop {
            match self.tunnels.poll_event()? {
                real::TunnelEvent::Established { .. } => return Some('E'),
                real::TunnelEvent::Unreachable { .. } => return Some('U'),
                real::TunnelEvent::UnknownInitiation { .. } => return Some('?'),
                real::TunnelEvent::EndpointChanged { .. } => {}
            }
        }
    }
}

thread_local! {
    /// Datagrams that the real tunnel sealed at once, by end.
    static PENDING: std::cell::RefCell<BTreeMap<u8, Vec<Vec<u8>>>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

fn address(place: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + place], 50103))
}

/// What is done to the two ends, 0 and 1.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Restart(usize),
    Tell(usize),
    Forget(usize),
    Learn(usize),
    Cut,
    Mend,
}

/// What happened, and when: what end 0 or 1 sent (`i`nitiation, `r`esponse, `d`ata, `k`eepalive), what it was told (`E`stablished,
/// `U`nreachable, `?` unknown key), and payloads that it got (`+`).
type Log = Vec<(u64, usize, char)>;

fn run<E: End>(script: &[(u64, Step)]) -> Log {
    let mut ends = E::pair();
    let mut flight: BTreeMap<(u64, u64), (usize, E::Datagram)> = BTreeMap::new();
    let (mut log, mut now, mut count, mut cut, mut script) = (Log::new(), 0, 0, false, script.iter().peekable());
    loop {
        let timers = ends.iter_mut().filter_map(End::deadline).min();
        let next = [timers, flight.keys().next().map(|key| key.0), script.peek().map(|step| step.0)];
        // The end of the script is the end.
        if script.peek().is_none() {
            return log;
        }
        now = next.into_iter().flatten().min().unwrap().max(now);
        if let Some((_, step)) = script.next_if(|step| step.0 <= now) {
            match *step {
                Step::Send(end) => ends[end].send(now, b"payload"),
                Step::Restart(end) => {
                    ends[end].restart(now);
                    ends[end].add_peer(now);
                }
                Step::Tell(end) => ends[end].restart_handshake(now),
                Step::Forget(end) => ends[end].remove_peer(),
                Step::Learn(end) => ends[end].add_peer(now),
                Step::Cut => cut = true,
                Step::Mend => cut = false,
            }
        } else if let Some(first) = flight.first_entry().filter(|first| first.key().0 <= now) {
            let (to, datagram) = first.remove();
            if ends[to].open(now, datagram) {
                log.push((now, to, '+'));
            }
        } else {
            ends.iter_mut().for_each(|end| end.handle_timeout(now));
        }
        for (place, end) in ends.iter_mut().enumerate() {
            while let Some((kind, datagram)) = end.poll_transmit(now) {
                log.push((now, place, kind));
                count += 1;
                if !cut {
                    flight.insert((now + DELAY, count), (1 - place, datagram));
                }
            }
            log.extend(std::iter::from_fn(|| end.poll_event()).map(|event| (now, place, event)));
        }
    }
}

/// Both kinds go through the script: each end does the same things as often, each at times that differ by no more than the jitter of
/// the initiations that came before.
#[track_caller]
fn same(script: &[(u64, Step)], seconds: u64) {
    let script = [script, &[(seconds * 1_000, Step::Mend)]].concat();
    let logs = [run::<Simulated>(&script), run::<Real>(&script)];
    for (end, kind) in [0, 1].into_iter().flat_map(|end| "irdkEU?+".chars().map(move |kind| (end, kind))) {
        let times = |log: &Log| {
            log.iter().filter(|entry| (entry.1, entry.2) == (end, kind)).map(|entry| entry.0).collect::<Vec<_>>()
        };
        let [simulated, real] = [times(&logs[0]), times(&logs[1])];
        assert_eq!(simulated.len(), real.len(), "{kind:?} of end {end}: {simulated:?} and {real:?} in {logs:?}");
        for (a, b) in simulated.into_iter().zip(real) {
            let initiations = logs[0].iter().filter(|entry| entry.0 <= a && entry.2 == 'i').count() as u64;
            assert!(a.abs_diff(b) <= JITTER * initiations + 1, "{kind:?} of end {end}: at {a} and at {b} ms");
        }
    }
    assert!(logs[0].len() > 5);
}

const BOTH_KNOW: [(u64, Step); 2] = [(0, Step::Learn(0)), (0, Step::Learn(1))];

#[test]
fn a_session_of_an_hour_with_pauses_is_renewed_kept_alive_and_given_up_alike() {
    let talk = (0..40).map(|n| (1_000 + n * 7_300, Step::Send((n % 3 == 0).into())));
    let rarely = (0..12).map(|n| (400_000 + n * 95_000, Step::Send((n % 2) as usize)));
    let after_long = [(2_900_000, Step::Send(1)), (2_900_100, Step::Send(0))];
    let script: Vec<_> = BOTH_KNOW.into_iter().chain(talk).chain(rarely).chain(after_long).collect();
    same(&script, 3_600);
}

#[test]
fn one_way_traffic_is_answered_by_keepalives_alike() {
    let sends = (0..40).map(|n| (1_000 + n * 1_700, Step::Send(0)));
    let script: Vec<_> = BOTH_KNOW.into_iter().chain(sends).collect();
    same(&script, 300);
}

#[test]
fn a_peer_that_is_cut_off_is_tried_reported_and_given_up_alike() {
    let script = [(1_000, Step::Send(0)), (20_000, Step::Cut), (21_000, Step::Send(0)), (22_000, Step::Send(1))];
    same(&[&BOTH_KNOW[..], &script].concat(), 200);
    let script = [(0, Step::Cut), (1_000, Step::Send(0)), (9_500, Step::Mend), (10_500, Step::Send(1))];
    same(&[&BOTH_KNOW[..], &script].concat(), 60);
}

#[test]
fn a_restart_is_noticed_alike_and_at_once_when_it_is_told() {
    let begin = [(1_000, Step::Send(0)), (2_000, Step::Send(1)), (15_000, Step::Restart(1))];
    let begin = [&BOTH_KNOW[..], &begin].concat();
    same(&[&begin[..], &[(16_000, Step::Send(0)), (17_000, Step::Send(0)), (40_000, Step::Send(0))]].concat(), 100);
    same(&[&begin[..], &[(16_000, Step::Tell(0)), (16_000, Step::Send(0)), (16_005, Step::Send(0))]].concat(), 100);
    same(&[&begin[..], &[(16_000, Step::Send(1)), (17_000, Step::Send(0))]].concat(), 100);
}

#[test]
fn a_stranger_waits_and_is_answered_when_it_becomes_known_alike() {
    let begin = [(0, Step::Learn(0)), (1_000, Step::Send(0)), (1_500, Step::Send(0))];
    same(&[&begin[..], &[(3_000, Step::Learn(1))]].concat(), 60);
    same(&[&begin[..], &[(30_000, Step::Learn(1))]].concat(), 120);
}

#[test]
fn what_is_sent_to_a_peer_that_has_forgotten_the_tunnel_is_lost_alike() {
    let script = [
        (1_000, Step::Send(0)),
        (2_000, Step::Send(1)),
        (5_000, Step::Forget(1)),
        (10_000, Step::Learn(1)),
        (20_000, Step::Send(0)),
        (21_000, Step::Send(0)),
        (50_000, Step::Send(0)),
    ];
    same(&[&BOTH_KNOW[..], &script].concat(), 100);
}
