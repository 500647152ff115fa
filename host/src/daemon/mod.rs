//! The daemon: puts identity, tunnels, engine, root and control API together, runs them, and takes them apart again.
//!
//! ```text
//!   control API (tokio) ──commands──▶ data plane (one thread: TUN, UDP, engine, tunnels)
//!        │        ▲                       │  ▲
//!        │        └───────events──────────┘  │ payloads
//!        └──────────operations──▶ root (one thread: sync server, store)
//! ```

mod attachments;
mod cluster;
mod control;
mod dataplane;
mod engine_clock;
mod manager;
mod memory;
mod state;
mod wake;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use acorn_core::addr::AddressPlan;
use acorn_core::flow::Lifetimes;
use acorn_core::node::NodeConfig;
use acorn_core::policy::Registry;
use acorn_core::sync::client::Profile;
use acorn_core::sync::message::{Capacities, ManagerRecord};
use acorn_core::{Endpoint, HashKey};
use anyhow::{Context, anyhow, bail};
use ipnetwork::{Ipv4Network, Ipv6Network};
use nix::fcntl::{Flock, FlockArg};
use static_cell::ConstStaticCell;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tracing::{error, info, warn};
use zeroize::Zeroizing;

use self::attachments::{Attachments, Settings};
use self::cluster::{ClusterHandle, ClusterLink, ClusterMemory, ClusterThread};
use self::control::Control;
use self::dataplane::{Command, Dataplane, Event, HostNode, NodeParts, Udp};
use self::engine_clock::EngineClock;
use self::manager::Manager;
use self::memory::{ManagerEntry, Memory};
use self::state::NodeState;
use self::wake::Waker;
use crate::api::{server, socket::ControlSocket};
use crate::cluster::ClusterStart;
use crate::config::{Config, Role, Secret};
use crate::identity::{HandshakeClock, Identity, JoinToken};
use crate::net::tun::Tun;
use crate::net::{Host, InterfaceMtu, ServiceNets};
use crate::root::{Root, RootSettings};
use crate::tunnel::Tunnels;

/// The node's private key, in the state directory.
const KEY_FILE: &str = "key";
/// The mark of the handshake clock, in the state directory.
const CLOCK_FILE: &str = "handshake-clock";
/// Held while a daemon uses the state directory.
const LOCK_FILE: &str = "lock";

/// How long a manager may be silent after the start before the log says so.
const SILENCE: Duration = Duration::from_secs(5);

/// The engine: in zero-initialized memory, which costs nothing until it is used.
static ENGINE: ConstStaticCell<HostNode> = ConstStaticCell::new(HostNode::new());

/// Asks the data plane.
#[derive(Clone)]
pub struct DataplaneHandle {
    commands: Sender<Command>,
    waker: Arc<Waker>,
}

impl DataplaneHandle {
    /// Passes a command on. When the data plane has ended, nothing happens.
    pub fn tell(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.waker.wake();
        }
    }

    /// Passes a command on and waits for its reply; none when there is nobody to reply.
    pub async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply));
        answer.await.ok()
    }
}

/// Runs a daemon until it is told to end: by `acorn down`, which leaves the host as it was found, or by a signal, after which
/// attached containers keep their interfaces for the next start.
///
/// # Errors
/// When a part cannot be started, with what to do about it.
///
/// # Panics
/// When called twice in one process.
pub async fn run(config: Config, role: Role) -> anyhow::Result<()> {
    let started = Instant::now();
    let engine_clock = EngineClock::new(started);
    let directory = &config.daemon.state;
    let _lock = lock_state(directory)?;
    let socket = ControlSocket::bind(&config.daemon.socket)?;
    let identity = Identity::load_or_create(&directory.join(KEY_FILE))?;
    let clock = HandshakeClock::start(&directory.join(CLOCK_FILE), since_1970())?;
    let plan = config.plan.address_plan()?;
    let udp = Udp::bind(config.daemon.listen)
        .with_context(|| format!("cannot listen on {}: another program uses the port, or the address is not this machine's; choose another with --listen", config.daemon.listen))?;
    let mut tunnels = Tunnels::new(&identity, entropy()?, started, clock.start_time());
    let waker = Arc::new(Waker::new().context("cannot create an eventfd")?);
    let (commands, command_queue) = channel();
    let handle = DataplaneHandle { commands, waker: waker.clone() };

    let own_endpoint = config.daemon.advertise.or(Some(config.daemon.listen).filter(|at| !at.ip().is_unspecified()));
    let own = ManagerRecord { key: identity.public(), endpoint: Endpoint::from(own_endpoint) };
    let manager = if role.is_root() { Some(open_root(&config, role, plan, own, engine_clock, &waker)?) } else { None };
    let (events, event_queue) = mpsc::unbounded_channel();
    let node = match role.is_node() {
        true => Some(open_node(&config, role, plan, &identity, own, &mut tunnels, events.clone(), engine_clock).await?),
        false => None,
    };

    let (cluster_thread, cluster_link, cluster_handle) = match role {
        Role::Cluster => {
            let (thread, link, handle) = open_cluster(&config, &identity, own, &mut tunnels, engine_clock, &waker)?;
            (Some(thread), Some(link), Some(handle))
        }
        _ => (None, None, None),
    };

    let joining = node.as_ref().is_some_and(|(parts, ..)| parts.token.is_some());
    let (manager_thread, manager_link, manager_handle) = match manager {
        Some((manager, link, handle)) => (Some(manager), Some(link), Some(handle)),
        None => (None, None, None),
    };
    let (parts, node_side) =
        node.map_or((None, None), |(parts, host, state, settings)| (Some(parts), Some((host, state, settings))));
    let dataplane = Dataplane::new(
        &identity,
        engine_clock,
        tunnels,
        clock,
        udp,
        parts,
        manager_link,
        cluster_link,
        command_queue,
        waker,
    );
    let (stop, mut stopped) = watch::channel(false);
    if let Some(manager) = manager_thread {
        spawn_thread("acorn-root", stop.clone(), move || {
            manager.run();
            Ok(())
        })?;
    }
    if let Some(cluster) = cluster_thread {
        spawn_thread("acorn-cluster", stop.clone(), move || {
            cluster.run();
            Ok(())
        })?;
    }
    let packets =
        spawn_thread("acorn-packets", stop.clone(), move || dataplane.run().context("the data plane failed"))?;

    let attachments = match node_side {
        Some((host, state, settings)) => {
            let attachments = Attachments::open(settings, host, handle.clone(), events, state, engine_clock).await?;
            let attachments = Arc::new(Mutex::new(attachments));
            tokio::spawn(follow(event_queue, attachments.clone(), joining));
            Some(attachments)
        }
        None => None,
    };
    let control = Control {
        role,
        key: identity.public(),
        started,
        dataplane: handle.clone(),
        manager: manager_handle,
        cluster: cluster_handle,
        attachments,
        stop: stop.clone(),
        config: config.clone(),
    };
    info!(key = %identity.public(), listen = %config.daemon.listen, socket = %config.daemon.socket.display(), "acorn is up");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let until = async move {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM: ending; attached containers keep their interfaces"),
            _ = int.recv() => info!("SIGINT: ending; attached containers keep their interfaces"),
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    };
    server::serve(&socket, Arc::new(control), until).await.context("the control API failed")?;
    handle.tell(Command::Stop);
    match tokio::task::spawn_blocking(move || packets.join()).await? {
        Ok(result) => result,
        Err(_) => Err(anyhow!("the data plane panicked; its message is above")),
    }
}

/// Does what the data plane's events ask for.
async fn follow(mut events: mpsc::UnboundedReceiver<Event>, attachments: Arc<Mutex<Attachments>>, joining: bool) {
    let mut first = match tokio::time::timeout(SILENCE, events.recv()).await {
        Ok(first) => first,
        // Nobody answers a key that is not known, so the log is the only place where the reason can be told.
        Err(_) => {
            warn!("the manager does not answer: {}", if joining { SILENT_TO_A_TOKEN } else { SILENT });
            None
        }
    };
    while let Some(event) = match first.take() {
        Some(first) => Some(first),
        None => events.recv().await,
    } {
        match event {
            Event::Member(membership, managers) => {
                info!(subnet = %membership.subnet, node = membership.node.0, "the manager has taken this node in");
                attachments.lock().await.join(membership, managers).await;
            }
            Event::Refused(refusal) => error!(?refusal, "the manager refuses this node: {}", advice(refusal)),
            Event::Lost(instance, refusal) => attachments.lock().await.lose(instance, refusal).await,
            Event::HostAttached(host) => attachments.lock().await.host_attached(host),
        }
    }
}

const SILENT: &str = "is it up, and does UDP reach it? What is attached and known goes on meanwhile";
const SILENT_TO_A_TOKEN: &str = "is it up, and does UDP reach it? A token that is used up, has expired or is another root's gets no answer \
    either: `acorn token create` on the root makes a new one";

fn advice(refusal: acorn_core::sync::message::Refusal) -> &'static str {
    use acorn_core::sync::message::Refusal;
    match refusal {
        Refusal::JoinKey => {
            "its token is used up, expired or not this manager's: make a new one with `acorn token create` on the root"
        }
        Refusal::Subnet => "the subnet that it asks for is taken or outside the pool: choose another, or none",
        Refusal::SubnetsExhausted => "all worker subnets are in use: configure a larger pool on the root",
        Refusal::NotANode => "the manager does not know its key: give it a token of this manager",
        _ => "see the manager's log",
    }
}

type OpenedRoot = (Manager, manager::ManagerLink, manager::ManagerHandle);

fn open_root(
    config: &Config,
    role: Role,
    plan: AddressPlan,
    own: ManagerRecord,
    engine_clock: EngineClock,
    waker: &Arc<Waker>,
) -> anyhow::Result<OpenedRoot> {
    let seconds = |s: u32| Duration::from_secs(s.into());
    let settings = RootSettings {
        lease: seconds(config.root.lease_s),
        quarantine: seconds(config.root.quarantine_s),
        retention: seconds(config.root.retention_s),
    };
    let path = config.daemon.state.join(crate::root::FILE_NAME);
    let zero = acorn_core::time::Instant::ZERO;
    let unix = since_1970().as_secs();
    let mut root = match &config.root.store {
        Some(url) => Root::open_shared(url, plan, settings, own, zero, unix)?,
        None => Root::open(&path, plan, settings, own, zero, unix)?,
    };
    if role.is_node() {
        // The node in this process needs no token.
        root.begin(zero);
        root.register_node_key(zero, own.key)?;
        root.finish()?;
    }
    let retention = settings.retention;
    Ok(Manager::new(root, engine_clock, nonzero_epoch()?, hash_key()?, retention, waker.clone()))
}

fn open_cluster(
    config: &Config,
    identity: &Identity,
    own: ManagerRecord,
    tunnels: &mut Tunnels,
    engine_clock: EngineClock,
    waker: &Arc<Waker>,
) -> anyhow::Result<(ClusterThread, ClusterLink, ClusterHandle)> {
    let path = config.daemon.state.join(cluster::FILE_NAME);
    let memory = ClusterMemory::load(&path)?;
    let token = read_token(config.cluster.read_token()?)?;
    let (managers, token) = managers_to_join(&memory.managers(), token, "cluster", &path)?;
    if let Some(token) = &token {
        tunnels.set_join(token.join(), entropy()?, Instant::now());
    }
    let start = ClusterStart {
        key: identity.public(),
        name: config.cluster.name.as_str().to_owned(),
        joining: token.is_some(),
        epoch: nonzero_epoch()?,
        endpoint: Endpoint::from(config.daemon.advertise),
        managers,
        own,
        nodes: memory.nodes(),
        hash_key: hash_key()?,
    };
    let cluster = cluster::start(engine_clock.now(), start);
    Ok(ClusterThread::new(cluster, memory, path, engine_clock, waker.clone()))
}

/// The managers that a process that is not the root speaks to first, and the token if it has to join them.
fn managers_to_join(
    known: &[ManagerRecord],
    token: Option<JoinToken>,
    what: &str,
    path: &Path,
) -> anyhow::Result<(Vec<ManagerRecord>, Option<JoinToken>)> {
    match token {
        // One that is known already needs its token no more.
        token if !known.is_empty() => {
            let other = token.is_some_and(|token| known.iter().all(|m| m.key != token.manager()));
            if other {
                warn!(
                    "the token is of another manager than the one that this {what} has joined: it is not used; remove {} to join anew",
                    path.display()
                );
            }
            Ok((known.to_vec(), None))
        }
        Some(token) => {
            if token.is_expired(since_1970().as_secs()) {
                bail!("the join token has expired: make a new one with `acorn token create` on the root");
            }
            let record = |at: &SocketAddr| ManagerRecord { key: token.manager(), endpoint: Endpoint::from(*at) };
            Ok((token.endpoints().iter().map(record).take(1).collect(), Some(token)))
        }
        None => bail!(
            "this {what} has not joined a network yet: give it a token (--token or --token-file), made with `acorn token create` on the root"
        ),
    }
}

type OpenedNode = (NodeParts, Host, NodeState, Settings);

#[expect(clippy::too_many_arguments, reason = "each is a part of its own, put together once")]
async fn open_node(
    config: &Config,
    role: Role,
    plan: AddressPlan,
    identity: &Identity,
    own: ManagerRecord,
    tunnels: &mut Tunnels,
    events: mpsc::UnboundedSender<Event>,
    engine_clock: EngineClock,
) -> anyhow::Result<OpenedNode> {
    let path = config.daemon.state.join(state::FILE_NAME);
    let mut state = NodeState::load(&path)?;
    let host = Host::open(&mut state.journal)?;
    state.store(&path)?;

    let known: Vec<_> = state.managers.iter().map(ManagerEntry::record).collect();
    let (managers, token) = match role {
        Role::Up => (vec![own], None),
        _ => managers_to_join(&known, read_token(config.node.read_token()?)?, "node", &path)?,
    };
    if let Some(token) = &token {
        tunnels.set_join(token.join(), entropy()?, Instant::now());
    }

    let prefix = config.node.veth_prefix.clone();
    let mtu = InterfaceMtu::new(config.overlay_mtu().get())?;
    let tun_name = config.node.tun.clone();
    let tun = Tun::open(&host, &tun_name, mtu).await?;
    let engine = ENGINE.take();
    let own_endpoint = config.daemon.advertise;
    let profile = Profile {
        key: identity.public(),
        name: config.node.name.as_str().try_into().map_err(|_| anyhow!("the node's name is too long"))?,
        joining: token.is_some(),
        epoch: nonzero_epoch()?,
        endpoint: Endpoint::from(own_endpoint),
        subnet: config.node.subnet.map(|subnet| subnet.base()),
        lease_ms: 0,
        capacities: Capacities { services: 4096, instances: 65_536, nodes: 4096 },
    };
    let node_config = NodeConfig {
        plan,
        registry: Registry::built_in(),
        lifetimes: Lifetimes::default(),
        hash_key: hash_key()?,
        profile,
        managers: &managers,
    };
    engine
        .start(engine_clock.now(), node_config)
        .map_err(|full| anyhow!("the engine has no room for its managers: {full:?}"))?;
    engine.set_learning(acorn_core::measure::vivaldi::learn);
    engine.set_overlay_mtu(config.overlay_mtu());
    let settings = Settings { path, tun: tun_name, prefix, mtu, service_nets: service_nets(&plan)? };
    Ok((NodeParts { engine, tun, token, events }, host, state, settings))
}

fn read_token(text: Option<Secret>) -> anyhow::Result<Option<JoinToken>> {
    text.map(|text| JoinToken::decode(text.reveal())).transpose().context("the join token cannot be used")
}

fn service_nets(plan: &AddressPlan) -> anyhow::Result<ServiceNets> {
    let pools = plan.pools();
    Ok(ServiceNets {
        v4: Ipv4Network::new(pools.service_v4.base(), pools.service_v4.prefix())?,
        v6: Ipv6Network::new(pools.service_v6.base(), pools.service_v6.prefix())?,
    })
}

/// Makes the state directory if need be, and sees to it that one daemon uses it.
fn lock_state(directory: &Path) -> anyhow::Result<Flock<File>> {
    let shown = directory.display();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| {
        format!("cannot make the state directory {shown}: choose another with --state, or run acorn as root")
    })?;
    let mode = fs::metadata(directory)?.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        bail!(
            "others may write to the state directory {shown} (mode {mode:03o}): `chmod 700 {shown}` keeps its key safe"
        );
    }
    let file = File::create(directory.join(LOCK_FILE))
        .with_context(|| format!("cannot write to the state directory {shown}"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        anyhow!("another acorn uses the state directory {shown}: `acorn down` ends it, or choose another with --state")
    })
}

/// Runs a part on a thread of its own; when it ends, the daemon ends.
fn spawn_thread(
    name: &str,
    stop: watch::Sender<bool>,
    work: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<anyhow::Result<()>>> {
    /// Also when the part panics.
    struct StopOnDrop(watch::Sender<bool>);
    impl Drop for StopOnDrop {
        fn drop(&mut self) {
            self.0.send_replace(true);
        }
    }
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _stop = StopOnDrop(stop);
            work()
        })
        .with_context(|| format!("cannot start the thread {name}"))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn entropy() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut seed[..]).map_err(|error| anyhow!("the system has no randomness: {error}"))?;
    Ok(seed)
}

fn hash_key() -> anyhow::Result<HashKey> {
    let random = || getrandom::u64().map_err(|error| anyhow!("the system has no randomness: {error}"));
    Ok(HashKey(random()?, random()?))
}

/// A boot epoch: random, so that two starts within a second differ; never 0.
fn nonzero_epoch() -> anyhow::Result<u32> {
    let random = getrandom::u32().map_err(|error| anyhow!("the system has no randomness: {error}"))?;
    Ok(random.max(1))
}
