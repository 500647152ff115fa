//! The two address plans and the pools that allocate from them.
//!
//! - [`Dual`] and its three meanings, [`ServiceIp`], [`InstanceIp`] and [`NamespaceIp`]: every address in Acorn is a pair, one of
//!   each family, allocated and freed together.
//! - [`Subnet4`], [`Subnet6`], [`Range4`], [`Range6`] and [`WorkerSubnet`]: what addresses are cut from.
//! - [`AddressPlan`]: which addresses mean what. Turns offsets into addresses and back.
//! - [`Pool`]: hands out offsets, takes them back through a quarantine.

mod bytes;
mod dual;
mod plan;
mod pool;
mod subnet;

pub(crate) use bytes::{address_of, is_mapped, key_of, v4_key};
pub use dual::{Dual, Family, InstanceIp, NamespaceIp, ServiceIp};
pub use plan::{
    AddressPlan, CustomAddressError, PlanError, PlanPools, PolicyBlock, SubnetRequestError, WORKER_PREFIX_V4,
    WORKER_PREFIX_V6,
};
pub use pool::{Pool, PoolCounts, PoolError};
pub use subnet::{Range4, Range6, Subnet4, Subnet6, SubnetError, WorkerSubnet};

#[cfg(test)]
mod reference_example;
