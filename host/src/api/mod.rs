//! The control API: HTTP and JSON on a unix socket. The daemon serves it ([`server`]), the command line is its client.

pub mod error;
pub mod idempotency;
#[cfg(test)]
pub(crate) mod memory;
pub mod server;
pub mod socket;
pub mod types;
