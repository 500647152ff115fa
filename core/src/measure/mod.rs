//! How far other nodes are: measured by probes between peers, and learnt as network coordinates from what they measure.

pub(crate) mod probes;
pub mod vivaldi;

pub use probes::ProbeCounters;
pub use vivaldi::{ERROR_ONE, Place, Sample};

/// Learns from a sample: [`vivaldi::learn`], or nothing on a node that has no use for coordinates. A shell that does not name the
/// function does not carry its code.
pub type Learn = fn(&mut Place, Sample);
