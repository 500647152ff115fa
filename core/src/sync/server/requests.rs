//! What clients ask for: tables, attachments, acknowledgements, and the end of an interest.

use super::counters::bump;
use super::streams::{Phase, Walk};
use super::{Answer, Server, ServerError, acknowledged, denied_with, refused};
use crate::ids::{InstanceId, NodeId};
use crate::sync::directory::{Directory, Lookup};
use crate::sync::message::{Adjustment, Attach, Message, Refusal, Resolve, SERVER_STREAMS, Subject, is_later};
use crate::time::Instant;

impl<const C: usize, const S: usize> Server<C, S> {
    /// Opens a stream, or continues one that is open under this number. Its pages come through `poll_transmit`.
    pub(super) fn resolve(
        &mut self,
        now: Instant,
        client: usize,
        resolve: &Resolve,
        directory: &mut impl Directory,
    ) -> Result<Answer, ServerError> {
        let number = resolve.stream;
        if number >= SERVER_STREAMS {
            bump(&mut self.counters.stream_number);
            return Err(ServerError::StreamNumber);
        }
        let subject = match directory.resolve(&resolve.key) {
            Lookup::Found(subject) => subject,
            Lookup::NotFound => {
                bump(&mut self.counters.not_found);
                return Ok(Some(Message::NotFound { stream: number }));
            }
            Lookup::Pending => {
                bump(&mut self.counters.pending);
                return Ok(None);
            }
        };
        let asker = self.verify_asker(client, resolve.asker, directory);
        if let Some(row) = self.streams.find(client, subject) {
            self.resolve_again(now, row, number, asker, directory);
            return Ok(None);
        }
        // The nodes behind a cluster may know an older table, until it says that they don't.
        let is_cluster = self.sessions.get(client).is_some_and(|session| session.cluster);
        let version = if is_cluster { 0 } else { directory.version(subject.service).unwrap_or(0) };
        let Some(row) = self.streams.open(now, client, subject, number, version) else {
            return Ok(refused(&mut self.counters.streams_full, number, Refusal::Full));
        };
        if let Some(stream) = self.streams.get_mut(row) {
            stream.asker = asker;
        }
        directory.opened(subject);
        self.streams.due.set(row, now);
        Ok(None)
    }

    /// A `Resolve` of a subject that the client follows already.
    fn resolve_again(
        &mut self,
        now: Instant,
        row: usize,
        number: u32,
        asker: Option<InstanceId>,
        directory: &mut impl Directory,
    ) {
        let Some(stream) = self.streams.get_mut(row) else {
            return;
        };
        if stream.number != number {
            if stream.is_introduction() || is_later(number, stream.number) {
                stream.restart(now, number, asker);
                self.streams.due.set(row, now);
            }
            // Otherwise it is a late repeat of one that has been replaced since.
            return;
        }
        let is_new_asker = asker.is_some() && stream.asker != asker;
        if is_new_asker {
            stream.asker = asker;
        }
        if stream.phase == Phase::Sent {
            self.streams.due.set(row, now);
        }
        if is_new_asker {
            self.introduce_to_all(now, row, directory);
        }
    }

    /// The asker of a `Resolve`, if it runs where it is said to.
    fn verify_asker(
        &mut self,
        client: usize,
        asker: Option<InstanceId>,
        directory: &impl Directory,
    ) -> Option<InstanceId> {
        let asker = asker?;
        let node = self.sessions.get(client)?.node;
        if super::introductions::runs_on(asker, node, directory) {
            return Some(asker);
        }
        bump(&mut self.counters.asker_elsewhere);
        None
    }

    /// Handles what a node says of itself and of what runs on it, be it to this server or to a cluster that passes it on. `epoch` is
    /// that of the node's present start.
    pub(super) fn statement(
        &mut self,
        now: Instant,
        node: NodeId,
        epoch: u32,
        message: Message,
        directory: &mut impl Directory,
    ) -> Result<Answer, ServerError> {
        Ok(match message {
            Message::Attach(attach) => self.attach(now, node, &attach, Adjustment::default(), directory),
            Message::AttachAs(attach, settings) => self.attach(now, node, &attach, settings, directory),
            Message::Detach(detach) => match directory.detach(now, node, &detach) {
                Ok(()) => Some(Message::Detached { request: detach.request }),
                Err(denied) => denied_with(&mut self.counters.detach_refused, detach.request, denied),
            },
            // Nothing is answered to what a node said before its last start: nobody waits for it.
            Message::Adjust(adjust) if adjust.turn.epoch != epoch => {
                bump(&mut self.counters.adjust_of_another_start);
                None
            }
            Message::Adjust(adjust) => match directory.adjust(now, node, &adjust) {
                Ok(()) => Some(Message::Adjusted { request: adjust.turn.request }),
                Err(denied) => denied_with(&mut self.counters.adjust_refused, adjust.turn.request, denied),
            },
            Message::Report(report) if directory.report(now, node, &report) => {
                Some(Message::Reported { request: report.request })
            }
            // The node repeats what comes too early.
            Message::Report(_) => {
                bump(&mut self.counters.report_too_early);
                None
            }
            Message::Hello(_)
            | Message::Resolve(_)
            | Message::Forget { .. }
            | Message::Ack { .. }
            | Message::Welcome(_)
            | Message::Table(_)
            | Message::NotFound { .. }
            | Message::Attached(_)
            | Message::Detached { .. }
            | Message::Adjusted { .. }
            | Message::Reported { .. }
            | Message::Probe(_)
            | Message::ProbeAnswer(_)
            | Message::Forgotten { .. }
            | Message::Refused { .. }
            | Message::Restarted { .. } => {
                bump(&mut self.counters.not_a_request);
                return Err(ServerError::NotARequest);
            }
        })
    }

    fn attach(
        &mut self,
        now: Instant,
        node: NodeId,
        attach: &Attach,
        settings: Adjustment,
        directory: &mut impl Directory,
    ) -> Answer {
        match directory.attach(now, node, attach, settings) {
            Ok(attached) => Some(Message::Attached(attached)),
            Err(denied) => denied_with(&mut self.counters.attach_refused, attach.request, denied),
        }
    }

    /// Ends a stream. One that is not open is as good as ended.
    pub(super) fn forget(
        &mut self,
        now: Instant,
        client: usize,
        subject: Subject,
        number: u32,
        directory: &mut impl Directory,
    ) -> Message {
        match self.find_stream(client, subject, number) {
            Some(row) => self.drop_stream(now, row, directory),
            None => bump(&mut self.counters.forget_unknown),
        }
        Message::Forgotten { subject, stream: number }
    }

    /// The client has applied a page.
    pub(super) fn ack(
        &mut self,
        now: Instant,
        client: usize,
        subject: Subject,
        number: u32,
        sequence: u32,
        directory: &mut impl Directory,
    ) {
        let Some(row) = self.find_stream(client, subject, number) else {
            bump(&mut self.counters.ack_unknown);
            return;
        };
        let is_cluster = self.sessions.get(client).is_some_and(|session| session.cluster);
        let Some(stream) = self.streams.get_mut(row) else {
            return;
        };
        if stream.phase != Phase::Sent || stream.sequence != sequence {
            bump(&mut self.counters.ack_out_of_turn);
            return;
        }
        if stream.walk == Walk::Gone {
            if is_cluster {
                // It ends when the nodes behind the cluster know too.
                stream.phase = Phase::Idle;
                self.streams.due.clear(row);
            } else {
                self.drop_stream(now, row, directory);
            }
            return;
        }
        let introduces = core::mem::take(&mut stream.introduces);
        stream.header_held = stream.header_held.max(stream.header_sent);
        let mut held = None;
        if stream.stale {
            stream.phase = Phase::Idle;
        } else if let Some(next) = stream.end {
            stream.position = next;
            stream.phase = Phase::Ready;
        } else {
            stream.held = stream.target;
            stream.phase = Phase::Idle;
            // What a cluster has, its nodes may not have yet: it says so by itself.
            held = (!is_cluster).then_some(stream.target);
        }
        self.streams.due.set(row, now);
        if let Some(version) = held {
            let risen = self.streams.confirm(row, version);
            acknowledged(now, subject.service, risen, directory);
        }
        self.end_wait(now, introduces);
    }

    pub(super) fn find_stream(&self, client: usize, subject: Subject, number: u32) -> Option<usize> {
        let row = self.streams.find(client, subject)?;
        self.streams.get(row).is_some_and(|stream| stream.number == number).then_some(row)
    }
}
