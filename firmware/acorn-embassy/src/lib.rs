#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod clash;
mod device;
mod log;
mod overlay;
mod port;
mod resources;
mod runner;
mod status;
mod tunnels;

pub use acorn_core::sync::message::Refusal;
pub use clash::{ANNOUNCE_INTERVAL, Clash, ClashWatch, Clashes, DEFEND_INTERVAL, WatchedToken};
pub use device::Device;
pub use overlay::{AttachError, Instance, Overlay};
pub use resources::{
    Config, Identity, OVERLAY_MTU, Port, PortHandle, Resources, StartError, new, public_key, underlay_sockets,
};
pub use runner::{Runner, SNAPSHOT_AGE};
pub use status::{Counters, NodeStatus, Standing, Status};
pub use tunnels::TunnelCounters;
pub use wireguard_sans_io::{EntropyError, EntropySource};
