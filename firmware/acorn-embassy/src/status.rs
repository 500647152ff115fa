//! How the node is: what a log, a lamp or a page shows of it.

use core::cell::RefCell;
use core::future::poll_fn;
use core::net::SocketAddrV4;
use core::task::{Context, Poll};

use acorn_core::stats::DropReason;
use acorn_core::sync::client::ClientCounters;
use acorn_core::sync::message::Refusal;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::waitqueue::WakerRegistration;

use crate::tunnels::TunnelCounters;

/// The node's standing with its manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// The underlay has no link or no address.
    #[default]
    NoUnderlay,
    /// The manager has not answered yet.
    Joining,
    /// The manager does not answer.
    ManagerSilent,
    /// The manager speaks this version of the table protocol, which is not this firmware's.
    ManagerVersion(u8),
    /// The manager refuses the node.
    Refused(Refusal),
    /// The node is a member, and its manager answers.
    Member,
    /// The node was a member and its manager does not answer now. What it knows goes on working.
    Alone,
}

impl Standing {
    /// What it means, for people, in a sentence.
    pub const fn meaning(&self) -> &'static str {
        match self {
            Self::NoUnderlay => "no link or no address on the underlay",
            Self::Joining => "waiting for the manager",
            Self::ManagerSilent => "the manager does not answer: is it up, and is the token unused and not expired?",
            Self::ManagerVersion(_) => "the manager speaks another protocol version: use the same release at both ends",
            Self::Refused(Refusal::JoinKey) => "the manager refuses the token: it was used or has expired",
            Self::Refused(_) => "the manager refuses this node",
            Self::Member => "joined",
            Self::Alone => "joined, but the manager does not answer now",
        }
    }
}

/// Counters of packets and tables. They only grow, and wrap at 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Packets that applications sent into the overlay.
    pub packets_out: u32,
    /// Packets delivered to applications.
    pub packets_in: u32,
    /// Packets dropped by the router, for whatever reason; [`Status::drops`] has them one by one.
    pub dropped: u32,
    /// Packets that an overlay stack had no room for.
    pub overlay_full: u32,
    /// Datagrams that the underlay did not take: no link, no address, or no way to the peer.
    pub underlay_dropped: u32,
    /// Datagrams from the underlay that are longer than any of this network's, or not from IPv4.
    pub underlay_strange: u32,
    /// Live flows that had to end to make room for new ones.
    pub flows_evicted: u32,
    /// What the table protocol did.
    pub sync: ClientCounters,
    /// What the tunnels did.
    pub tunnels: TunnelCounters,
}

/// A snapshot of the node, at most [`SNAPSHOT_AGE`](crate::SNAPSHOT_AGE) older than its last packet.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// The standing with the manager.
    pub standing: Standing,
    /// The manager that is spoken to.
    pub manager: Option<SocketAddrV4>,
    /// The node has spoken to its manager under its own key: the join key is not needed any more.
    pub has_joined: bool,
    /// Services, instances and nodes in the table.
    pub table: (usize, usize, usize),
    /// Flows.
    pub flows: usize,
    /// Tunnels, and those of them with a session.
    pub tunnels: (usize, usize),
    /// Counters.
    pub counters: Counters,
    drops: [u32; DropReason::ALL.len()],
}

impl Status {
    pub(crate) const fn new() -> Self {
        Self {
            standing: Standing::NoUnderlay,
            manager: None,
            has_joined: false,
            table: (0, 0, 0),
            flows: 0,
            tunnels: (0, 0),
            counters: Counters {
                packets_out: 0,
                packets_in: 0,
                dropped: 0,
                overlay_full: 0,
                underlay_dropped: 0,
                underlay_strange: 0,
                flows_evicted: 0,
                sync: ClientCounters {
                    pages: 0,
                    stale_pages: 0,
                    table_full: 0,
                    interests_full: 0,
                    resolve_timeouts: 0,
                    unexpected: 0,
                },
                tunnels: TunnelCounters::ZERO,
            },
            drops: [0; DropReason::ALL.len()],
        }
    }

    /// The reasons for which packets were dropped, with their counts; those that never happened are left out.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u32)> + '_ {
        DropReason::ALL.into_iter().zip(self.drops).filter(|(_, count)| *count > 0)
    }

    pub(crate) fn set_drops(&mut self, mut of: impl FnMut(DropReason) -> u64) {
        for (place, reason) in self.drops.iter_mut().zip(DropReason::ALL) {
            *place = of(reason) as u32;
        }
        self.counters.dropped = self.drops.iter().fold(0, |sum, count| sum.wrapping_add(*count));
    }
}

struct Inner {
    status: Status,
    /// Grows with every change of the standing.
    changes: u32,
    watcher: WakerRegistration,
    /// Something was asked of the runner.
    asked: bool,
    runner: WakerRegistration,
}

/// What handles and runner share of the node as a whole.
pub(crate) struct NodeCell(Mutex<NoopRawMutex, RefCell<Inner>>);

impl NodeCell {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Inner {
            status: Status::new(),
            changes: 0,
            watcher: WakerRegistration::new(),
            asked: false,
            runner: WakerRegistration::new(),
        })))
    }

    /// Has the runner look at what is asked of it.
    pub(crate) fn ask(&self) {
        self.0.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            inner.asked = true;
            inner.runner.wake();
        });
    }

    /// Ready when something was asked since the last time.
    pub(crate) fn poll_asked(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            if core::mem::take(&mut inner.asked) {
                return Poll::Ready(());
            }
            inner.runner.register(cx.waker());
            Poll::Pending
        })
    }

    /// Lets the runner write a new snapshot. Who waits for a change is woken when the standing is another.
    pub(crate) fn update(&self, write: impl FnOnce(&mut Status)) {
        self.0.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            let before = (inner.status.standing, inner.status.has_joined);
            write(&mut inner.status);
            if before != (inner.status.standing, inner.status.has_joined) {
                inner.changes = inner.changes.wrapping_add(1);
                inner.watcher.wake();
            }
        });
    }
}

/// A handle to look at the node.
#[derive(Clone, Copy)]
pub struct NodeStatus<'a> {
    pub(crate) cell: &'a NodeCell,
}

impl NodeStatus<'_> {
    /// How the node is.
    pub fn get(&self) -> Status {
        self.cell.0.lock(|inner| inner.borrow().status)
    }

    /// How often the standing has changed so far.
    pub fn changes(&self) -> u32 {
        self.cell.0.lock(|inner| inner.borrow().changes)
    }

    /// Waits until the standing has changed since there were so many [`changes`](Self::changes). One task at a time.
    pub async fn changed_since(&self, changes: u32) -> Status {
        poll_fn(|cx| {
            self.cell.0.lock(|inner| {
                let inner = &mut *inner.borrow_mut();
                if inner.changes != changes {
                    return Poll::Ready(inner.status);
                }
                inner.watcher.register(cx.waker());
                Poll::Pending
            })
        })
        .await
    }
}

#[cfg(test)]
pub(crate) mod tests;
