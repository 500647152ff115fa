//! The `acorn` binary: a daemon in a namespace, and its command line.

use crate::world::{Daemon, Look, Namespace, Result, World, WorldError, wait_until};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take to answer after it was started, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running daemon. Dropping it kills it, as `kill -9` would.
#[derive(Debug)]
pub struct Acorn {
    binary: PathBuf,
    namespace: Namespace,
    role: String,
    config: String,
    socket: String,
    daemon: Option<Daemon>,
}

/// A service as `acorn service show --json` prints it.
#[derive(Debug, Clone, Deserialize)]
pub struct Service {
    /// `app.app_namespace.service.service_namespace`.
    pub name: String,
    /// Its addresses, one per policy.
    pub service_ip_list: Vec<ServiceAddress>,
    /// Its instances.
    pub instances: Vec<Instance>,
}

/// One element of a reservation.
#[derive(Debug, Clone, Deserialize)]
pub struct ServiceAddress {
    /// The policy: `RR`.
    #[serde(rename = "IpType")]
    pub policy: String,
    /// Its IPv4 address.
    #[serde(rename = "Address")]
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    #[serde(rename = "Address_v6")]
    pub ipv6: Ipv6Addr,
}

/// One instance of a service.
#[derive(Debug, Clone, Deserialize)]
pub struct Instance {
    /// Its number in the service.
    pub number: u32,
    /// Its instance IP.
    pub instance_ip: Ipv4Addr,
    /// Its IPv6 instance IP.
    pub instance_ip_v6: Ipv6Addr,
    /// Its address inside its node's worker subnet; `None` while it runs nowhere.
    pub namespace_ip: Option<Ipv4Addr>,
    /// The same in IPv6.
    pub namespace_ip_v6: Option<Ipv6Addr>,
    /// The name of its node; `None` while it runs nowhere.
    pub node_name: Option<String>,
    /// New flows may go to it.
    pub alive: bool,
}

/// The nodes as `acorn node ls --json` prints them.
#[derive(Debug, Clone, Deserialize)]
pub struct Nodes {
    /// All nodes of the network.
    pub nodes: Vec<Node>,
}

/// One node.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its worker subnet, like `10.18.30.64/26`.
    pub subnet: Option<String>,
    /// Its lease holds.
    pub alive: bool,
}

impl Service {
    /// Its address under round robin.
    pub fn round_robin(&self) -> Option<&ServiceAddress> {
        self.service_ip_list.iter().find(|address| address.policy == "RR")
    }
}

impl Acorn {
    /// Starts `acorn ROLE` and returns once it answers on its socket. Its log is called `name`; its state, socket and
    /// configuration are files of the world that begin with `name`. `config` is TOML without the table `[daemon]`.
    ///
    /// # Errors
    /// When it ends at once, with the end of its log, or does not answer within 10 s.
    pub fn start(
        world: &World,
        namespace: &Namespace,
        binary: &Path,
        role: &str,
        name: &str,
        config: &str,
    ) -> Result<Acorn> {
        let socket = world.inside(&format!("{name}.sock"));
        let state = world.inside(&format!("{name}-state"));
        let content = format!("[daemon]\nstate = \"{state}\"\nsocket = \"{socket}\"\n{config}");
        let mut acorn = Acorn {
            binary: binary.to_owned(),
            namespace: namespace.clone(),
            role: role.to_owned(),
            config: world.write(&format!("{name}.toml"), &content)?,
            socket,
            daemon: None,
        };
        acorn.restart(name)?;
        Ok(acorn)
    }

    /// Kills the daemon with SIGKILL, as a power failure would.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(&mut self) -> Result<()> {
        match self.daemon.take() {
            Some(daemon) => daemon.stop(Signal::SIGKILL, PATIENCE).map(drop),
            None => Ok(()),
        }
    }

    /// Starts it again after [`kill`](Self::kill) or [`down`](Self::down), with the same state. Its log goes on in
    /// `log`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self, log: &str) -> Result<()> {
        self.kill()?;
        let line: [&OsStr; 4] =
            [self.binary.as_os_str(), self.role.as_ref(), "--config".as_ref(), self.config.as_ref()];
        let mut daemon = self.namespace.spawn(log, line)?;
        wait_until(&format!("{log} to answer on {}", self.socket), PATIENCE, || {
            daemon.check()?;
            match self.run(["status"]) {
                Ok(_) => Ok(Look::Holds(())),
                Err(error) => Ok(Look::NotYet(error.to_string())),
            }
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// `acorn down`, and waits until the process has ended.
    ///
    /// # Errors
    /// When the command fails or the process does not end within 10 s.
    pub fn down(&mut self) -> Result<()> {
        self.run(["down"])?;
        match self.daemon.take() {
            Some(mut daemon) => ended_well(&mut daemon),
            None => Ok(()),
        }
    }

    /// Runs a command of the command line against this daemon and returns what it printed.
    ///
    /// # Errors
    /// When it exits with anything but 0.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.namespace.run(self.line(arguments))
    }

    /// The same with `--json`, parsed.
    ///
    /// # Errors
    /// When it exits with anything but 0 or its output does not have this shape.
    pub fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let output = self.run(arguments.iter().copied().chain(["--json"]))?;
        serde_json::from_str(&output).map_err(|error| WorldError::Unexpected {
            what: format!("`acorn {} --json` should print JSON of its documented shape ({error})", arguments.join(" ")),
            seen: output,
        })
    }

    /// Runs a command that the daemon has to refuse, and returns what it wrote to stderr.
    ///
    /// # Errors
    /// As [`Namespace::refused`].
    pub fn refused<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        self.namespace.refused(self.line(arguments))
    }

    /// Ends the daemon with SIGTERM, as a service manager would, and waits until it has ended.
    ///
    /// # Errors
    /// When it is gone already, does not end within 10 s, or not with exit status 0.
    pub fn terminate(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        daemon.signal(Signal::SIGTERM)?;
        ended_well(&mut daemon)
    }

    /// The daemon's PID as it is known inside its world.
    ///
    /// # Errors
    /// When the daemon does not run.
    pub fn pid_inside(&self) -> Result<u32> {
        match &self.daemon {
            Some(daemon) => daemon.pid_inside(),
            None => Err(WorldError::Unexpected { what: "the daemon should run".into(), seen: "it was stopped".into() }),
        }
    }

    /// The command line, for a person to type inside the world.
    pub fn command_line(&self, arguments: &str) -> String {
        format!("{} --socket {} {arguments}", self.binary.display(), self.socket)
    }

    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Lets it run on when this handle goes: it then ends with its world.
    pub fn release(mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.release();
        }
    }

    fn line<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Vec<OsString> {
        let mut line = vec![self.binary.clone().into_os_string(), "--socket".into(), self.socket.clone().into()];
        line.extend(arguments.into_iter().map(|word| word.as_ref().to_owned()));
        line
    }
}

fn ended_well(daemon: &mut Daemon) -> Result<()> {
    let status = daemon.wait(PATIENCE)?;
    if status.success() {
        return Ok(());
    }
    Err(WorldError::Ended { name: daemon.name().to_owned(), status: status.to_string(), log: daemon.log(15) })
}

/// The binary to test: `$ACORN_BIN`, or the `acorn` that cargo built beside the running program.
///
/// # Errors
/// When there is none; the text says how to build it.
pub fn binary() -> Result<PathBuf> {
    let beside = || {
        let program = std::env::current_exe().ok()?;
        // target/debug/xtask, or target/debug/deps/some_test-0123456789abcdef
        program.ancestors().skip(1).take(2).map(|directory| directory.join("acorn")).find(|path| path.is_file())
    };
    std::env::var_os("ACORN_BIN").map(PathBuf::from).or_else(beside).ok_or_else(|| WorldError::Unexpected {
        what: "the acorn binary should be built".into(),
        seen: "none beside this program; run `cargo build -p acorn`, or set ACORN_BIN".into(),
    })
}
