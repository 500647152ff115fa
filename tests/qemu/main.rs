//! Boards in QEMU between real machines in network namespaces: the real firmware, the real daemon, one bridge, everything encrypted.
//! `cargo xtask test qemu` builds what they need and runs them.

mod bad_input;
mod calls;
mod limits;
mod pages;
mod stage;
mod storms;
mod stranger;
mod trouble;
mod vectors;
