//! What the daemon is told: a TOML file, overridden by flags, checked as a whole before anything starts.
//!
//! Every value has a default, so an empty file is a valid one. A mistake is an error that names its file, line and
//! column, or its flag, and says what the value should be ([`ConfigError`]).

mod diagnosis;
mod plan;
mod values;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use acorn_core::addr::{Family, Subnet4};
use acorn_core::mtu::OverlayMtu;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

pub use acorn_core::provision::DEFAULT_PORT;

pub use self::diagnosis::ConfigError;
use self::diagnosis::{Document, Violation};
pub use self::plan::PlanConfig;
pub use self::values::{NodeName, Secret, UnderlayMtu, ValueError};
use crate::net::{AttachmentPrefix, IfName};
use crate::root::StoreUrl;

/// Where the daemon's control socket is unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/acorn/acorn.sock";

/// The longest path of a unix socket in bytes: `sun_path` without its final zero (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
const DAY_S: u32 = 86_400;
const YEAR_S: u32 = 365 * DAY_S;

/// What a daemon is in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The manager: owns services, addresses and worker subnets.
    Root,
    /// A manager between the root and its nodes: answers what it knows, asks for the rest.
    Cluster,
    /// A worker: runs instances.
    Node,
    /// Both in one process.
    Up,
}

impl Role {
    /// Whether the daemon answers for the whole network.
    pub fn is_root(self) -> bool {
        matches!(self, Self::Root | Self::Up)
    }

    /// Whether the daemon runs instances.
    pub fn is_node(self) -> bool {
        matches!(self, Self::Node | Self::Up)
    }
}

/// The whole configuration of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What concerns every daemon.
    pub daemon: DaemonConfig,
    /// What concerns the root.
    pub root: RootConfig,
    /// What concerns a cluster.
    pub cluster: ClusterConfig,
    /// What concerns a node.
    pub node: NodeConfig,
    /// The network's address pools. Equal on every machine of one network.
    pub plan: PlanConfig,
}

/// `[daemon]`: what concerns every daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonConfig {
    /// The directory of the key and the durable state.
    pub state: PathBuf,
    /// The unix socket of the control API. At most 107 bytes.
    pub socket: PathBuf,
    /// Where the overlay's UDP socket listens.
    pub listen: SocketAddr,
    /// The endpoint that others reach this machine at, if it is not the one they see.
    pub advertise: Option<SocketAddr>,
    /// The log filter, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/acorn"),
            socket: PathBuf::from(DEFAULT_SOCKET),
            listen: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)),
            advertise: None,
            log: "info".to_owned(),
        }
    }
}

/// `[root]`: what concerns the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RootConfig {
    /// How long a silent node's instances are still picked for new flows, in seconds. 1 to 86,400.
    pub lease_s: u32,
    /// How long a freed address rests after its last withdrawal was acknowledged, in seconds. 1 to 86,400.
    pub quarantine_s: u32,
    /// How long a silent node's addresses and keys are kept, in seconds. At least the lease, at most a year.
    pub retention_s: u32,
    /// The store, `etcd://HOST:PORT[,HOST:PORT...]/PREFIX`; without one, a file in the state directory.
    pub store: Option<StoreUrl>,
}

impl Default for RootConfig {
    fn default() -> Self {
        Self { lease_s: 10, quarantine_s: 60, retention_s: DAY_S, store: None }
    }
}

/// `[cluster]`: what concerns a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The name that people see in lists.
    pub name: NodeName,
    /// The join token, for the first start only.
    pub token: Option<Secret>,
    /// A file with the join token. Not together with [`token`](Self::token).
    pub token_file: Option<PathBuf>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { name: NodeName::of_this_host(), token: None, token_file: None }
    }
}

/// `[node]`: what concerns a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// The name that people see in lists.
    pub name: NodeName,
    /// The TUN interface.
    pub tun: IfName,
    /// The worker subnet to ask the root for; otherwise the root picks one.
    pub subnet: Option<Subnet4>,
    /// The join token, for the first start only.
    pub token: Option<Secret>,
    /// A file with the join token. Not together with [`token`](Self::token).
    pub token_file: Option<PathBuf>,
    /// The MTU of the network below the overlay.
    pub underlay_mtu: UnderlayMtu,
    /// How the names of the host ends of the instances' interfaces begin.
    pub veth_prefix: AttachmentPrefix,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: NodeName::of_this_host(),
            tun: IfName::new("acorn0").expect("a name that Linux takes"),
            subnet: None,
            token: None,
            token_file: None,
            underlay_mtu: UnderlayMtu::default(),
            veth_prefix: AttachmentPrefix::default(),
        }
    }
}

/// What the command line says instead of the file. `None` leaves the file's value.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each is the key of the same name")]
pub struct Overrides {
    pub state: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub advertise: Option<SocketAddr>,
    pub log: Option<String>,
    pub name: Option<NodeName>,
    pub tun: Option<IfName>,
    pub subnet: Option<Subnet4>,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    pub store: Option<StoreUrl>,
}

impl Config {
    /// Reads `file` (defaults without one), lets the flags override it and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`] when the file can't be read, is not TOML, has an unknown key or a value that breaks a rule.
    pub fn load(file: Option<&Path>, flags: &Overrides) -> Result<Self, ConfigError> {
        match file {
            None => Self::parse(Path::new("(defaults)"), "", flags),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
                Self::parse(path, &text, flags)
            }
        }
    }

    /// The same for a text; `path` is what its errors call it.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn parse(path: &Path, text: &str, flags: &Overrides) -> Result<Self, ConfigError> {
        let document = Document { path, text };
        let mut config: Self = toml::from_str(text).map_err(|error| document.syntax_error(&error))?;
        config.apply(flags);
        config.check().map_err(|violation| document.violation(violation, |key| flags.flag_for(key)))?;
        Ok(config)
    }

    /// The MTU inside the overlay, as long as nothing smaller was learned of a path.
    pub fn overlay_mtu(&self) -> OverlayMtu {
        let family = if self.daemon.listen.is_ipv6() { Family::V6 } else { Family::V4 };
        OverlayMtu::over(self.node.underlay_mtu.0, family)
    }

    fn apply(&mut self, flags: &Overrides) {
        fn set<T: Clone>(value: &mut T, flag: Option<&T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        set(&mut self.daemon.state, flags.state.as_ref());
        set(&mut self.daemon.socket, flags.socket.as_ref());
        set(&mut self.daemon.listen, flags.listen.as_ref());
        set(&mut self.daemon.log, flags.log.as_ref());
        if flags.store.is_some() {
            self.root.store.clone_from(&flags.store);
        }
        // A process is a node or a cluster: what its flags say of itself goes for the one that it is.
        set(&mut self.node.name, flags.name.as_ref());
        set(&mut self.cluster.name, flags.name.as_ref());
        set(&mut self.node.tun, flags.tun.as_ref());
        self.daemon.advertise = flags.advertise.or(self.daemon.advertise);
        self.node.subnet = flags.subnet.or(self.node.subnet);
        // A token on the command line replaces the file's token, whichever way each of them is given.
        if flags.token.is_some() || flags.token_file.is_some() {
            self.node.token.clone_from(&flags.token);
            self.node.token_file.clone_from(&flags.token_file);
            self.cluster.token.clone_from(&flags.token);
            self.cluster.token_file.clone_from(&flags.token_file);
        }
    }

    /// The rules that a value's type does not carry already.
    fn check(&self) -> Result<(), Violation> {
        self.daemon.check()?;
        self.root.check()?;
        self.cluster.check()?;
        self.node.check()?;
        let plan = self.plan.check()?;
        if let Some(subnet) = self.node.subnet {
            plan.worker_index(subnet)
                .map_err(|error| Violation::new(&["node.subnet", "plan.workers"], format!("{subnet}: {error}")))?;
        }
        Ok(())
    }
}

impl DaemonConfig {
    fn check(&self) -> Result<(), Violation> {
        let rule = |key, broken: bool, problem: &str| {
            if broken { Err(Violation::new(&[key], problem)) } else { Ok(()) }
        };
        let socket = self.socket.as_os_str().len();
        rule("daemon.state", self.state.as_os_str().is_empty(), "the path is empty")?;
        rule("daemon.socket", socket == 0, "the path is empty")?;
        rule("daemon.socket", socket > SOCKET_PATH_MAX, "the path is longer than the 107 bytes of a unix socket")?;
        rule("daemon.listen", self.listen.port() == 0, "port 0 is no port that others could send to")?;
        if let Some(at) = self.advertise {
            rule("daemon.advertise", at.port() == 0, "port 0 is no port that others could send to")?;
            rule("daemon.advertise", at.ip().is_unspecified(), "others can't send to the unspecified address")?;
        }
        EnvFilter::try_new(&self.log).map(drop).map_err(|error| Violation::new(&["daemon.log"], error.to_string()))
    }
}

impl RootConfig {
    fn check(&self) -> Result<(), Violation> {
        let within = |key, value: u32, min: u32, max: u32| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            Err(Violation::new(&[key], format!("{value} s is not between {min} and {max} s")))
        };
        within("root.lease_s", self.lease_s, 1, DAY_S)?;
        within("root.quarantine_s", self.quarantine_s, 1, DAY_S)?;
        within("root.retention_s", self.retention_s, 1, YEAR_S)?;
        if self.retention_s < self.lease_s {
            let problem = format!("retention_s = {} is shorter than lease_s = {}", self.retention_s, self.lease_s);
            return Err(Violation::new(&["root.retention_s", "root.lease_s"], problem));
        }
        Ok(())
    }
}

/// The join token, from wherever it is given. `None` when there is none.
fn read_token(token: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let Some(path) = file else { return Ok(token.cloned()) };
    let text = fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
    let text = zeroize::Zeroizing::new(text);
    text.trim().parse().map(Some).map_err(|error: ValueError| ConfigError::in_file(path, &error))
}

impl ClusterConfig {
    /// The join token, from wherever it is given. `None` when there is none.
    ///
    /// # Errors
    /// [`ConfigError`] when the token file can't be read or is empty.
    pub fn read_token(&self) -> Result<Option<Secret>, ConfigError> {
        read_token(self.token.as_ref(), self.token_file.as_deref())
    }

    fn check(&self) -> Result<(), Violation> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err(Violation::new(&["cluster.token", "cluster.token_file"], "both token and token_file are set"));
        }
        Ok(())
    }
}

impl NodeConfig {
    /// The join token, from wherever it is given. `None` when there is none.
    ///
    /// # Errors
    /// [`ConfigError`] when the token file can't be read or is empty.
    pub fn read_token(&self) -> Result<Option<Secret>, ConfigError> {
        read_token(self.token.as_ref(), self.token_file.as_deref())
    }

    fn check(&self) -> Result<(), Violation> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err(Violation::new(&["node.token", "node.token_file"], "both token and token_file are set"));
        }
        if self.veth_prefix.owns(self.tun.as_str()) {
            let problem = format!(
                "the TUN `{}` has a name for an instance's interface: {}0 and so on",
                self.tun, self.veth_prefix
            );
            return Err(Violation::new(&["node.veth_prefix", "node.tun"], problem));
        }
        Ok(())
    }
}

impl Overrides {
    /// The flag that sets `key`, if it was given.
    fn flag_for(&self, key: &str) -> Option<&'static str> {
        let flags: [(&str, &'static str, bool); 14] = [
            ("root.store", "--store", self.store.is_some()),
            ("daemon.state", "--state", self.state.is_some()),
            ("daemon.socket", "--socket", self.socket.is_some()),
            ("daemon.listen", "--listen", self.listen.is_some()),
            ("daemon.advertise", "--advertise", self.advertise.is_some()),
            ("daemon.log", "--log", self.log.is_some()),
            ("cluster.name", "--name", self.name.is_some()),
            ("cluster.token", "--token", self.token.is_some()),
            ("cluster.token_file", "--token-file", self.token_file.is_some()),
            ("node.name", "--name", self.name.is_some()),
            ("node.tun", "--tun", self.tun.is_some()),
            ("node.subnet", "--subnet", self.subnet.is_some()),
            ("node.token", "--token", self.token.is_some()),
            ("node.token_file", "--token-file", self.token_file.is_some()),
        ];
        flags.iter().find(|(flag_key, _, given)| *flag_key == key && *given).map(|(_, flag, _)| *flag)
    }
}

#[cfg(test)]
mod tests;
