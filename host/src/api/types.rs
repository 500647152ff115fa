//! What the control API takes and gives, as JSON. Server and client share these types.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Deserializer, Serialize};

use crate::sla::ServiceName;

/// The most tokens that one request makes.
pub const TOKENS_MAX: u16 = 1000;
/// The longest time until a token expires, in seconds: 30 days.
pub const TOKEN_EXPIRY_MAX_S: u64 = 30 * 86_400;
/// The highest load of an instance: all that it can take, in thousandths.
pub const LOAD_MAX: u16 = 1000;
/// The longest name of a network namespace in bytes (`NAME_MAX`).
const NETNS_NAME_MAX: usize = 255;

/// `GET /v1/status`: the daemon as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// `root`, `node` or both.
    pub roles: Vec<String>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// The node's name.
    pub name: String,
    /// The node's X25519 public key in base64.
    pub node_key: String,
    /// Where the overlay's UDP socket listens.
    pub listen: Option<SocketAddr>,
    /// The node's worker subnet, once the root gave it.
    pub subnet: Option<Ipv4Network>,
    /// The same in IPv6.
    pub subnet_v6: Option<Ipv6Network>,
    /// The managers that the node may ask.
    pub managers: Vec<ManagerStatus>,
    /// The nodes that this one has a tunnel to.
    pub peers: Vec<PeerStatus>,
    /// How many flows are live.
    pub flows: u64,
    /// How many services are known: all of them on a root, those in the table on a node.
    pub services: u64,
    /// Every counter by its name, in packets, bytes or events as the name says.
    pub counters: BTreeMap<String, u64>,
}

/// A manager as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerStatus {
    /// Its X25519 public key in base64.
    pub key: String,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Whether it answered within the lease.
    pub connected: bool,
}

/// A peer's tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its X25519 public key in base64.
    pub key: String,
    /// Its name, if it is known.
    pub name: Option<String>,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// How far the handshake is.
    pub handshake: HandshakeState,
    /// Seconds since the last completed handshake.
    pub handshake_age_s: Option<u64>,
    /// Bytes of UDP payload received from it.
    pub rx_bytes: u64,
    /// Bytes of UDP payload sent to it.
    pub tx_bytes: u64,
}

/// How far the handshake with a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeState {
    /// There was no reason for one yet.
    None,
    /// Begun and not answered.
    Pending,
    /// There is a live session.
    Established,
}

impl fmt::Display for HandshakeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Established => "established",
        })
    }
}

/// `GET /v1/table`: what a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// The services in the node's table.
    pub services: Vec<TableService>,
}

/// A service in a node's table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableService {
    /// Its name.
    pub name: String,
    /// All its instances are in the table; otherwise only those that talk to this node.
    pub complete: bool,
    /// Its service IPs.
    pub service_ip_list: Vec<ServiceIp>,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// `GET /v1/drops`: why packets were dropped since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// One entry per reason that there is.
    pub drops: Vec<Drop>,
}

/// How many packets were dropped for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason's name.
    pub reason: String,
    /// Packets.
    pub count: u64,
    /// What the reason means, in a sentence.
    pub meaning: String,
}

/// `GET /v1/nodes`: the nodes that the root knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// A node as the root knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `node` or `cluster`.
    pub role: String,
    /// The name of the cluster that it is behind; none for the root's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Its X25519 public key in base64.
    pub key: String,
    /// Its worker subnet.
    pub subnet: Option<Ipv4Network>,
    /// The same in IPv6.
    pub subnet_v6: Option<Ipv6Network>,
    /// Where others reach it.
    pub endpoint: Option<SocketAddr>,
    /// Whether its lease holds.
    pub alive: bool,
    /// Seconds since it was last heard; `None` if it was not since the root started.
    pub last_seen_s: Option<u64>,
    /// How many instances run on it.
    pub instances: u64,
}

/// `POST /v1/tokens`: join tokens, please. Each admits one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// How many. 1 to [`TOKENS_MAX`].
    pub count: u16,
    /// How long they can be used, in seconds. 1 to [`TOKEN_EXPIRY_MAX_S`].
    pub expires_s: u64,
    /// The root's endpoint as the nodes reach it; otherwise the one that the root advertises.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// Each admits a cluster, not a node.
    pub cluster: bool,
    /// The cluster, by its name or its key, through which the nodes are to join; otherwise they join the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self { count: 1, expires_s: 3600, endpoint: None, cluster: false, via: None }
    }
}

/// The answer to a [`TokenRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The tokens.
    pub tokens: Vec<String>,
}

/// `GET` and `POST /v1/services`: services with their reservations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The services.
    pub services: Vec<Service>,
}

/// A service as the root knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its service IPs, one per policy that it was asked for, in the order of the policies.
    pub service_ip_list: Vec<ServiceIp>,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// The reserved addresses of a service under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceIp {
    /// The policy's short name, like `RR`.
    #[serde(rename = "IpType")]
    pub ip_type: String,
    /// The service IP.
    #[serde(rename = "Address")]
    pub address: Ipv4Addr,
    /// The service IP in IPv6.
    #[serde(rename = "Address_v6")]
    pub address_v6: Ipv6Addr,
}

/// One replica of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its number, unique in the service.
    pub number: u32,
    /// Its own address wherever it runs.
    pub instance_ip: Ipv4Addr,
    /// The same in IPv6.
    pub instance_ip_v6: Ipv6Addr,
    /// Its address on its node; `None` while it runs nowhere.
    pub namespace_ip: Option<Ipv4Addr>,
    /// The same in IPv6.
    pub namespace_ip_v6: Option<Ipv6Addr>,
    /// The public key of its node in base64; `None` while it runs nowhere.
    pub node: Option<String>,
    /// The name of its node.
    pub node_name: Option<String>,
    /// Whether its node is heard from; otherwise no new flows go to it.
    pub alive: bool,
    /// Its share under the policy `Weighted`; 1 is normal.
    pub weight: u16,
    /// Its rank under the policy `Failover`; the lowest comes first.
    pub priority: u16,
    /// What it was last reported to be busy with, in thousandths of what it can take.
    pub load: u16,
    /// Whether it is going away: what flows goes on, but service IPs bring it no new flows.
    pub draining: bool,
}

/// `POST /v1/instances`: connect a network namespace as an instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AttachBody", into = "AttachBody")]
pub struct AttachRequest {
    /// The service.
    pub service: ServiceName,
    /// The instance's number; otherwise the lowest free one. The number of an instance elsewhere moves it here.
    pub number: Option<u32>,
    /// Where the instance lives.
    pub namespace: Namespace,
    /// Its share under the policy `Weighted`; otherwise 1, or what an instance that moves here had.
    pub weight: Option<u16>,
    /// Its rank under the policy `Failover`; otherwise 0, or what an instance that moves here had.
    pub priority: Option<u16>,
}

/// A network namespace on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// That of a process, by its process id (at least 1).
    Pid(u32),
    /// A named one, as `ip netns` makes it.
    Name(NetnsName),
}

/// The name of a network namespace: a file name in `/run/netns`, 1 to 255 bytes, without `/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetnsName(String);

impl NetnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetnsName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let file_name = !text.is_empty() && text.len() <= NETNS_NAME_MAX && !text.contains(['/', '\0']);
        if !file_name || text == "." || text == ".." {
            return Err(format!("`{text}` is not the name of a network namespace; `ip netns` lists them"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NetnsName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NetnsName> for String {
    fn from(name: NetnsName) -> Self {
        name.0
    }
}

/// The JSON of an [`AttachRequest`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttachBody {
    #[serde(deserialize_with = "service_name")]
    service: ServiceName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<NetnsName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<u16>,
}

impl TryFrom<AttachBody> for AttachRequest {
    type Error = &'static str;
    fn try_from(body: AttachBody) -> Result<Self, &'static str> {
        let namespace = match (body.pid, body.netns) {
            (Some(0), None) => return Err("pid 0 is no process"),
            (Some(pid), None) => Namespace::Pid(pid),
            (None, Some(name)) => Namespace::Name(name),
            _ => return Err("give exactly one of pid and netns"),
        };
        let AttachBody { service, number, weight, priority, .. } = body;
        Ok(Self { service, number, namespace, weight, priority })
    }
}

impl From<AttachRequest> for AttachBody {
    fn from(request: AttachRequest) -> Self {
        let (pid, netns) = match request.namespace {
            Namespace::Pid(pid) => (Some(pid), None),
            Namespace::Name(name) => (None, Some(name)),
        };
        let AttachRequest { service, number, weight, priority, .. } = request;
        Self { service, number, pid, netns, weight, priority }
    }
}

/// `PATCH /v1/instances/{service}/{number}`: how an instance is to be picked from now on. What is left out stays as it is; at least
/// one thing is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdjustRequest {
    /// Its share under the policy `Weighted`; 1 is normal. Kept until it is set again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Its rank under the policy `Failover`; the lowest comes first. Kept until it is set again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// What it is busy with, in thousandths of what it can take: 0 to [`LOAD_MAX`]. A report, which the root does not store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<u16>,
    /// Whether it is going away: what flows goes on, but service IPs bring it no new flows. Kept until it is set again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

impl fmt::Display for AdjustRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [("weight", self.weight), ("priority", self.priority), ("load", self.load)];
        let numbers = numbers.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        let draining = self.draining.map(|draining| format!("draining {draining}"));
        f.write_str(&numbers.chain(draining).collect::<Vec<_>>().join(", "))
    }
}

/// The answer to an [`AttachRequest`]: the instance and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The service.
    pub service: String,
    /// The instance's number.
    pub number: u32,
    /// Its own address wherever it runs.
    pub instance_ip: Ipv4Addr,
    /// The same in IPv6.
    pub instance_ip_v6: Ipv6Addr,
    /// Its address on this node.
    pub namespace_ip: Ipv4Addr,
    /// The same in IPv6.
    pub namespace_ip_v6: Ipv6Addr,
}

/// Reads a name by the rule of [`ServiceName::new`]: in a request, the empty name names nothing.
fn service_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServiceName, D::Error> {
    ServiceName::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reservation_has_oakestras_field_names() {
        let ip = ServiceIp {
            ip_type: "RR".to_owned(),
            address: Ipv4Addr::new(10, 30, 0, 1),
            address_v6: "fdff:2000::1".parse().unwrap(),
        };
        let text = r#"{"IpType":"RR","Address":"10.30.0.1","Address_v6":"fdff:2000::1"}"#;
        assert_eq!(serde_json::to_string(&ip).unwrap(), text);
        assert_eq!(serde_json::from_str::<ServiceIp>(text).unwrap(), ip);
    }

    #[test]
    fn an_attach_request_names_one_namespace() {
        let read = |body: serde_json::Value| serde_json::from_value::<AttachRequest>(body);
        let service = "app.ns.svc.ns";
        for body in [
            json!({"service": service, "pid": 7}),
            json!({"service": service, "number": 0, "netns": "a"}),
            json!({"service": service, "netns": "a", "weight": 0, "priority": 65535}),
        ] {
            assert_eq!(serde_json::to_value(read(body.clone()).unwrap()).unwrap(), body);
        }
        for (body, says) in [
            (json!({"service": service}), "exactly one"),
            (json!({"service": service, "pid": 7, "netns": "a"}), "exactly one"),
            (json!({"service": service, "pid": 0}), "pid 0"),
            (json!({"service": service, "pid": -1}), "-1"),
            (json!({"service": service, "number": -1, "pid": 7}), "-1"),
            (json!({"service": service, "netns": "../../etc"}), "not the name"),
            (json!({"service": service, "netns": ""}), "not the name"),
            (json!({"service": service, "netns": ".."}), "not the name"),
            (json!({"service": "", "pid": 7}), "four parts"),
            (json!({"service": "a.b.c", "pid": 7}), "four parts"),
            (json!({"service": service, "pid": 7, "weight": 65536}), "65536"),
            (json!({"service": service, "pid": 7, "load": 7}), "unknown field `load`"),
            (json!({"pid": 7}), "missing field `service`"),
            (json!({"service": service, "pid": 7, "ns": "x"}), "unknown field `ns`"),
        ] {
            let error = read(body.clone()).unwrap_err().to_string();
            assert!(error.contains(says), "{body}: {error}");
        }
    }

    #[test]
    fn a_token_request_has_defaults() {
        let read = |text| serde_json::from_str::<TokenRequest>(text);
        assert_eq!(read("{}").unwrap(), TokenRequest::default());
        assert!(read(r#"{"expires": 5}"#).is_err());
    }

    #[test]
    fn an_adjustment_leaves_out_what_stays() {
        let read = |text| serde_json::from_str::<AdjustRequest>(text);
        let request = AdjustRequest { weight: Some(3), draining: Some(false), ..AdjustRequest::default() };
        let text = r#"{"weight":3,"draining":false}"#;
        assert_eq!(read(text).unwrap(), request);
        assert_eq!(serde_json::to_string(&request).unwrap(), text);
        assert_eq!(request.to_string(), "weight 3, draining false");
        for wrong in [r#"{"drain": true}"#, r#"{"weight": -1}"#, r#"{"weight": 65536}"#, r#"{"draining": "yes"}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
