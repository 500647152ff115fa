//! Packets: checked views, rewriting in place, and the replies that a router makes of them.
//!
//! [`View::parse`] checks a packet once; everything after that works on the [`View`] and never copies the payload:
//! - [`rewrite`] changes its addresses and mends its checksums ([`checksum`], RFC 1624);
//! - [`rewrite_error`] does so to an ICMP error and the packet that it quotes ([`Quote`]);
//! - [`Fragments`] cuts it, and [`clamp_mss`] sees to it that TCP need not be cut;
//! - [`reply`] builds TCP resets and ICMP errors that answer it.
//!
//! Nothing here panics, whatever the bytes. The fields are read with [`smoltcp::wire`] over arrays of the headers' fixed size, so
//! that each of its accesses is known to be inside.

pub mod checksum;
mod fragments;
mod host;
mod mss;
mod parse;
mod quote;
pub mod reply;
mod rewrite;
mod view;

pub use fragments::{FragmentError, Fragments, finish_checksum};
pub use host::is_one_host;
pub use mss::clamp_mss;
pub use quote::{Quote, rewrite_error};
pub use rewrite::{RewriteError, rewrite};
pub use view::{Checksum, Fragment, IcmpKind, Malformed, Offload, Protocol, TcpFlags, TcpSegment, Transport, View};

#[cfg(test)]
pub(crate) mod samples;
