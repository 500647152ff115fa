//! Engine and tunnels kept in step: whom the one talks to the other is told of, and what the other finds out the one is told.

use acorn_core::node::PeerNews;
use embassy_time::{Duration, Instant};

use super::{Runner, engine_time};
use crate::log::{info, warn};
use crate::tunnels::Event;

/// How long the manager may not answer under one key before the other one is tried: longer than a handshake over a bad path takes, and
/// over before an operator loses patience.
const KEY_TRIAL: Duration = Duration::from_secs(12);

impl<const S: usize, const I: usize, const N: usize, const F: usize, const P: usize, const PORTS: usize>
    Runner<'_, S, I, N, F, P, PORTS>
{
    /// Keeps the tunnels' peers those that the engine knows.
    pub(super) fn follow_peers(&mut self) {
        while let Some(news) = self.engine.poll_peer() {
            match news {
                PeerNews::Known { peer, restarted, .. } => {
                    if let Some(known) = self.peer_of(peer) {
                        self.tunnels.configure(Instant::now(), known, restarted);
                        if !known.is_manager && !self.tunnels.has(&known.key) {
                            if self.introduced.is_full() {
                                self.introduced.pop_front();
                            }
                            let _ = self.introduced.push_back(peer);
                        }
                    }
                }
                PeerNews::Gone { peer, .. } => self.tunnels.forget(peer),
            }
        }
    }

    /// Tells the engine what the tunnels have found out. False when there was nothing.
    pub(super) fn follow_tunnels(&mut self) -> bool {
        let at = engine_time(Instant::now());
        let mut any = false;
        while let Some(event) = self.tunnels.poll_event() {
            any = true;
            match event {
                Event::Established(row) => {
                    if self.engine.peer(row).is_some_and(|peer| peer.manager) {
                        self.is_manager_silent = false;
                    }
                    self.engine.peer_established(at, row);
                }
                Event::Unreachable(row) => {
                    if self.engine.peer(row).is_some_and(|peer| peer.manager) {
                        self.is_manager_silent = true;
                    }
                    self.engine.peer_unreachable(row);
                }
                Event::Refused(_) => warn!("more peers than tunnels, and none is idle"),
            }
        }
        any
    }

    /// Goes over from the join key to the node's own once the manager knows it; and while the manager answers to neither, tries one after
    /// the other: whether it knows the node already, the node can't be sure after a loss of power.
    pub(super) fn follow_joining(&mut self) {
        let now = Instant::now();
        let client = self.engine.client();
        let (is_joining, is_member) = (client.is_joining(), client.is_connected(engine_time(now)));
        if is_member && !self.has_joined {
            self.has_joined = true;
        }
        if is_joining != self.reported.was_joining {
            self.reported.was_joining = is_joining;
            self.end_manager_tunnels();
        }
        if self.engine.client().membership().is_some() || !self.tunnels.can_join() {
            self.tried_since = None;
            return;
        }
        if !self.underlay.is_up() {
            self.tried_since = None;
            return;
        }
        let since = *self.tried_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= KEY_TRIAL {
            self.tried_since = Some(now);
            self.reported.was_joining = !is_joining;
            self.end_manager_tunnels();
            self.engine.set_joining(engine_time(now), !is_joining);
            let (tried, other) =
                if is_joining { ("join key", "node's own key") } else { ("node's own key", "join key") };
            info!("no answer to the {}: trying the {}", tried, other);
        }
    }

    /// When the other key is to be tried.
    pub(super) fn next_trial(&self) -> Option<Instant> {
        self.tried_since.map(|since| since + KEY_TRIAL)
    }

    /// Ends the tunnels to all managers: they were made with the key that is not used any more.
    fn end_manager_tunnels(&mut self) {
        for manager in self.engine.client().managers() {
            self.tunnels.remove(&manager.key);
        }
    }
}
