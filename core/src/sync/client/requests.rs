//! Attachments, adjustments and detachments on their way to the manager.

use core::time::Duration;

use crate::addr::Dual;
use crate::ids::InstanceId;
use crate::router::Attachment;
use crate::sync::Backoff;
use crate::sync::message::{
    Adjust, Adjustment, Attach, AttachKind, Attached, Detach, Message, Refusal, Turn, is_later,
};
use crate::time::Instant;

const REPEAT: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(2) };

/// Names a request until its outcome has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(u32);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instance is attached.
    Attached(Attachment),
    /// The instance is detached.
    Detached(InstanceId),
    /// The instance is picked as was asked for.
    Adjusted(InstanceId),
    /// The manager refuses the request.
    Refused(Refusal),
    /// The manager says that an instance that was running here does so no more.
    Lost(InstanceId, Refusal),
}

#[derive(Clone, Debug)]
enum Kind {
    Attach(AttachKind, Dual, Adjustment),
    Detach(InstanceId),
    Adjust(InstanceId, Adjustment),
}

#[derive(Clone, Debug)]
struct Request {
    number: u32,
    kind: Kind,
    outcome: Option<Outcome>,
    tries: u8,
    next: Instant,
}

/// Up to `R` requests.
pub(super) struct Requests<const R: usize> {
    rows: heapless::Vec<Request, R>,
}

impl<const R: usize> Requests<R> {
    pub(super) const fn new() -> Self {
        Self { rows: heapless::Vec::new() }
    }

    /// Asks for an attachment; none when too many requests are under way.
    pub(super) fn attach(
        &mut self,
        now: Instant,
        number: u32,
        kind: AttachKind,
        namespace_ip: Dual,
        settings: Adjustment,
    ) -> Option<RequestId> {
        self.push(now, number, Kind::Attach(kind, namespace_ip, settings))
    }

    /// Asks for another way of picking an instance; none when too many requests are under way. It waits for those that were
    /// asked for before for the same instance, so that none of them gets lost or undoes it.
    pub(super) fn adjust(
        &mut self,
        now: Instant,
        number: u32,
        instance: InstanceId,
        change: Adjustment,
    ) -> Option<RequestId> {
        self.push(now, number, Kind::Adjust(instance, change))
    }

    /// Asks for a detachment; none when too many requests are under way. One for an attachment that is on its way takes its
    /// place.
    pub(super) fn detach(&mut self, now: Instant, number: u32, instance: InstanceId) -> Option<RequestId> {
        self.rows.retain(|r| !matches!(&r.kind, Kind::Attach(AttachKind::Resume(id), ..) if *id == instance));
        self.push(now, number, Kind::Detach(instance))
    }

    /// Says again that an instance runs here. One that is being said already is left alone.
    pub(super) fn resume(&mut self, now: Instant, number: u32, attachment: &Attachment) {
        let is_said = |r: &Request| {
            r.outcome.is_none() && matches!(&r.kind, Kind::Attach(AttachKind::Resume(id), ..) if *id == attachment.id)
        };
        if !self.rows.iter().any(is_said) {
            // What does not fit now is asked for again by the manager, whose digest differs.
            let kind = AttachKind::Resume(attachment.id);
            let _ = self.attach(now, number, kind, attachment.namespace_ip, Adjustment::default());
        }
    }

    /// Gives a request up: its outcome, should it come, is of no interest.
    pub(super) fn cancel(&mut self, id: RequestId) {
        self.rows.retain(|r| r.number != id.0);
    }

    /// Takes the answer to an attachment in. Returns what is to be put into the router.
    pub(super) fn attached(&mut self, attached: &Attached) -> Option<Attachment> {
        let place = self.rows.iter().position(|r| r.number == attached.request && r.outcome.is_none())?;
        let request = self.rows.get_mut(place)?;
        let Kind::Attach(kind, namespace_ip, _) = &request.kind else {
            return None;
        };
        let attachment =
            Attachment { id: attached.instance, instance_ip: attached.instance_ip, namespace_ip: *namespace_ip };
        if matches!(kind, AttachKind::Resume(_)) {
            self.rows.swap_remove(place);
        } else {
            request.outcome = Some(Outcome::Attached(attachment));
        }
        Some(attachment)
    }

    pub(super) fn detached(&mut self, number: u32) {
        if let Some(request) = self.rows.iter_mut().find(|r| r.number == number && r.outcome.is_none())
            && let Kind::Detach(instance) = request.kind
        {
            request.outcome = Some(Outcome::Detached(instance));
        }
    }

    pub(super) fn adjusted(&mut self, number: u32) {
        if let Some(request) = self.rows.iter_mut().find(|r| r.number == number && r.outcome.is_none())
            && let Kind::Adjust(instance, _) = request.kind
        {
            request.outcome = Some(Outcome::Adjusted(instance));
        }
    }

    /// Takes a refusal in; false when it is of no request of this kind.
    pub(super) fn refused(&mut self, number: u32, refusal: Refusal) -> bool {
        let Some(request) = self.rows.iter_mut().find(|r| r.number == number && r.outcome.is_none()) else {
            return false;
        };
        request.outcome = match request.kind {
            // What runs is not cut off because the manager is in trouble for a while: it is said again.
            Kind::Attach(AttachKind::Resume(_), ..) if matches!(refusal, Refusal::Storage | Refusal::Full) => None,
            Kind::Attach(AttachKind::Resume(instance), ..) => Some(Outcome::Lost(instance, refusal)),
            _ => Some(Outcome::Refused(refusal)),
        };
        true
    }

    /// The attachment that was answered has no room here after all.
    pub(super) fn no_room(&mut self, number: u32) {
        if let Some(request) = self.rows.iter_mut().find(|r| r.number == number) {
            request.outcome = Some(Outcome::Refused(Refusal::Full));
        }
    }

    /// New attachments that have been asked for and not answered.
    pub(super) fn attaching(&self) -> usize {
        let is_new = |r: &&Request| {
            r.outcome.is_none() && matches!(&r.kind, Kind::Attach(kind, ..) if !matches!(kind, AttachKind::Resume(_)))
        };
        self.rows.iter().filter(is_new).count()
    }

    /// The next outcome. The request is done with then.
    pub(super) fn poll_outcome(&mut self) -> Option<(RequestId, Outcome)> {
        let place = self.rows.iter().position(|r| r.outcome.is_some())?;
        let request = self.rows.swap_remove(place);
        request.outcome.map(|outcome| (RequestId(request.number), outcome))
    }

    /// When the next request is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let open = self.rows.iter().filter(|r| r.outcome.is_none() && !self.waits(r));
        open.map(|r| r.next).min()
    }

    /// The next request that is due. `epoch` is the node's.
    pub(super) fn due(&mut self, now: Instant, epoch: u32) -> Option<Message> {
        let place = self.rows.iter().position(|r| r.outcome.is_none() && now >= r.next && !self.waits(r))?;
        let request = self.rows.get_mut(place)?;
        request.next = now.saturating_add(REPEAT.after(request.tries));
        request.tries = request.tries.saturating_add(1);
        Some(match &request.kind {
            Kind::Attach(kind, namespace_ip, settings) => {
                let attach = Attach { request: request.number, kind: kind.clone(), namespace_ip: *namespace_ip };
                if *settings == Adjustment::default() {
                    Message::Attach(attach)
                } else {
                    Message::AttachAs(attach, *settings)
                }
            }
            Kind::Detach(instance) => Message::Detach(Detach { request: request.number, instance: *instance }),
            Kind::Adjust(instance, change) => Message::Adjust(Adjust {
                turn: Turn { epoch, request: request.number },
                instance: *instance,
                change: *change,
            }),
        })
    }

    /// Whether an adjustment has to wait for an earlier one of the same instance.
    fn waits(&self, request: &Request) -> bool {
        let Kind::Adjust(instance, _) = request.kind else {
            return false;
        };
        self.rows.iter().any(|r| {
            r.outcome.is_none()
                && r.number != request.number
                && is_later(request.number, r.number)
                && matches!(r.kind, Kind::Adjust(other, _) if other == instance)
        })
    }

    fn push(&mut self, now: Instant, number: u32, kind: Kind) -> Option<RequestId> {
        self.rows.push(Request { number, kind, outcome: None, tries: 0, next: now }).ok()?;
        Some(RequestId(number))
    }
}
