//! The deciding half of Acorn, an overlay network in which applications dial the address of a *service* and reach one of its
//! instances, wherever that runs.
//!
//! Everything here is sans-IO: packets, time and entropy are arguments, what is to be sent is polled. There is no heap and no
//! operating system, and no input of either network makes it panic. A daemon, a firmware and a simulation are shells around
//! the same [`node::Node`]; a manager is a shell around [`sync::Server`].
//!
//! From below to above:
//! - [`addr`]: the address plans, and pools that allocate from them.
//! - [`packet`]: checked views of packets, rewriting, replies.
//! - [`table`]: services, instances and nodes; [`policy`]: how a service IP picks an instance; [`coordinate`]: how far a node is;
//!   [`measure`]: how that is found out; [`flow`]: who talks to whom.
//! - [`router`]: a packet in, a verdict out.
//! - [`sync`]: the table protocol.
//! - [`node`]: the engine that joins them.
//!
//! Beside them, [`provision`]: what a microcontroller is told when it is flashed.

#![cfg_attr(not(test), no_std)]

pub mod addr;
pub mod coordinate;
pub mod flow;
pub mod ids;
mod index;
mod late;
mod link;
pub mod measure;
pub mod mtu;
pub mod node;
pub mod packet;
pub mod policy;
pub mod provision;
pub mod router;
mod slots;
pub mod stats;
pub mod sync;
pub mod table;
pub mod time;

pub use ids::{Endpoint, InstanceId, NodeId, NodeKey, ServiceId, ServiceName};
pub use index::HashKey;
pub use slots::RowRef;
