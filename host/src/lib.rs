//! Acorn on Linux: the daemon and its command line.
//!
//! An application dials a service's address; which instance answers, and on which node it runs, is decided per flow by the
//! address's balancing policy. What decides is in [`acorn_core`]; here are the parts that touch the machine:
//!
//! - [`daemon`]: puts everything together and runs it.
//! - [`net`]: TUN, veth, routes, namespaces. [`tunnel`]: WireGuard. [`identity`]: keys and join tokens.
//! - [`cluster`]: a manager between the root and the nodes of a site.
//! - [`root`]: the network's durable state. [`sla`]: what operators ask for.
//! - [`firmware`]: what microcontrollers are flashed with.
//! - [`config`], [`api`], [`cli`]: what people and programs see.

pub mod api;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod firmware;
pub mod identity;
pub mod net;
mod removals;
pub mod root;
pub mod sla;
pub mod tunnel;
