//! What the control API's requests do in the daemon.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use acorn_core::policy::Registry;
use acorn_core::sync::message::ManagerRecord;
use ipnetwork::{Ipv4Network, Ipv6Network};
use tokio::sync::{Mutex, watch};

use super::DataplaneHandle;
use super::attachments::Attachments;
use super::cluster::ClusterHandle;
use super::dataplane::Command;
use super::manager::{ManagerHandle, NotDone};
use crate::api::error::ApiError;
use crate::api::idempotency;
use crate::api::server::Backend;
use crate::api::types::{
    AdjustRequest, AttachRequest, Attached, Drops, Instance, ManagerStatus, Node, Nodes, Service, ServiceIp, Services,
    Status, Table, TokenRequest, Tokens,
};
use crate::cluster::ClusterStatus;
use crate::config::{Config, Role};
use crate::identity::{JoinToken, NodeKey};
use crate::root::{AddressRequest, FixedAddress, KeyError, OnceError, RequestKey, Root, ServiceError, ServiceInfo};
use crate::sla::{InstanceAddress, ServiceName, ServiceRequest, WantedAddress};

/// The daemon as its API sees it.
pub struct Control {
    /// What the daemon is.
    pub role: Role,
    /// What it was told.
    pub config: Config,
    /// Its key.
    pub key: NodeKey,
    /// When it started.
    pub started: Instant,
    /// The packets' thread.
    pub dataplane: DataplaneHandle,
    /// The root's thread, with that role.
    pub manager: Option<ManagerHandle>,
    /// The cluster's thread, with that role.
    pub cluster: Option<ClusterHandle>,
    /// The instances here, with the role of a node.
    pub attachments: Option<Arc<Mutex<Attachments>>>,
    /// Ends the daemon.
    pub stop: watch::Sender<bool>,
}

impl Control {
    fn manager(&self) -> Result<&ManagerHandle, ApiError> {
        self.manager.as_ref().ok_or_else(|| ApiError::no_role("root"))
    }

    fn attachments(&self) -> Result<&Mutex<Attachments>, ApiError> {
        self.attachments.as_deref().ok_or_else(|| ApiError::no_role("node"))
    }

    /// Does an operation on the root, with a key at most once.
    async fn once(
        &self,
        key: Option<RequestKey>,
        what: String,
        operation: impl FnOnce(&mut Root, acorn_core::time::Instant) -> Result<String, ApiError> + Send + 'static,
    ) -> Result<String, ApiError> {
        let run = move |root: &mut Root, now| match key {
            Some(key) => root.once(now, &key, &what, |root| operation(root, now)),
            None => operation(root, now).map_err(OnceError::Refused),
        };
        let answer = self.manager()?.run(run).await.map_err(not_done)?;
        answer.map_err(|error| match error {
            OnceError::Refused(error) => error,
            OnceError::Reused(_) => idempotency::reused(error.to_string()),
            OnceError::Storage(error) => ApiError::unavailable("storage", error.to_string()),
        })
    }

    /// The key and the endpoint of a cluster that nodes are to join through.
    async fn cluster_to_join(
        &self,
        via: String,
        endpoint: Option<SocketAddr>,
    ) -> Result<(NodeKey, SocketAddr), ApiError> {
        let nodes = self.manager()?.run(|root, _| root.nodes()).await.map_err(not_done)?;
        let mut named =
            nodes.into_iter().filter(|node| node.subnet.is_none() && (node.name == via || node.key.to_string() == via));
        let (found, another) = (named.next(), named.next());
        let found = found.ok_or_else(|| {
            ApiError::not_found(
                "no_such_cluster",
                format!("there is no cluster {via}: `acorn node ls` lists those that there are"),
            )
        })?;
        if another.is_some() {
            let message =
                format!("there are several clusters {via}: name the one by its key, which `acorn node ls` shows");
            return Err(ApiError::conflict("ambiguous_cluster", message));
        }
        let endpoint = endpoint.or_else(|| found.endpoint.get()).ok_or_else(|| {
            let message =
                format!("it is not known where the cluster {via} is reached: say so with --endpoint ADDR:PORT");
            ApiError::bad_request("no_endpoint", message)
        })?;
        Ok((found.key, endpoint))
    }

    /// The endpoints that a token names: the one asked for, or else what this root is known to listen at.
    fn token_endpoint(&self, asked: Option<SocketAddr>) -> Result<SocketAddr, ApiError> {
        let listen = Some(self.config.daemon.listen).filter(|at| !at.ip().is_unspecified());
        asked.or(self.config.daemon.advertise).or(listen).ok_or_else(|| {
            ApiError::bad_request(
                "no_endpoint",
                "the root listens on all addresses: say with --endpoint ADDR:PORT (or advertise in its configuration) which one the node shall use",
            )
        })
    }
}

impl Backend for Control {
    async fn status(&self) -> Result<Status, ApiError> {
        let status = self.dataplane.ask(Command::Status).await.ok_or_else(stopped)?;
        let mut status = *status;
        status.version = env!("CARGO_PKG_VERSION").to_owned();
        let roles =
            [("root", self.role.is_root()), ("cluster", self.role == Role::Cluster), ("node", self.role.is_node())];
        status.roles = roles.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect();
        status.uptime_s = self.started.elapsed().as_secs();
        let name = if self.role == Role::Cluster { &self.config.cluster.name } else { &self.config.node.name };
        status.name = name.as_str().to_owned();
        if let Some(cluster) = &self.cluster {
            let seen = cluster.look(|cluster, now| (cluster.status(now), cluster.managers().to_vec())).await;
            let (seen, managers) = seen.ok_or_else(stopped)?;
            show_cluster(&mut status, &seen, &managers, cluster.overflow());
        }
        status.node_key = self.key.to_string();
        if let Some(manager) = &self.manager {
            status.services = manager.run(|root, _| root.services().len() as u64).await.map_err(not_done)?;
            status.counters.insert("root_overflow".to_owned(), manager.overflow());
        }
        Ok(status)
    }

    async fn table(&self) -> Result<Table, ApiError> {
        self.attachments()?;
        self.dataplane.ask(Command::Table).await.ok_or_else(stopped)
    }

    async fn drops(&self) -> Result<Drops, ApiError> {
        self.attachments()?;
        self.dataplane.ask(Command::Drops).await.ok_or_else(stopped)
    }

    async fn nodes(&self) -> Result<Nodes, ApiError> {
        let nodes = self.manager()?.run(|root, _| root.nodes()).await.map_err(not_done)?;
        let unix = unix_seconds();
        let nodes = nodes.into_iter().map(|node| Node {
            name: node.name,
            role: if node.subnet.is_some() { "node" } else { "cluster" }.to_owned(),
            cluster: node.cluster,
            key: node.key.to_string(),
            subnet: node.subnet.and_then(|subnet| Ipv4Network::new(subnet.v4().base(), subnet.v4().prefix()).ok()),
            subnet_v6: node.subnet.and_then(|subnet| Ipv6Network::new(subnet.v6().base(), subnet.v6().prefix()).ok()),
            endpoint: node.endpoint.get(),
            alive: node.alive,
            last_seen_s: Some(unix.saturating_sub(node.last_seen)),
            instances: node.instances as u64,
        });
        Ok(Nodes { nodes: nodes.collect() })
    }

    async fn create_tokens(&self, request: TokenRequest) -> Result<Tokens, ApiError> {
        let manager = self.manager()?;
        let (key, endpoint) = match &request.via {
            None => (self.key, self.token_endpoint(request.endpoint)?),
            Some(via) => self.cluster_to_join(via.clone(), request.endpoint).await?,
        };
        let expires = unix_seconds().saturating_add(request.expires_s);
        let made: Vec<_> = (0..request.count)
            .map(|_| JoinToken::generate(key, &[endpoint], expires))
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::bad_request("bad_endpoint", error.to_string()))?;
        let keys: Vec<NodeKey> = made.iter().map(|(_, key)| *key).collect();
        let cluster = request.cluster;
        let taken = manager
            .run(move |root, now| match cluster {
                true => root.create_cluster_join_keys(now, &keys, expires),
                false => root.create_join_keys(now, &keys, expires),
            })
            .await
            .map_err(not_done)?;
        taken.map_err(|error| match &error {
            KeyError::Expired => ApiError::bad_request("expired", error.to_string()),
            KeyError::InUse(_) | KeyError::Full { .. } => ApiError::conflict("too_many_tokens", error.to_string()),
            KeyError::Storage(_) => ApiError::unavailable("storage", error.to_string()),
        })?;
        Ok(Tokens { tokens: made.iter().map(|(token, _)| token.encode()).collect() })
    }

    async fn services(&self) -> Result<Services, ApiError> {
        let services = self.manager()?.run(|root, _| root.services()).await.map_err(not_done)?;
        Ok(Services { services: services.into_iter().map(service).collect() })
    }

    async fn create_services(
        &self,
        wanted: Vec<ServiceRequest>,
        key: Option<RequestKey>,
    ) -> Result<Services, ApiError> {
        let what = format!("create {wanted:?}");
        let wanted: Vec<_> = wanted.into_iter().map(root_request).collect();
        let create = move |root: &mut Root, now| {
            let created = root.create_services(now, wanted).map_err(|error| service_error(&error))?;
            let services = Services { services: created.into_iter().map(service).collect() };
            serde_json::to_string(&services).map_err(|error| ApiError::internal(error.to_string()))
        };
        let answer = self.once(key, what, create).await?;
        serde_json::from_str(&answer).map_err(|error| ApiError::internal(error.to_string()))
    }

    async fn service(&self, name: ServiceName) -> Result<Service, ApiError> {
        let wanted = name.clone();
        let found = self.manager()?.run(move |root, _| root.service(&wanted)).await.map_err(not_done)?;
        found.map(service).ok_or_else(|| service_error(&ServiceError::NotFound(name.into())))
    }

    async fn remove_service(&self, name: ServiceName, key: Option<RequestKey>) -> Result<(), ApiError> {
        let what = format!("remove {name}");
        let remove = move |root: &mut Root, now| {
            root.remove_service(now, &name).map(|()| String::new()).map_err(|error| service_error(&error))
        };
        self.once(key, what, remove).await.map(drop)
    }

    async fn attach(&self, request: AttachRequest, key: Option<RequestKey>) -> Result<Attached, ApiError> {
        self.attachments()?.lock().await.attach(request, key).await
    }

    async fn adjust(&self, service: ServiceName, number: u32, change: AdjustRequest) -> Result<(), ApiError> {
        // The answer is waited for without the lock, so that reports of load hold nobody up.
        let asked = self.attachments()?.lock().await.adjust(&service, number, change)?;
        asked.await
    }

    async fn detach(&self, service: ServiceName, number: u32, key: Option<RequestKey>) -> Result<(), ApiError> {
        self.attachments()?.lock().await.detach(&service, number, key).await
    }

    async fn down(&self) -> Result<(), ApiError> {
        if let Some(attachments) = &self.attachments {
            attachments.lock().await.tear_down().await.map_err(ApiError::internal)?;
        }
        self.stop.send_replace(true);
        Ok(())
    }
}

/// What a cluster adds to its daemon's status.
fn show_cluster(status: &mut Status, seen: &ClusterStatus, managers: &[ManagerRecord], overflow: u64) {
    let manager = |manager: &ManagerRecord| ManagerStatus {
        key: manager.key.to_string(),
        endpoint: manager.endpoint.get(),
        connected: seen.root_is_there && seen.manager == Some(manager.key),
    };
    status.managers = managers.iter().map(manager).collect();
    status.services = seen.services as u64;
    let counts = [
        ("cluster_nodes", seen.members as u64),
        ("cluster_instances", seen.instances as u64),
        ("cluster_followed", seen.followed as u64),
        ("cluster_subscriptions", seen.subscriptions as u64),
        ("cluster_waiting", seen.waiting as u64),
        ("cluster_unconfirmed", seen.unconfirmed as u64),
        ("cluster_overflow", overflow.saturating_add(seen.overflow)),
        ("cluster_pages", seen.server.pages),
        ("cluster_strangers", seen.server.strangers),
        ("cluster_malformed", seen.server.malformed),
    ];
    status.counters.extend(counts.map(|(name, count)| (name.to_owned(), count)));
}

fn root_request(request: ServiceRequest) -> crate::root::ServiceRequest {
    let address =
        |WantedAddress { policy, v4, v6 }| AddressRequest { ip_type: policy.ip_type, block: policy.block, v4, v6 };
    let fixed = |InstanceAddress { number, address }| FixedAddress { number, address };
    crate::root::ServiceRequest {
        name: request.name,
        addresses: request.addresses.into_iter().map(address).collect(),
        fixed: request.instances.into_iter().map(fixed).collect(),
    }
}

/// A service with its addresses in the order of the registry; those of policies that it does not know come last.
fn service(mut info: ServiceInfo) -> Service {
    let registry = Registry::built_in();
    info.service_ips.sort_by_key(|(ip_type, _)| registry.find(ip_type).map_or(usize::MAX, usize::from));
    Service {
        name: info.name.as_str().to_owned(),
        service_ip_list: info
            .service_ips
            .iter()
            .map(|(ip_type, address)| ServiceIp {
                ip_type: ip_type.as_str().to_owned(),
                address: address.v4,
                address_v6: address.v6,
            })
            .collect(),
        instances: info
            .instances
            .into_iter()
            .map(|instance| Instance {
                number: instance.number,
                instance_ip: instance.instance_ip.v4,
                instance_ip_v6: instance.instance_ip.v6,
                namespace_ip: Some(instance.namespace_ip.v4),
                namespace_ip_v6: Some(instance.namespace_ip.v6),
                node: Some(instance.node.to_string()),
                node_name: Some(instance.node_name),
                alive: instance.alive,
                weight: instance.weight,
                priority: instance.priority,
                load: instance.load,
                draining: instance.draining,
            })
            .collect(),
    }
}

fn service_error(error: &ServiceError) -> ApiError {
    let message = error.to_string();
    match error {
        ServiceError::NotFound(_) => ApiError::not_found("no_such_service", message),
        ServiceError::OutsidePlan { .. } | ServiceError::InstanceOutsidePlan { .. } | ServiceError::Malformed => {
            ApiError::bad_request("bad_address", message)
        }
        ServiceError::AlreadyExists(_) => ApiError::conflict("already_exists", message),
        ServiceError::InUse { .. } => ApiError::conflict("in_use", message),
        ServiceError::AddressTaken { .. } | ServiceError::AddressResting { .. } => {
            ApiError::conflict("address_taken", message)
        }
        ServiceError::Exhausted { .. } | ServiceError::Full { .. } => ApiError::conflict("exhausted", message),
        ServiceError::Storage(_) => ApiError::unavailable("storage", message),
    }
}

fn not_done(error: NotDone) -> ApiError {
    let code = match error {
        NotDone::Busy => "busy",
        NotDone::Storage(_) => "storage",
    };
    ApiError::unavailable(code, error.to_string())
}

fn stopped() -> ApiError {
    ApiError::unavailable("stopping", "the daemon is about to end")
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use acorn_core::addr::Dual;
    use acorn_core::ids::ServiceId;

    use super::*;
    use crate::sla::OfferedPolicy;

    #[test]
    fn the_root_is_asked_for_what_the_sla_asks_for() {
        let name = ServiceName::new("app.ns.svc.ns").unwrap();
        let addresses: Vec<_> = OfferedPolicy::built_in()
            .into_iter()
            .map(|policy| WantedAddress { v4: None, v6: Some(policy.example_v6()), policy })
            .collect();
        let instances = vec![InstanceAddress { number: 3, address: [10, 30, 0, 9].into() }];
        let request = root_request(ServiceRequest { name: name.clone(), addresses: addresses.clone(), instances });
        assert_eq!(request.name, name);
        assert_eq!(request.fixed, [FixedAddress { number: 3, address: [10, 30, 0, 9].into() }]);
        assert_eq!(request.addresses.len(), addresses.len());
        for (asked, wanted) in request.addresses.into_iter().zip(addresses) {
            let expected =
                AddressRequest { ip_type: wanted.policy.ip_type, block: wanted.policy.block, v4: None, v6: wanted.v6 };
            assert_eq!(asked, expected);
        }
    }

    #[test]
    fn a_service_shows_its_addresses_in_the_order_of_the_registry() {
        let registry = Registry::built_in();
        let ordered: Vec<_> =
            registry.iter().map(|policy| policy.ip_type()).chain(["Unknown", "Also unknown"]).collect();
        let address = Dual::new([10, 30, 0, 1].into(), [0xfdff, 0x2000, 0, 0, 0, 0, 0, 1].into());
        // As if a service had been created with another order; unknown policies keep theirs.
        let mut service_ips: Vec<_> = ordered.iter().map(|ip_type| ((*ip_type).try_into().unwrap(), address)).collect();
        let registered = service_ips.len() - 2;
        service_ips[..registered].reverse();
        service_ips.rotate_left(registered);
        let name = ServiceName::new("app.ns.svc.ns").unwrap();
        let shown = service(ServiceInfo { id: ServiceId(1), name, service_ips, instances: Vec::new() });
        let shown: Vec<_> = shown.service_ip_list.iter().map(|ip| ip.ip_type.as_str()).collect();
        assert_eq!(shown, ordered);
    }
}
