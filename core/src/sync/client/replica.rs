//! What a client's pages are applied to: the table of a router, or what a cluster keeps for its nodes.

use super::Wanted;
use crate::addr::WorkerSubnet;
use crate::ids::ServiceId;
use crate::router::{Attachment, Router};
use crate::sync::message::{PageKind, Subject, TablePage};
use crate::table::{Owner, TableFull};

/// The state that a client keeps in step with its manager's.
pub trait Replica {
    /// The manager has said which subnets are the client's.
    fn set_subnet(&mut self, subnet: WorkerSubnet);

    /// The instances that run here.
    fn attachments(&self) -> impl Iterator<Item = &Attachment>;

    /// The manager has attached an instance.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room for it.
    fn attach(&mut self, attachment: Attachment) -> Result<(), TableFull>;

    /// Applies a page. What has no room is left out. What a part replaces goes, unless it `is_followed` by itself.
    ///
    /// # Errors
    /// [`TableFull`] when something had no room.
    fn apply(&mut self, page: &TablePage, is_followed: impl Fn(u32) -> bool) -> Result<(), TableFull>;

    /// Takes the one instance out that a page is about.
    fn remove_named(&mut self, page: &TablePage);

    /// All instances of a service have come.
    fn complete(&mut self, service: ServiceId);

    /// Takes out what only this subject kept here. Its service is still followed as a `whole`, and of its instances those that
    /// `is_followed` tells.
    fn clear(&mut self, subject: Subject, whole: bool, is_followed: impl Fn(u32) -> bool);

    /// Whether something here needs the subject.
    fn is_in_use(&self, subject: Subject) -> bool;

    /// Whether the answer of [`is_in_use`](Self::is_in_use) may have changed since [`take_use_news`](Self::take_use_news).
    fn has_use_news(&self) -> bool;

    /// The uses are looked at.
    fn take_use_news(&mut self);

    /// Whether nobody has to wait any more for what was looked up.
    fn is_known(&self, wanted: Wanted) -> bool;
}

impl<const S: usize, const I: usize, const N: usize, const F: usize, const L: usize> Replica for Router<S, I, N, F, L> {
    fn set_subnet(&mut self, subnet: WorkerSubnet) {
        Self::set_subnet(self, subnet);
    }

    fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.iter()
    }

    fn attach(&mut self, attachment: Attachment) -> Result<(), TableFull> {
        if self.attachments.put(attachment)? {
            self.begin_sweep();
        }
        Ok(())
    }

    fn apply(&mut self, page: &TablePage, is_followed: impl Fn(u32) -> bool) -> Result<(), TableFull> {
        let registry = self.registry();
        let mut result = Ok(());
        let service = self.table.ensure_service(page.subject.service)?;
        if let Some(header) = &page.header {
            self.table.set_header(service, header, &registry);
        }
        let concerned = |number: u32| page.subject.instance.is_none_or(|n| n == number);
        let mut gone = false;
        if let PageKind::Replace { from, to } = page.kind {
            let mut at = from;
            loop {
                let next = self
                    .table
                    .instances_of(service)
                    .filter_map(|slot| self.table.instance(slot).map(|i| (i.number, slot)))
                    .find(|(number, _)| *number >= at && to.is_none_or(|to| *number < to));
                let Some((number, slot)) = next else { break };
                let named = page.records.iter().any(|r| r.number == number);
                if concerned(number) && !named && !is_followed(number) {
                    self.table.remove_instance(slot);
                    gone = true;
                }
                let Some(behind) = number.checked_add(1) else {
                    break;
                };
                at = behind;
            }
        }
        for number in page.removed.iter().filter(|number| concerned(**number)) {
            if let Some(slot) = self.table.find_instance(service, *number) {
                self.table.remove_instance(slot);
                gone = true;
            }
        }
        for record in page.records.iter().filter(|record| concerned(record.number)) {
            let Some(node) = page.nodes.iter().find(|node| node.id == record.node) else {
                continue;
            };
            let before =
                self.table.find_instance(service, record.number).and_then(|slot| self.table.instance_ref(slot));
            let put = self.table.put_node(node).and_then(|node| self.table.put_instance(service, record, node));
            match put {
                Ok(_) => gone |= before.is_some_and(|before| !self.table.is_current(before)),
                Err(full) => result = Err(full),
            }
        }
        if gone {
            self.begin_sweep();
        }
        result
    }

    fn remove_named(&mut self, page: &TablePage) {
        if let Some(number) = page.subject.instance
            && let Some(service) = self.table.find_service(page.subject.service)
            && let Some(slot) = self.table.find_instance(service, number)
        {
            self.table.remove_instance(slot);
            self.begin_sweep();
        }
    }

    fn complete(&mut self, service: ServiceId) {
        if let Some(service) = self.table.find_service(service) {
            self.table.set_complete(service, true);
        }
    }

    fn clear(&mut self, subject: Subject, whole: bool, is_followed: impl Fn(u32) -> bool) {
        let Some(service) = self.table.find_service(subject.service) else {
            return;
        };
        if !whole {
            self.table.set_complete(service, false);
        }
        let mut from = 0u32;
        loop {
            let next = self
                .table
                .instances_of(service)
                .filter_map(|slot| self.table.instance(slot).map(|i| (i.number, slot)))
                .find(|(number, _)| *number >= from);
            let Some((number, slot)) = next else { break };
            let concerned = subject.instance.is_none_or(|n| n == number);
            if concerned && !whole && !is_followed(number) {
                self.table.remove_instance(slot);
                self.begin_sweep();
            }
            let Some(behind) = number.checked_add(1) else {
                break;
            };
            from = behind;
        }
        let empty = self.table.service(service).is_none_or(|s| s.instances == 0);
        if !whole && empty {
            self.table.remove_service(service);
        }
    }

    fn is_in_use(&self, subject: Subject) -> bool {
        self.table.find_service(subject.service).is_some_and(|service| match subject.instance {
            None => self.table.flows_of(service) > 0,
            Some(number) => self
                .table
                .find_instance(service, number)
                .and_then(|slot| self.table.instance(slot))
                .is_some_and(|i| i.flows > 0),
        })
    }

    fn has_use_news(&self) -> bool {
        self.table.has_use_news()
    }

    fn take_use_news(&mut self) {
        self.table.take_use_news();
    }

    fn is_known(&self, wanted: Wanted) -> bool {
        let address = match wanted {
            Wanted::Address(address) => address,
            Wanted::Node(key) => return self.table.find_node(&key).is_some(),
        };
        match self.table.owner(address) {
            None => false,
            Some(Owner::Service(service, _)) => self.table.service(service).is_some_and(|s| s.complete),
            Some(Owner::Instance(_) | Owner::Namespace(_)) => true,
        }
    }
}
