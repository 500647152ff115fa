//! The instances of a service as a list, ordered by their numbers and threaded through their rows.

use super::{Table, entry};
use crate::link::Link;

impl<const S: usize, const I: usize, const N: usize> Table<S, I, N> {
    /// Threads an instance into its service's list, which is ordered by number. Tables arrive in that order, so the search
    /// from the end is short.
    pub(super) fn link(&mut self, service: usize, slot: usize) {
        let Some(number) = self.instances.get(slot).map(|i| i.number) else {
            return;
        };
        let mut behind = 0;
        let mut before = self.service(service).map_or(0, |s| s.last);
        while let Some(row) = (before as usize).checked_sub(1).and_then(|p| self.instances.get(p)) {
            if row.number < number {
                break;
            }
            behind = before;
            before = row.previous;
        }
        if let Some(row) = self.instances.get_mut(slot) {
            row.previous = before;
            row.next = behind;
        }
        self.set_next(service, before, entry(slot));
        self.set_previous(service, behind, entry(slot));
        self.instances_by_number.insert(self.number_hash(service, number), slot, 0);
        if let Some(row) = self.services.get_mut(service) {
            row.instances = row.instances.saturating_add(1);
        }
    }

    pub(super) fn unlink(&mut self, slot: usize) {
        let Some(instance) = self.instances.get(slot) else {
            return;
        };
        let (service, number, before, behind) = (instance.service, instance.number, instance.previous, instance.next);
        self.set_next(service, before, behind);
        self.set_previous(service, behind, before);
        self.instances_by_number.remove(self.number_hash(service, number), slot, 0);
        if let Some(row) = self.services.get_mut(service) {
            row.instances = row.instances.saturating_sub(1);
        }
    }

    /// Sets what follows `at` in a service's list; the list's head when `at` is none.
    fn set_next(&mut self, service: usize, at: Link, next: Link) {
        match (at as usize).checked_sub(1) {
            Some(slot) => {
                if let Some(row) = self.instances.get_mut(slot) {
                    row.next = next;
                }
            }
            None => {
                if let Some(row) = self.services.get_mut(service) {
                    row.first = next;
                }
            }
        }
    }

    /// Sets what is before `at` in a service's list; the list's tail when `at` is none.
    fn set_previous(&mut self, service: usize, at: Link, previous: Link) {
        match (at as usize).checked_sub(1) {
            Some(slot) => {
                if let Some(row) = self.instances.get_mut(slot) {
                    row.previous = previous;
                }
            }
            None => {
                if let Some(row) = self.services.get_mut(service) {
                    row.last = previous;
                }
            }
        }
    }
}
