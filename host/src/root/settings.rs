//! What an operator sets for the root, and the limits that hold whatever is set.

use std::time::Duration;

/// The most services that operators can create.
pub const SERVICES_MAX: usize = 65_536;
/// The most instances over all services, the hosts' own included.
pub const INSTANCES_MAX: usize = 65_536;
/// The highest number that an instance can have in its service.
pub const INSTANCE_NUMBER_MAX: u32 = 65_535;
/// The most instance addresses that a service can keep for certain instances.
pub const FIXED_MAX: usize = 1_024;
/// The most nodes; the plan's worker subnets are the other limit.
pub const NODES_MAX: usize = 16_384;
/// The most clusters.
pub const CLUSTERS_MAX: usize = 1_024;
/// The most join keys that wait for their node.
pub const JOIN_KEYS_MAX: usize = 16_384;
/// The most node keys that operators have registered beforehand.
pub const REGISTERED_KEYS_MAX: usize = 16_384;
/// How many withdrawn instances of one service are remembered, for clients that are behind.
pub const REMOVALS_MAX: usize = 1_024;

/// The most answers to requests that are kept for their repeats.
pub(super) const REQUESTS_MAX: usize = 16_384;
/// The most bytes of them.
pub(super) const REQUEST_BYTES_MAX: usize = 16 << 20;
/// How long they are kept.
pub(super) const REQUEST_AGE: Duration = Duration::from_secs(24 * 3_600);

/// The shortest lease that a node can ask for.
pub const LEASE_MIN: Duration = Duration::from_secs(1);
/// The longest lease that a node can ask for.
pub const LEASE_MAX: Duration = Duration::from_secs(3_600);

/// How long a datagram can be under way. A namespace IP rests longer before its node uses it again.
pub(super) const LATEST_REPEAT: Duration = Duration::from_secs(30);

/// How long after a start nothing is given up for its age, so that the nodes have time to come back to a root that was away.
pub const START_GRACE: Duration = Duration::from_secs(600);

/// How old the stored time of a node's last sign of life may get. Renewals within it cost no write.
pub const LAST_SEEN_STEP: Duration = Duration::from_secs(3_600);

/// How the root treats time. All durations count in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootSettings {
    /// How long a node may be silent before its instances are not picked any more, when it does not ask for a lease of its own.
    pub lease: Duration,
    /// How long a freed address rests before it is given to somebody else.
    pub quarantine: Duration,
    /// How long a node may be silent before it is forgotten: its instances are withdrawn, its subnet is freed.
    pub retention: Duration,
}

impl Default for RootSettings {
    /// 10 s, 60 s, 24 hours.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            quarantine: Duration::from_secs(60),
            retention: Duration::from_secs(24 * 3_600),
        }
    }
}

/// By how much the ceiling of versions is raised; also the most versions that a restart skips.
const VERSION_STEP: u32 = 4_096;

/// The limits as values, so that a test can set low ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) services: usize,
    pub(super) instances: usize,
    pub(super) nodes: usize,
    pub(super) clusters: usize,
    pub(super) join_keys: usize,
    pub(super) registered_keys: usize,
    pub(super) removals: usize,
    pub(super) version_step: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: SERVICES_MAX,
            instances: INSTANCES_MAX,
            nodes: NODES_MAX,
            clusters: CLUSTERS_MAX,
            join_keys: JOIN_KEYS_MAX,
            registered_keys: REGISTERED_KEYS_MAX,
            removals: REMOVALS_MAX,
            version_step: VERSION_STEP,
        }
    }
}
