//! What is proven, by theme.

mod all_in_one;
mod churn;
mod closest;
mod cold_flow;
mod custom_policy;
mod determinism;
mod forgotten_peers;
mod interests;
mod introductions;
mod leases;
mod long_idle;
mod moves;
mod partition;
mod policies;
mod quarantine;
mod restarts;
mod strangers;
