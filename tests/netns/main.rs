//! The system between real network namespaces. These tests need root, or a kernel that lets users make namespaces.

mod apparatus;
mod down;
mod example;
mod footprint;
mod moving;
mod recovery;
mod root_outage;
mod sharing;
mod stage;
mod unreachable;
