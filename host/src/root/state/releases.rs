//! Resources without an owner: what waits for all clients to know, and what rests.

use acorn_core::time::Instant;

use super::super::clock::{Clock, millis};
use super::super::pool::{Rest, Slot};
use super::super::row::{ReleaseRow, Resource};
use super::{Release, State};

impl State {
    pub(super) fn put_release(&mut self, now: Instant, clock: &Clock, resource: Resource, row: ReleaseRow) {
        // One that another root's clients have acknowledged is of the version that it was of before.
        let before = match self.releases.get(&resource) {
            Some(Release::Withdrawn { version, .. }) => Some(*version),
            _ => None,
        };
        self.unindex_release(resource);
        let (release, slot) = match row {
            ReleaseRow::Withdrawn { service, since_unix_ms, acknowledged } => {
                self.withdrawn.entry(service).or_default().insert(resource);
                let version = before
                    .or_else(|| self.services.get(&service).map(|s| s.version))
                    .or_else(|| self.gone.get(&service).copied());
                let until = since_unix_ms.saturating_add(millis(self.retention));
                let release = Release::Withdrawn {
                    service,
                    version: version.unwrap_or(self.highest_version),
                    until: clock.deadline(now, until, self.retention),
                    since_unix_ms,
                    acknowledged,
                };
                (release, Slot::Withdrawn)
            }
            ReleaseRow::Quarantine { until_unix_ms } => {
                let until = clock.deadline(now, until_unix_ms, self.quarantine);
                (Release::Quarantine { until }, Slot::Quarantine(Rest { until, until_unix_ms }))
            }
        };
        self.addresses.release(resource, slot);
        self.releases.insert(resource, release);
    }

    pub(super) fn unindex_release(&mut self, resource: Resource) {
        let Some(Release::Withdrawn { service, .. }) = self.releases.remove(&resource) else {
            return;
        };
        let Some(rest) = self.withdrawn.get_mut(&service) else {
            return;
        };
        rest.remove(&resource);
        if rest.is_empty() {
            self.withdrawn.remove(&service);
            self.gone.remove(&service);
        }
    }
}
