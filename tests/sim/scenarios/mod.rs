//! What is proven, by theme.

mod all_in_one;
mod churn;
mod cold_flow;
mod determinism;
mod forgotten_peers;
mod interests;
mod introductions;
mod leases;
mod long_idle;
mod moves;
mod partition;
mod quarantine;
mod restarts;
mod strangers;
