//! `[plan]`: the address pools of the network.

use acorn_core::addr::{AddressPlan, Family, PlanError, PlanPools, Range4, Range6, Subnet4, Subnet6};
use serde::{Deserialize, Serialize};

use super::diagnosis::Violation;

/// The network's address pools, as they are written in a file: a pool of subnets as `first-last` or `base/prefix`. The
/// rules between them are those of [`AddressPlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanConfig {
    /// Where worker subnets (`/26`) come from.
    pub workers: Range4,
    /// Where worker subnets (`/120`) come from.
    pub workers_v6: Range6,
    /// Where IPv4 service and instance addresses come from.
    pub services: Subnet4,
    /// Where IPv6 service and instance addresses come from: one block for instances and one for each policy.
    pub services_v6: Subnet6,
}

impl Default for PlanConfig {
    fn default() -> Self {
        let PlanPools { worker_v4, worker_v6, service_v4, service_v6 } = PlanPools::DEFAULT;
        Self { workers: worker_v4, workers_v6: worker_v6, services: service_v4, services_v6: service_v6 }
    }
}

impl PlanConfig {
    /// The plan that these pools make.
    ///
    /// # Errors
    /// [`PlanError`] when they break one of its rules; a loaded [`Config`](super::Config) has a plan.
    pub fn address_plan(&self) -> Result<AddressPlan, PlanError> {
        AddressPlan::new(PlanPools {
            worker_v4: self.workers,
            worker_v6: self.workers_v6,
            service_v4: self.services,
            service_v6: self.services_v6,
        })
    }

    pub(super) fn check(&self) -> Result<AddressPlan, Violation> {
        self.address_plan().map_err(|error| {
            let keys: &[&str] = match error {
                PlanError::Overlap(Family::V4) => &["plan.workers", "plan.services"],
                PlanError::Overlap(Family::V6) | PlanError::Reserved => &["plan.workers_v6", "plan.services_v6"],
                PlanError::Unaligned(Family::V4) => &["plan.workers"],
                PlanError::Unaligned(Family::V6) => &["plan.workers_v6"],
                PlanError::FewerV6Workers => &["plan.workers_v6", "plan.workers"],
                PlanError::ServicePrefix(Family::V4) => &["plan.services"],
                PlanError::ServicePrefix(Family::V6) => &["plan.services_v6"],
            };
            Violation::new(keys, error.to_string())
        })
    }
}
