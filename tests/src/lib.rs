//! The system from outside: what the tests and the demo need to run the real `acorn` between real, private Linux
//! network namespaces, and to judge what went over the wire.
//!
//! - [`world`]: private network namespaces and the processes in them. Nothing outlives a [`world::World`].
//! - [`traffic`]: the HTTP and bulk-transfer programs that run inside the namespaces.
//! - [`sockets`]: sockets inside the namespaces, in the hands of the test.
//! - [`capture`]: what tcpdump saw, sorted by kind.
//! - [`board`]: a microcontroller in QEMU with the real firmware.
//! - [`acorn`]: the daemon and its command line.
//! - [`example`]: the reference example, a service with two instances and a client on another worker.

pub mod acorn;
pub mod board;
pub mod capture;
pub mod example;
pub mod sockets;
pub mod traffic;
pub mod world;
