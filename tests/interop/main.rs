//! The test vectors of Oakestra's own network daemon and values measured on it, run against Acorn's core: what goes the same way, and
//! beside it what differs on purpose.

mod addresses;
mod node;
mod packets;
