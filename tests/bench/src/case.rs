//! What is measured.

use acorn_core::addr::Family;
use core::fmt;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A local application's.
    Outbound,
    /// A peer's.
    Inbound,
}

/// What the node knows of the packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The packet belongs to a flow.
    Hit,
    /// The packet begins one.
    First,
}

/// One case. Its text names it in baselines and reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A packet of one kind, with many flows in the table.
    Packet(Direction, Path, Family),
    /// The first packet of a flow to a service with so many instances.
    Balance(u32),
}

/// The cases of every size.
pub const PACKETS: [Case; 8] = {
    use Direction::{Inbound, Outbound};
    use Family::{V4, V6};
    use Path::{First, Hit};
    [
        Case::Packet(Outbound, Hit, V4),
        Case::Packet(Outbound, Hit, V6),
        Case::Packet(Inbound, Hit, V4),
        Case::Packet(Inbound, Hit, V6),
        Case::Packet(Outbound, First, V4),
        Case::Packet(Outbound, First, V6),
        Case::Packet(Inbound, First, V4),
        Case::Packet(Inbound, First, V6),
    ]
};

/// How many instances the services of [`Case::Balance`] have.
pub const INSTANCES: [u32; 3] = [1, 10, 1000];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Packet(direction, path, family) = self else {
            let Self::Balance(instances) = self else { return Ok(()) };
            return write!(f, "rr-over-{instances}");
        };
        let direction = match direction {
            Direction::Outbound => "outbound",
            Direction::Inbound => "inbound",
        };
        let path = match path {
            Path::Hit => "hit",
            Path::First => "first",
        };
        let family = match family {
            Family::V4 => "v4",
            Family::V6 => "v6",
        };
        write!(f, "{direction}-{path}-{family}")
    }
}
