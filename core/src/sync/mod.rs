//! The table protocol: how nodes learn what they need of the network, and managers what runs where.
//!
//! Two sans-IO state machines over lossy datagrams: [`Client`] on a node (and on a cluster, towards its root), [`Server`] on
//! a manager. [`message`] is what goes between them, [`cluster`] what clusters and roots say
//! besides, [`directory`] what a server serves from.

pub mod client;
pub mod cluster;
pub mod directory;
pub mod message;
pub mod server;

pub use client::Client;
pub use server::Server;

use core::time::Duration;

/// Repeats of an unanswered request: doubling from `first` up to `most`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Backoff {
    /// How long to wait after try number `tries`, counted from 0.
    pub(crate) fn after(&self, tries: u8) -> Duration {
        let factor = 1u32.checked_shl(u32::from(tries)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}
