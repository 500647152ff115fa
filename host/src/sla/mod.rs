//! The service-level agreement: what an operator asks for, in Oakestra's JSON (SLA v2), and the service requests in it.
//!
//! Acorn reads the names and `addresses` of each microservice and lets every other field pass, because an SLA also
//! speaks to schedulers and runtimes. In `addresses` nothing passes unread: what Acorn doesn't offer is an error.

mod instances;
mod policy;
mod reader;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use acorn_core::ids::ServiceName;
#[cfg(test)]
pub(crate) use policy::samples;
pub use policy::{Choice, OfferedPolicy};
use serde_json::{Map, Value, json};

use reader::Reader;

/// One service that an SLA asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRequest {
    /// The service's name.
    pub name: ServiceName,
    /// The addresses that it gets: at least one, each under another policy, in the order of the registry.
    pub addresses: Vec<WantedAddress>,
    /// The addresses that certain instances get, one per instance and family.
    pub instances: Vec<InstanceAddress>,
}

/// The instance IP that a certain instance of a service is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceAddress {
    /// The instance's number.
    pub number: u32,
    /// The address.
    pub address: IpAddr,
}

/// An address of a service under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAddress {
    /// The policy.
    pub policy: OfferedPolicy,
    /// The address to reserve; otherwise the pool gives one.
    pub v4: Option<Ipv4Addr>,
    /// The same in IPv6.
    pub v6: Option<Ipv6Addr>,
}

impl WantedAddress {
    /// Any address, from the pool.
    pub fn any(policy: OfferedPolicy) -> Self {
        Self { policy, v4: None, v6: None }
    }

    /// The addresses that have to be certain ones.
    pub fn fixed(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// Why an SLA is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlaError {
    /// The text is not JSON. Line and column count from 1.
    #[error("the SLA is not JSON: {0}")]
    Json(String),
    /// The JSON breaks rules: all of them, in the order of the text.
    #[error("the SLA has {}:{}", count(.0.len()), .0.iter().map(|m| format!("\n  {m}")).collect::<String>())]
    Mistakes(Vec<Mistake>),
}

/// A rule that an SLA breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where, like `applications[0].microservices[1].addresses.rr_ip`. Empty for the SLA as a whole.
    pub path: String,
    /// What is wrong there and what to write.
    pub rule: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.rule),
            path => write!(f, "{path}: {}", self.rule),
        }
    }
}

/// The services that an SLA asks for: at least one, no name and no address twice. A service that asks for no address gets
/// one under round robin.
///
/// # Errors
/// [`SlaError`] with every mistake. Whether an address is in the plan and free, the root decides.
pub fn parse(text: &[u8]) -> Result<Vec<ServiceRequest>, SlaError> {
    parse_offered(text, &OfferedPolicy::built_in())
}

/// The SLA that asks for one service; without addresses for one under round robin.
pub fn from_flags(name: &ServiceName, addresses: &[WantedAddress]) -> Value {
    let mut parts = name.as_str().split('.');
    let mut part = || parts.next().unwrap_or_default();
    let (application, application_namespace) = (part(), part());
    let (microservice, microservice_namespace) = (part(), part());
    let mut fields = Map::new();
    for WantedAddress { policy, v4, v6 } in addresses {
        fields.extend(v4.map(|ip| (policy.field.to_owned(), json!(ip))));
        fields.extend(v6.map(|ip| (policy.field_v6(), json!(ip))));
        if v4.is_none() && v6.is_none() {
            fields.insert(policy.field.to_owned(), json!(policy::AUTO));
        }
    }
    json!({
        "sla_version": "v2.0",
        "applications": [{
            "application_name": application,
            "application_namespace": application_namespace,
            "microservices": [{
                "microservice_name": microservice,
                "microservice_namespace": microservice_namespace,
                "addresses": fields,
            }],
        }],
    })
}

/// [`parse`] where these policies are offered.
fn parse_offered(text: &[u8], offered: &[OfferedPolicy]) -> Result<Vec<ServiceRequest>, SlaError> {
    let sla: Value = serde_json::from_slice(text).map_err(|error| SlaError::Json(error.to_string()))?;
    let mut reader = Reader::new(offered);
    reader.read(&sla);
    reader.finish().map_err(SlaError::Mistakes)
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "a mistake".to_owned() } else { format!("{mistakes} mistakes") }
}

#[cfg(test)]
mod tests;
