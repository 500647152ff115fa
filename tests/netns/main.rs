//! The system between real network namespaces. These tests need root, or a kernel that lets users make namespaces.

mod alive;
mod alone;
mod apparatus;
mod down;
mod draining;
mod example;
mod footprint;
mod impostor;
mod moving;
mod recovery;
mod refusals;
mod root_outage;
mod sharing;
mod stage;
mod starting;
mod strangers;
mod unreachable;
