//! `acorn::net` against the real kernel: TUN, attachments, adoption, teardown.
//!
//! Every test runs on a thread of its own in a fresh network namespace, which is
//! its "host"; containers are processes in further namespaces. All of it ends with
//! the thread, also when a test panics. Needs root and `ip`, `tc`, `nsenter`, `sleep`.

mod adoption;
mod attachment;
mod device;
mod failure;
mod guard;
mod packet;
mod removal;
mod stage;
mod view;
