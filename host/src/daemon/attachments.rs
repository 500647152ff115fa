//! The Linux side of a node's instances: what is attached, on the host and at the manager, and what is remembered of it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use acorn_core::addr::{Dual, Pool, PoolError, WorkerSubnet};
use acorn_core::router::Attachment;
use acorn_core::sync::client::{Membership, Outcome};
use acorn_core::sync::message::{Adjustment, AttachKind, Refusal};
use acorn_core::{InstanceId, NodeKey, ServiceName};
use ipnetwork::{Ipv4Network, Ipv6Network};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::DataplaneHandle;
use super::dataplane::{Command, Event};
use super::engine_clock::EngineClock;
use super::memory::{ManagerEntry, Memory, MemoryError};
use super::state::{AttachmentRecord, DetachmentRecord, HostRecord, NodeState};
use crate::api::error::ApiError;
use crate::api::idempotency;
use crate::api::types::{AdjustRequest, AttachRequest, Attached, Namespace};
use crate::net::tun::TunAddressing;
use crate::net::veth::{self, AttachError, AttachSpec};
use crate::net::{
    AttachmentPrefix, Host, IfName, InterfaceMtu, Netns, NetnsError, NetnsRef, ServiceNets, teardown, tun,
};
use crate::root::RequestKey;

/// How long the manager may take to answer before the operator is told that it does not.
const MANAGER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a namespace IP rests before another instance gets it, so that no late packet reaches a stranger.
const NAMESPACE_QUARANTINE: Duration = Duration::from_secs(60);

/// How many requests that detached something are remembered for their repeats: more than a node has instances.
const DETACHED_MAX: usize = 128;

/// What does not change while a node runs.
pub struct Settings {
    /// Where the node's memory is.
    pub path: PathBuf,
    /// The TUN.
    pub tun: IfName,
    /// How the host ends of the instances' interfaces begin.
    pub prefix: AttachmentPrefix,
    /// The MTU inside the overlay.
    pub mtu: InterfaceMtu,
    /// Where service and instance IPs are.
    pub service_nets: ServiceNets,
}

/// A node's attachments.
pub struct Attachments {
    settings: Settings,
    host: Host,
    dataplane: DataplaneHandle,
    events: mpsc::UnboundedSender<Event>,
    state: NodeState,
    /// Offsets in the node's subnets; the top one is the host's.
    pool: Pool<64>,
    clock: EngineClock,
}

impl Attachments {
    /// Takes over what an earlier run left: adopts the attachments whose namespaces still live, and removes the rest.
    ///
    /// # Errors
    /// When the node's memory cannot be written.
    pub async fn open(
        settings: Settings,
        host: Host,
        dataplane: DataplaneHandle,
        events: mpsc::UnboundedSender<Event>,
        state: NodeState,
        clock: EngineClock,
    ) -> Result<Self, MemoryError> {
        let mut this = Self { settings, host, dataplane, events, state, pool: Pool::new(1, 0), clock };
        if let Some(subnet) = this.state.subnet {
            this.use_subnet(subnet).await;
            if let Some(host) = this.state.host {
                this.dataplane.tell(Command::Resume(host.attachment()));
            }
        }
        this.adopt_all().await;
        this.remove_leaked().await;
        this.store()?;
        Ok(this)
    }

    /// Attaches a network namespace as an instance.
    ///
    /// # Errors
    /// An [`ApiError`] that says what to do; nothing of the attempt is left then.
    pub async fn attach(&mut self, request: AttachRequest, key: Option<RequestKey>) -> Result<Attached, ApiError> {
        if let Some(record) = self.attached_by(key.as_ref()) {
            let is_repeat = record.service == request.service
                && request.number.is_none_or(|number| number == record.instance.number);
            return if is_repeat { Ok(attached(record)) } else { Err(key_reused()) };
        }
        let Some(subnet) = self.state.subnet else {
            return Err(ApiError::unavailable(
                "not_joined",
                "this node has no subnet yet: `acorn status` shows whether its manager answers",
            ));
        };
        if let Some(number) = request.number
            && self.record(&request.service, number).is_some()
        {
            let message =
                format!("{} instance {number} is attached to this node already: detach it first", request.service);
            return Err(ApiError::conflict("already_attached", message));
        }
        let namespace = Netns::open(&match request.namespace {
            Namespace::Pid(pid) => NetnsRef::Pid(pid),
            Namespace::Name(name) => NetnsRef::Name(name.as_str().to_owned()),
        })
        .map_err(|error| netns_error(&error))?;
        let offset = self.pool.allocate(self.now()).map_err(pool_error)?;
        let Some((ip, spec)) = self.spec(subnet, offset) else {
            return Err(ApiError::internal(format!("the subnet {subnet} has no address number {offset}")));
        };
        let id = match veth::attach(&self.host, namespace, &spec).await {
            Ok(id) => id,
            Err(error) => {
                self.release(ip);
                return Err(attach_error(&error));
            }
        };
        let kind = match request.number {
            Some(number) => AttachKind::Take(request.service.clone(), number),
            None => AttachKind::New(request.service.clone()),
        };
        let settings = Adjustment { weight: request.weight, priority: request.priority, ..Adjustment::default() };
        match self.ask_to_attach(kind, ip, settings, &spec).await {
            Ok((instance, instance_ip)) => {
                let record = AttachmentRecord {
                    service: request.service.clone(),
                    instance,
                    instance_ip,
                    namespace_ip: ip,
                    namespace: id,
                    spec,
                    request_key: key.map(|key| key.as_str().to_owned()),
                };
                let answer = attached(&record);
                self.state.attachments.push(record);
                self.store().map_err(|error| ApiError::internal(error.to_string()))?;
                info!(service = %request.service, number = instance.number, %instance_ip, namespace_ip = %ip, "attached");
                Ok(answer)
            }
            Err(error) => {
                self.unplug(&spec).await;
                self.release(ip);
                Err(error)
            }
        }
    }

    /// The attachment that a request with this key has made.
    fn attached_by(&self, key: Option<&RequestKey>) -> Option<&AttachmentRecord> {
        let key = key?.as_str();
        self.state.attachments.iter().find(|record| record.request_key.as_deref() == Some(key))
    }

    /// Asks the manager to have an instance of this node picked otherwise. The request is on its way when this returns, behind
    /// those of earlier calls; what it returns waits for the answer.
    ///
    /// # Errors
    /// An [`ApiError`] when there is none; and from the future, when the manager does not answer or refuses.
    pub fn adjust(
        &self,
        service: &ServiceName,
        number: u32,
        change: AdjustRequest,
    ) -> Result<impl Future<Output = Result<(), ApiError>> + Send + use<>, ApiError> {
        let record = self.record(service, number).and_then(|place| self.state.attachments.get(place));
        let instance = record.ok_or_else(|| not_here(service, number))?.instance;
        let AdjustRequest { weight, priority, load, draining } = change;
        let adjustment = Adjustment { weight, priority, load, draining };
        let (reply, outcome) = oneshot::channel();
        self.dataplane.tell(Command::Adjust { instance, change: adjustment, reply });
        let service = service.clone();
        Ok(async move {
            match tokio::time::timeout(MANAGER_TIMEOUT, outcome).await {
                Ok(Ok(Outcome::Adjusted(_))) => {
                    // A load is reported again and again.
                    if (Adjustment { load: None, ..adjustment }) != Adjustment::default() {
                        info!(%service, number, %change, "set");
                    }
                    Ok(())
                }
                Ok(Ok(Outcome::Refused(refusal))) => Err(adjust_error(&service, number, refusal)),
                Ok(other) => Err(ApiError::internal(format!("the data plane answered {other:?}"))),
                Err(_) => Err(ApiError::unavailable(
                    "manager_silent",
                    format!(
                        "the manager does not say whether it has set {service} instance {number}: `acorn status` shows where it is expected; set it again when it is back"
                    ),
                )),
            }
        })
    }

    /// Takes an instance of this node out.
    ///
    /// # Errors
    /// An [`ApiError`] when there is none, or its interface cannot be removed.
    pub async fn detach(
        &mut self,
        service: &ServiceName,
        number: u32,
        key: Option<RequestKey>,
    ) -> Result<(), ApiError> {
        let done = |key: &RequestKey| self.state.detached.iter().find(|done| done.request_key == key.as_str());
        if let Some(done) = key.as_ref().and_then(done) {
            let is_repeat = done.service == *service && done.number == number;
            return if is_repeat { Ok(()) } else { Err(key_reused()) };
        }
        let Some(place) = self.record(service, number) else {
            return Err(not_here(service, number));
        };
        // Stored first, with the request: were the interface to go first, a kill in between would lose the request, and its repeat
        // could then meet another container that has been given the number meanwhile. An interface that nobody remembers is removed
        // by the next start.
        let record = self.state.attachments.swap_remove(place);
        let before = self.state.detached.clone();
        if let Some(key) = key {
            let request_key = key.as_str().to_owned();
            self.state.detached.push_back(DetachmentRecord { request_key, service: service.clone(), number });
            while self.state.detached.len() > DETACHED_MAX {
                self.state.detached.pop_front();
            }
        }
        let removed = match self.store() {
            Ok(()) => veth::detach(&self.host, &record.spec.host_ifname).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = removed {
            self.state.attachments.push(record);
            self.state.detached = before;
            if let Err(error) = self.store() {
                error!(%error, "a restart of this node would take an instance for detached");
            }
            return Err(ApiError::internal(error));
        }
        self.release(record.namespace_ip);
        self.tell_detached(record.instance).await;
        info!(%service, number, "detached");
        Ok(())
    }

    /// The manager has taken the node in, or its standing has changed.
    pub async fn join(&mut self, membership: Membership, managers: Vec<(NodeKey, Option<SocketAddr>)>) {
        self.state.managers = managers.into_iter().map(|(key, endpoint)| ManagerEntry { key, endpoint }).collect();
        if self.state.subnet != Some(membership.subnet) {
            if let Some(old) = self.state.subnet {
                warn!(%old, new = %membership.subnet, "the manager gave other subnets: all instances have to be attached again");
                self.drop_all().await;
            }
            self.state.subnet = Some(membership.subnet);
            self.state.host = None;
            self.use_subnet(membership.subnet).await;
        }
        if self.state.host.is_none() {
            self.attach_host(membership.subnet);
        }
        if let Err(error) = self.store() {
            error!(%error, "a restart of this node will have to join again");
        }
    }

    /// The manager has attached the node's own host.
    pub fn host_attached(&mut self, host: Attachment) {
        let (instance, instance_ip, namespace_ip) = (host.id, host.instance_ip, host.namespace_ip);
        self.state.host = Some(HostRecord { instance, instance_ip, namespace_ip });
        if let Err(error) = self.store() {
            error!(%error, "after a restart the host's own addresses are asked for again");
        }
    }

    /// An attached instance is not this node's any more.
    pub async fn lose(&mut self, instance: InstanceId, refusal: Refusal) {
        if self.state.host.is_some_and(|host| host.instance == instance) {
            self.state.host = None;
            if let Some(subnet) = self.state.subnet {
                self.attach_host(subnet);
            }
        }
        if let Some(place) = self.state.attachments.iter().position(|record| record.instance == instance) {
            let record = self.state.attachments.swap_remove(place);
            warn!(service = %record.service, number = instance.number, ?refusal, "the instance is not this node's any more: its interface is removed");
            self.unplug(&record.spec).await;
            self.release(record.namespace_ip);
        }
        if let Err(error) = self.store() {
            error!(%error, "the loss will be noticed again after a restart");
        }
    }

    /// Leaves the host as it was found, and forgets what was attached.
    ///
    /// # Errors
    /// A message of what could not be removed; the rest was.
    pub async fn tear_down(&mut self) -> Result<(), String> {
        let instances: Vec<_> = self.state.attachments.drain(..).map(|record| record.instance).collect();
        for instance in instances.into_iter().chain(self.state.host.take().map(|host| host.instance)) {
            self.tell_detached(instance).await;
        }
        let removed = teardown::remove_all(&self.host, &self.settings.prefix, &mut self.state.journal).await;
        let stored = self.store();
        let removed = removed.map_err(|error| error.to_string())?;
        stored.map_err(|error| error.to_string())?;
        info!(attachments = removed.attachments.len(), settings = removed.settings.len(), "the host is as it was");
        Ok(())
    }

    /// Gives the TUN its addresses and routes, and the pool its offsets.
    async fn use_subnet(&mut self, subnet: WorkerSubnet) {
        self.pool = Pool::new(1, subnet.last_host().saturating_sub(1));
        self.dataplane.tell(Command::SetSubnet(subnet));
        if let Err(error) = self.configure_tun(subnet).await {
            error!(%error, "the TUN has no addresses: service IPs cannot be reached from this node");
        }
    }

    async fn configure_tun(&self, subnet: WorkerSubnet) -> anyhow::Result<()> {
        let host_ip = host_ip(subnet).ok_or_else(|| anyhow::anyhow!("the subnet {subnet} has no room for the host"))?;
        let addressing = TunAddressing {
            host_ip: host_ip.v4,
            host_ip_v6: host_ip.v6,
            worker_subnet: Ipv4Network::new(subnet.v4().base(), subnet.v4().prefix())?,
            worker_subnet_v6: Ipv6Network::new(subnet.v6().base(), subnet.v6().prefix())?,
            service_nets: self.settings.service_nets,
        };
        Ok(tun::configure(&self.host, &self.settings.tun, &addressing).await?)
    }

    async fn adopt_all(&mut self) {
        for record in std::mem::take(&mut self.state.attachments) {
            let (service, number) = (&record.service, record.instance.number);
            match veth::adopt(&self.host, record.namespace, &record.spec).await {
                Ok(adoption) => {
                    info!(%service, number, ?adoption, "adopted");
                    if let Some(offset) =
                        self.state.subnet.and_then(|s| s.offset_of(IpAddr::V4(record.namespace_ip.v4)))
                    {
                        // Taken already would mean that two records have one address; the first one keeps it.
                        let _ = self.pool.reserve(offset, self.now());
                    }
                    self.dataplane.tell(Command::Resume(record.attachment()));
                    self.state.attachments.push(record);
                }
                Err(error) => {
                    warn!(%service, number, %error, "not adopted: the instance is detached");
                    self.unplug(&record.spec).await;
                    self.spawn_detach(record.instance);
                }
            }
        }
    }

    /// Removes interfaces of an earlier run that nothing is remembered of.
    async fn remove_leaked(&self) {
        let owned = match veth::list_owned(&self.host, &self.settings.prefix).await {
            Ok(owned) => owned,
            Err(error) => {
                warn!(%error, "cannot look for interfaces of an earlier run");
                return;
            }
        };
        for name in owned.iter().filter(|name| !self.state.attachments.iter().any(|r| r.spec.host_ifname == **name)) {
            match veth::detach(&self.host, name).await {
                Ok(_) => info!(interface = %name, "removed: nothing is attached there"),
                Err(error) => warn!(interface = %name, %error, "cannot remove it"),
            }
        }
    }

    /// Asks the manager for the host's own addresses. The answer may take until the manager is back.
    fn attach_host(&self, subnet: WorkerSubnet) {
        let Some(namespace_ip) = host_ip(subnet) else { return };
        let (dataplane, events) = (self.dataplane.clone(), self.events.clone());
        tokio::spawn(async move {
            let settings = Adjustment::default();
            let asked =
                dataplane.ask(|reply| Command::Attach { kind: AttachKind::Host, namespace_ip, settings, reply });
            match asked.await {
                // Nobody to tell means that the daemon is about to end.
                Some(Outcome::Attached(host)) => drop(events.send(Event::HostAttached(host))),
                other => warn!(?other, "processes on this host cannot use service IPs"),
            }
        });
    }

    /// Asks the manager to attach an instance.
    async fn ask_to_attach(
        &self,
        kind: AttachKind,
        namespace_ip: Dual,
        settings: Adjustment,
        spec: &AttachSpec,
    ) -> Result<(InstanceId, Dual), ApiError> {
        let (reply, mut outcome) = oneshot::channel();
        self.dataplane.tell(Command::Attach { kind, namespace_ip, settings, reply });
        match tokio::time::timeout(MANAGER_TIMEOUT, &mut outcome).await {
            Ok(Ok(Outcome::Attached(attachment))) => Ok((attachment.id, attachment.instance_ip)),
            Ok(Ok(Outcome::Refused(refusal))) => Err(refusal_error(refusal)),
            Ok(other) => Err(ApiError::internal(format!("the data plane answered {other:?}"))),
            Err(_) => {
                // The manager may have done it, and its answer be lost or late: then it is taken back.
                let (dataplane, interface) = (self.dataplane.clone(), spec.host_ifname.clone());
                tokio::spawn(async move {
                    if let Ok(Outcome::Attached(attachment)) = outcome.await {
                        warn!(%interface, "attached too late: taken back");
                        dataplane.ask(|reply| Command::Detach { instance: attachment.id, reply }).await;
                    }
                });
                Err(ApiError::unavailable(
                    "manager_silent",
                    "the manager does not answer: `acorn status` shows where it is expected; try again when it is back",
                ))
            }
        }
    }

    /// Tells the manager, and waits a while for its answer. The data plane goes on telling it until it has answered.
    async fn tell_detached(&self, instance: InstanceId) {
        let told = self.spawn_detach(instance);
        if tokio::time::timeout(Duration::from_secs(2), told).await.is_err() {
            warn!(?instance, "the manager does not answer; it is told when it is back");
        }
    }

    fn spawn_detach(&self, instance: InstanceId) -> tokio::task::JoinHandle<()> {
        let dataplane = self.dataplane.clone();
        tokio::spawn(async move {
            dataplane.ask(|reply| Command::Detach { instance, reply }).await;
        })
    }

    async fn drop_all(&mut self) {
        for record in std::mem::take(&mut self.state.attachments) {
            self.unplug(&record.spec).await;
            self.tell_detached(record.instance).await;
        }
    }

    async fn unplug(&self, spec: &AttachSpec) {
        if let Err(error) = veth::detach(&self.host, &spec.host_ifname).await {
            warn!(interface = %spec.host_ifname, %error, "the interface stays");
        }
    }

    fn spec(&self, subnet: WorkerSubnet, offset: u32) -> Option<(Dual, AttachSpec)> {
        let ip = subnet.namespace_ip(offset)?.dual();
        let spec = AttachSpec {
            host_ifname: self.settings.prefix.host_ifname(u8::try_from(offset).ok()?),
            container_ifname: IfName::new(veth::CONTAINER_IFNAME).ok()?,
            namespace_ip: ip.v4,
            namespace_ip_v6: ip.v6,
            service_nets: self.settings.service_nets,
            mtu: self.settings.mtu,
        };
        Some((ip, spec))
    }

    fn record(&self, service: &ServiceName, number: u32) -> Option<usize> {
        self.state.attachments.iter().position(|r| r.service == *service && r.instance.number == number)
    }

    fn release(&mut self, ip: Dual) {
        let ready = self.now().saturating_add(NAMESPACE_QUARANTINE);
        if let Some(offset) = self.state.subnet.and_then(|subnet| subnet.offset_of(IpAddr::V4(ip.v4))) {
            // One that is not taken is free already.
            let _ = self.pool.release(offset, ready);
        }
    }

    fn now(&self) -> acorn_core::time::Instant {
        self.clock.now()
    }

    fn store(&mut self) -> Result<(), MemoryError> {
        self.state.store(&self.settings.path)
    }
}

fn attached(record: &AttachmentRecord) -> Attached {
    Attached {
        service: record.service.as_str().to_owned(),
        number: record.instance.number,
        instance_ip: record.instance_ip.v4,
        instance_ip_v6: record.instance_ip.v6,
        namespace_ip: record.namespace_ip.v4,
        namespace_ip_v6: record.namespace_ip.v6,
    }
}

fn key_reused() -> ApiError {
    idempotency::reused("the idempotency key belongs to another request: use a new key for each request")
}

/// The host's own namespace IP: the top one of the subnet.
fn host_ip(subnet: WorkerSubnet) -> Option<Dual> {
    subnet.namespace_ip(subnet.last_host()).map(|ip| ip.dual())
}

fn pool_error(error: PoolError) -> ApiError {
    match error {
        PoolError::Exhausted { limit, retry_at } => {
            let wait = if retry_at.is_some() { " Some were freed a moment ago: try again in a minute." } else { "" };
            let message = format!(
                "all {limit} addresses of this node's subnet are in use: detach an instance, or attach to another node.{wait}"
            );
            ApiError::conflict("subnet_full", message)
        }
        other => ApiError::internal(format!("the subnet's pool: {other}")),
    }
}

fn netns_error(error: &NetnsError) -> ApiError {
    let message = error.to_string();
    match error {
        NetnsError::PidGone(_) => ApiError::not_found("no_such_process", message),
        NetnsError::NoSuchNamespace(_) | NetnsError::NotANamespace(_) => {
            ApiError::not_found("no_such_namespace", message)
        }
        NetnsError::InvalidName(_) => ApiError::bad_request("bad_namespace", message),
        _ => ApiError::internal(message),
    }
}

fn attach_error(error: &AttachError) -> ApiError {
    let message = error.to_string();
    match error {
        AttachError::Netns(error) => netns_error(error),
        AttachError::HostNamespace(_) => ApiError::bad_request("host_namespace", message),
        AttachError::HostInterfaceTaken(_)
        | AttachError::ContainerInterfaceTaken { .. }
        | AttachError::RouteTaken { .. }
        | AttachError::Vanished(_) => ApiError::conflict("namespace_taken", message),
        AttachError::Unguarded(_) | AttachError::Netlink(_) | AttachError::Sysctl(_) => ApiError::internal(message),
    }
}

fn not_here(service: &ServiceName, number: u32) -> ApiError {
    let message = format!(
        "{service} instance {number} is not attached to this node: `acorn service show {service}` tells where it runs"
    );
    ApiError::not_found("no_such_instance", message)
}

fn adjust_error(service: &ServiceName, number: u32, refusal: Refusal) -> ApiError {
    let what = format!("{service} instance {number}");
    match refusal {
        Refusal::NoSuchInstance => ApiError::not_found(
            "no_such_instance",
            format!("the root knows no {what} any more: `acorn service show {service}` lists those that there are"),
        ),
        Refusal::Moved => ApiError::conflict(
            "moved",
            format!("{what} runs on another node now: `acorn service show {service}` tells where; set it there"),
        ),
        other => refusal_error(other),
    }
}

fn refusal_error(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::NoSuchService => ApiError::not_found(
            "no_such_service",
            "the root knows no service of that name: create it with `acorn service create`",
        ),
        Refusal::NoSuchInstance => ApiError::not_found("no_such_instance", "the root knows no such instance"),
        Refusal::Moved => ApiError::conflict("moved", "the instance runs on another node"),
        Refusal::AddressesExhausted => ApiError::conflict(
            "addresses_exhausted",
            "all service and instance addresses of the network are in use: remove services or instances",
        ),
        Refusal::Storage => {
            ApiError::unavailable("storage", "the root cannot store the change: look at its log and its disk")
        }
        Refusal::Full => ApiError::unavailable("full", "too many requests are under way: try again in a moment"),
        other => ApiError::conflict("refused", format!("the manager refuses: {other:?}")),
    }
}
