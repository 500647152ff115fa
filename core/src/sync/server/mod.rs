//! The server half of the table protocol: tells every client what it asked for, and every change from then on.
//!
//! It owns no table. All that it says it reads from a [`Directory`] at the moment of sending, so a page that is repeated may
//! say newer things than it did before, but never covers more than it did: whichever of the two the client has applied, the
//! next page begins where both are right, and what is newer than the walk is said again by the walk that follows.
//!
//! Call [`Server::poll_transmit`] until it returns nothing after every other call, and after every change of the directory.

mod clusters;
mod counters;
mod introductions;
mod pages;
mod requests;
mod sessions;
mod streams;
mod timers;

#[cfg(test)]
mod tests;

use core::time::Duration;

pub use counters::ServerCounters;
pub use introductions::INTRODUCE_WAIT;
pub use sessions::{ANNOUNCE_LEASE, RETENTION, SETTLE};

use crate::ids::{NodeKey, ServiceId};
use crate::index::HashKey;
use crate::sync::cluster::ClusterMessage;
use crate::sync::directory::{Denied, Directory, Sender};
use crate::sync::message::{DecodeError, Message, Refusal, TooLong};
use crate::time::Instant;
use counters::bump;
use sessions::Sessions;
use streams::{Phase, Risen, Streams};

/// Why a payload was not handled. It is counted; there is nothing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// It is not a message of this protocol.
    Decode(DecodeError),
    /// It is a message that only a manager sends.
    NotARequest,
    /// It is something else than `Hello` from a key that is not a node's.
    Stranger,
    /// It is a message that only a cluster sends.
    NotACluster,
    /// The stream number of a `Resolve` is one of the server's.
    StreamNumber,
    /// The answer has no room in the buffer; [`MESSAGE_MAX`](super::message::MESSAGE_MAX) bytes are always enough.
    NoRoom,
}

/// An immediate answer, if there is one.
type Answer = Option<Message>;

/// The server of at most `C` clients with at most `S` subscriptions together. All zero bytes when new.
pub struct Server<const C: usize, const S: usize> {
    epoch: u32,
    started: Instant,
    retention: Duration,
    /// How many introductions were begun, for their stream numbers.
    introduced: u32,
    sessions: Sessions<C>,
    streams: Streams<C, S>,
    counters: ServerCounters,
}

impl<const C: usize, const S: usize> Server<C, S> {
    /// A server that has to be started.
    pub const fn new() -> Self {
        Self {
            epoch: 0,
            started: Instant::ZERO,
            retention: Duration::ZERO,
            introduced: 0,
            sessions: Sessions::new(),
            streams: Streams::new(),
            counters: ServerCounters::new(),
        }
    }

    /// Starts the server. `epoch` must differ from that of every start before: clients that see a new one say everything
    /// again. `hash_key` comes from the shell's entropy.
    pub fn start(&mut self, now: Instant, epoch: u32, hash_key: HashKey) {
        self.epoch = epoch;
        self.started = now;
        self.retention = RETENTION;
        // So that the numbers do not meet those that clients still hold from before.
        self.introduced = epoch.wrapping_mul(0x9e37_79b9);
        self.sessions.set_hash_key(hash_key);
        self.streams.set_hash_key(hash_key);
    }

    /// Sets how long the subscriptions of a silent client are kept, and with them the addresses that it has not let go of.
    pub fn set_retention(&mut self, retention: Duration) {
        self.retention = retention;
    }

    /// Handles one control payload. An immediate answer is written into `out`, its length returned; it goes to `from`.
    ///
    /// # Errors
    /// [`ServerError`]; the payload has had no effect then, but for [`ServerError::NoRoom`], where only the answer is missing.
    pub fn handle(
        &mut self,
        now: Instant,
        from: Sender,
        payload: &[u8],
        directory: &mut impl Directory,
        out: &mut [u8],
    ) -> Result<Option<usize>, ServerError> {
        self.take_changes(now, directory);
        if ClusterMessage::is_one(payload) {
            return self.handle_cluster(now, from, payload, directory, out);
        }
        let message = Message::decode(payload).map_err(|error| self.malformed(error))?;
        let answer = match message {
            Message::Hello(hello) => self.hello(now, from, &hello, directory),
            message => match self.session_of(&from.key, directory)? {
                Some(row) => {
                    self.heard(now, row, directory);
                    self.request(now, row, message, directory)?
                }
                None => Some(Message::Restarted { epoch: self.epoch }),
            },
        };
        self.take_changes(now, directory);
        self.written(answer.map(|answer| answer.encode(out)))
    }

    /// Ends the leases and retentions whose time has come.
    pub fn handle_timeout(&mut self, now: Instant, directory: &mut impl Directory) {
        self.handle_leases(now, directory);
        self.take_changes(now, directory);
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = [self.sessions.leases.next(), self.sessions.announcements.next(), self.streams.due.next()];
        next.into_iter().flatten().min()
    }

    /// Writes the next payload that is due into `out`, which must have room for
    /// [`MESSAGE_MAX`](super::message::MESSAGE_MAX) bytes. Returns the node that it is for and its length in bytes.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        directory: &mut impl Directory,
        out: &mut [u8],
    ) -> Option<(NodeKey, usize)> {
        self.take_changes(now, directory);
        if let Some((key, message)) = self.next_announcement(now)
            && let Ok(length) = message.encode(out)
        {
            return Some((key, length));
        }
        while let Some(row) = self.streams.due.pop_due(now) {
            if let Some(sent) = self.advance(now, row, directory, out) {
                return Some(sent);
            }
        }
        None
    }

    /// What was counted.
    pub fn counters(&self) -> &ServerCounters {
        &self.counters
    }

    /// Clients, those included that were only told of a restart.
    pub fn clients(&self) -> usize {
        self.sessions.len()
    }

    /// Open subscriptions, introductions included.
    pub fn subscriptions(&self) -> usize {
        self.streams.len()
    }

    /// The session of a key; none of a node that has not said `Hello` since the start, which is told so.
    fn session_of(&mut self, key: &NodeKey, directory: &impl Directory) -> Result<Option<usize>, ServerError> {
        let found = self.sessions.find_session(key);
        if found.is_some() {
            return Ok(found);
        }
        if directory.node_of(key).is_none() {
            bump(&mut self.counters.strangers);
            return Err(ServerError::Stranger);
        }
        bump(&mut self.counters.without_hello);
        Ok(None)
    }

    fn malformed(&mut self, error: DecodeError) -> ServerError {
        bump(&mut self.counters.malformed);
        ServerError::Decode(error)
    }

    /// An answer as it was written, if there is one.
    fn written(&mut self, answer: Option<Result<usize, TooLong>>) -> Result<Option<usize>, ServerError> {
        answer.transpose().map_err(|TooLong| {
            bump(&mut self.counters.no_room);
            ServerError::NoRoom
        })
    }

    /// Handles what a client that has a session sends.
    fn request(
        &mut self,
        now: Instant,
        row: usize,
        message: Message,
        directory: &mut impl Directory,
    ) -> Result<Answer, ServerError> {
        Ok(match message {
            Message::Resolve(resolve) => self.resolve(now, row, &resolve, directory)?,
            Message::Forget { subject, stream } => Some(self.forget(now, row, subject, stream, directory)),
            Message::Ack { subject, stream, sequence } => {
                self.ack(now, row, subject, stream, sequence, directory);
                None
            }
            message => {
                let Some((node, epoch)) = self.sessions.get(row).map(|session| (session.node, session.epoch)) else {
                    return Ok(None);
                };
                self.statement(now, node, epoch, message, directory)?
            }
        })
    }

    /// Wakes the subscriptions of all services that have changed. Costs as much as there are clients interested.
    fn take_changes(&mut self, now: Instant, directory: &mut impl Directory) {
        while let Some(service) = directory.poll_changed() {
            let mut at = self.streams.first_of_service(service);
            if at.is_none() {
                acknowledged(now, service, Risen::Free, directory);
            }
            while let Some(row) = at {
                at = self.streams.next_of_service(row);
                // The others look by themselves when their page is acknowledged.
                if self.streams.get(row).is_some_and(|stream| stream.phase == Phase::Idle) {
                    self.streams.due.set(row, now);
                }
            }
        }
    }

    fn drop_stream(&mut self, now: Instant, row: usize, directory: &mut impl Directory) {
        let Some(subject) = self.streams.get(row).map(|stream| stream.subject) else {
            return;
        };
        let risen = self.streams.remove(row);
        directory.closed(subject);
        acknowledged(now, subject.service, risen, directory);
    }

    fn drop_streams_of(&mut self, now: Instant, client: usize, directory: &mut impl Directory) {
        while let Some(row) = self.streams.first_of_client(client) {
            self.drop_stream(now, row, directory);
        }
    }

    /// Looks at all streams of a client, which is heard from again.
    fn wake_streams_of(&mut self, now: Instant, client: usize) {
        let mut at = self.streams.first_of_client(client);
        while let Some(row) = at {
            at = self.streams.next_of_client(row);
            self.streams.due.set(row, now);
        }
    }

    /// Sends a page on every stream of a client: those that it does not know it will forget.
    fn probe_streams_of(&mut self, now: Instant, client: usize) {
        let mut at = self.streams.first_of_client(client);
        while let Some(row) = at {
            at = self.streams.next_of_client(row);
            if let Some(stream) = self.streams.get_mut(row) {
                stream.probe = true;
                self.streams.due.set(row, now);
            }
        }
    }
}

/// Tells the directory which addresses nobody uses any more.
fn acknowledged(now: Instant, service: ServiceId, risen: Risen, directory: &mut impl Directory) {
    let version = match risen {
        Risen::No => return,
        Risen::To(version) => version,
        // Nobody is interested, or the service itself is gone.
        Risen::Free => directory.version(service).unwrap_or(u32::MAX),
    };
    directory.acknowledged(now, service, version);
}

/// A refusal of a request, counted.
fn refused(counter: &mut u64, request: u32, refusal: Refusal) -> Answer {
    bump(counter);
    Some(Message::Refused { request, refusal })
}

/// The answer to a request that was denied; none while it is pending.
fn denied_with(counter: &mut u64, request: u32, denied: Denied) -> Answer {
    match denied {
        Denied::Refused(refusal) => refused(counter, request, refusal),
        Denied::Pending => None,
    }
}

impl<const C: usize, const S: usize> Default for Server<C, S> {
    fn default() -> Self {
        Self::new()
    }
}
