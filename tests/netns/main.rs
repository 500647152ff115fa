//! The system between real network namespaces. These tests need root, or a kernel that lets users make namespaces.

mod alive;
mod alone;
mod apparatus;
mod cluster;
mod datagrams;
mod down;
mod draining;
mod example;
mod footprint;
mod fragments;
mod full_disk;
mod icmp_errors;
mod impostor;
mod moving;
mod neighbours;
mod other_protocols;
mod path_mtu;
mod recovery;
mod refusals;
mod root_outage;
mod sharing;
mod stage;
mod starting;
mod strangers;
mod unreachable;
