//! What is proven, by theme.

mod cold_flow;
mod restarts;
