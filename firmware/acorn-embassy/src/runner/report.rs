//! What the node shows of itself: snapshots for the handles, and log lines when something gets worse.

use acorn_core::stats::DropReason;
use embassy_time::{Duration, Instant};

use super::{Runner, engine_time};
use crate::log::warn;
use crate::status::Standing;

/// How much older than its last packet a snapshot is at most.
pub const SNAPSHOT_AGE: Duration = Duration::from_millis(100);

/// How far apart two lines about the same trouble are.
const WARN_INTERVAL: Duration = Duration::from_secs(5);

/// What is counted here, and what was said last.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) packets_out: u32,
    pub(super) packets_in: u32,
    pub(super) overlay_full: u32,
    pub(super) was_joining: bool,
    standing: Option<Standing>,
    next_snapshot: Option<Instant>,
    next_warning: Option<Instant>,
    /// Limits reached: in the table, of interests, of flows, of tunnels, of look-ups.
    limits: [u32; 5],
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const P: usize, const PORTS: usize>
    Runner<'_, S, I, N, F, P, PORTS>
{
    /// Writes a new snapshot when the last one is too old or the standing has changed, and logs what got worse.
    pub(super) fn report(&mut self) {
        let now = Instant::now();
        let standing = self.standing(now);
        let is_due = self.reported.next_snapshot.is_none_or(|at| now >= at);
        if !is_due && self.reported.standing == Some(standing) {
            return;
        }
        self.reported.next_snapshot = Some(now + SNAPSHOT_AGE);
        if self.reported.standing != Some(standing) {
            self.reported.standing = Some(standing);
            self.log_standing(standing);
        }
        self.warn_of_limits(now);
        let (engine, tunnels, reported, underlay) = (&*self.engine, &*self.tunnels, &self.reported, &self.underlay);
        let (manager, has_joined) = (self.manager_endpoint(), self.has_joined);
        self.node.update(|status| {
            let router = engine.router();
            status.standing = standing;
            status.manager = manager;
            status.has_joined = has_joined;
            status.table = router.table.len();
            status.flows = router.flows.len();
            status.tunnels = tunnels.len();
            status.set_drops(|reason| router.counters.drops(reason));
            let counters = &mut status.counters;
            counters.packets_out = reported.packets_out;
            counters.packets_in = reported.packets_in;
            counters.overlay_full = reported.overlay_full;
            counters.underlay_dropped = underlay.dropped;
            counters.underlay_strange = underlay.strange;
            counters.flows_evicted = router.counters.flows_evicted as u32;
            counters.sync = engine.client().counters;
            counters.tunnels = tunnels.counters;
        });
    }

    fn standing(&self, now: Instant) -> Standing {
        let client = self.engine.client();
        if !self.underlay.is_up() {
            Standing::NoUnderlay
        } else if client.is_connected(engine_time(now)) {
            Standing::Member
        } else if let Some(version) = client.foreign_version() {
            Standing::ManagerVersion(version)
        } else if let Some(refusal) = client.refusal() {
            Standing::Refused(refusal)
        } else if self.has_joined {
            Standing::Alone
        } else if self.is_manager_silent {
            Standing::ManagerSilent
        } else {
            Standing::Joining
        }
    }

    fn log_standing(&self, standing: Standing) {
        let meaning = standing.meaning();
        match (standing, self.manager_endpoint()) {
            (Standing::ManagerVersion(version), _) => {
                warn!("{=str} (it speaks version {=u8})", meaning, version);
            }
            (Standing::Member, _) => crate::log::info!("{=str}", meaning),
            (_, Some(manager)) => {
                let [a, b, c, d] = manager.ip().octets();
                warn!("{=str} (manager {=u8}.{=u8}.{=u8}.{=u8}:{=u16})", meaning, a, b, c, d, manager.port());
            }
            (_, None) => warn!("{=str}", meaning),
        }
    }

    /// Says that a limit was reached, once in a while.
    fn warn_of_limits(&mut self, now: Instant) {
        let (sync, router) = (&self.engine.client().counters, self.engine.router());
        let limits = [
            sync.table_full,
            sync.interests_full,
            router.counters.flows_evicted as u32,
            self.tunnels.counters.peers_full,
            router.counters.drops(DropReason::ResolveFull) as u32,
        ];
        if limits == self.reported.limits || self.reported.next_warning.is_some_and(|at| now < at) {
            return;
        }
        self.reported.next_warning = Some(now + WARN_INTERVAL);
        self.reported.limits = limits;
        let [table, interests, flows, peers, resolving] = limits;
        warn!(
            "full so far: table {=u32}, interests {=u32}, flows {=u32}, tunnels {=u32}, look-ups {=u32}",
            table, interests, flows, peers, resolving
        );
    }
}
