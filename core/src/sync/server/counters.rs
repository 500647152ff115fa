//! What the server counts: everything that it refused or passed over, and the little that shows its health.

/// Counters of a server. They only grow, and wrap at 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerCounters {
    /// Payloads that are not messages of this protocol's version.
    pub malformed: u64,
    /// Messages that only a manager may send.
    pub not_a_request: u64,
    /// Messages that only a cluster may send, from somebody else.
    pub not_a_cluster: u64,
    /// What a cluster said of a node that is not behind it.
    pub not_its_node: u64,
    /// Messages other than `Hello` from a key that is not a node's.
    pub strangers: u64,
    /// Messages other than `Hello` from a node that has not said `Hello` since the start; answered by `Restarted`.
    pub without_hello: u64,
    /// Answers that had no room in the caller's buffer.
    pub no_room: u64,
    /// `Hello` refused by the directory.
    pub hello_refused: u64,
    /// `Hello` or announcements refused because all client slots are in use.
    pub clients_full: u64,
    /// Nodes that spoke through a join key.
    pub joining: u64,
    /// Subscriptions refused because all of them are in use.
    pub streams_full: u64,
    /// `Resolve` with a stream number that is the server's to give.
    pub stream_number: u64,
    /// `Resolve` of something that is not there.
    pub not_found: u64,
    /// `Resolve` of something that is not known yet.
    pub pending: u64,
    /// `Attach` refused by the directory.
    pub attach_refused: u64,
    /// `Detach` refused by the directory.
    pub detach_refused: u64,
    /// `Adjust` refused by the directory.
    pub adjust_refused: u64,
    /// `Adjust` that a node said before its last start.
    pub adjust_of_another_start: u64,
    /// `Report` too soon after the one before.
    pub report_too_early: u64,
    /// `Ack` of a stream that is not open.
    pub ack_unknown: u64,
    /// `Ack` of a page that is not outstanding.
    pub ack_out_of_turn: u64,
    /// `Forget` of a stream that is not open.
    pub forget_unknown: u64,
    /// Askers that do not run on the node that named them.
    pub asker_elsewhere: u64,
    /// Introductions that were not made because the server or the node has no room for them.
    pub introductions_full: u64,
    /// Introductions made.
    pub introductions: u64,
    /// Pages sent for the first time.
    pub pages: u64,
    /// Pages sent again.
    pub repeats: u64,
    /// Walks that were cut to what the client can hold.
    pub limited: u64,
    /// Leases that ended.
    pub leases_ended: u64,
    /// Clients that were dropped after the retention.
    pub retentions_ended: u64,
    /// `Welcome` with `reopen`: the views of the open streams differed for longer than a message is under way.
    pub reopened: u64,
}

impl ServerCounters {
    /// All zero.
    pub const fn new() -> Self {
        Self {
            malformed: 0,
            not_a_request: 0,
            not_a_cluster: 0,
            not_its_node: 0,
            strangers: 0,
            without_hello: 0,
            no_room: 0,
            hello_refused: 0,
            clients_full: 0,
            joining: 0,
            streams_full: 0,
            stream_number: 0,
            not_found: 0,
            pending: 0,
            attach_refused: 0,
            detach_refused: 0,
            adjust_refused: 0,
            adjust_of_another_start: 0,
            report_too_early: 0,
            ack_unknown: 0,
            ack_out_of_turn: 0,
            forget_unknown: 0,
            asker_elsewhere: 0,
            introductions_full: 0,
            introductions: 0,
            pages: 0,
            repeats: 0,
            limited: 0,
            leases_ended: 0,
            retentions_ended: 0,
            reopened: 0,
        }
    }
}

impl Default for ServerCounters {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts one.
pub(super) fn bump(counter: &mut u64) {
    *counter = counter.wrapping_add(1);
}
