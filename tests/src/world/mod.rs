//! A private world of network namespaces that leaves nothing behind.
//!
//! A [`World`] is one process, the anchor, in mount, PID and network namespaces of its own (and in a user namespace when
//! the caller is not root), with an empty `/run`. Named network namespaces live in that `/run`, so `ip netns` and the
//! daemon find them there and nobody else does. Everything runs inside through `nsenter`.
//!
//! The anchor is PID 1 of the world and ends when the pipe from its creator closes. So whatever happens to the creator
//! (return, panic, Ctrl-C, `kill -9`), the kernel ends every process of the world and removes its interfaces, mounts
//! and files. The host's own network is never touched.

mod daemon;
mod error;
mod namespace;
mod underlay;
mod wait;

pub use daemon::Daemon;
pub use error::{Result, WorldError};
pub use namespace::Namespace;
pub use underlay::{BRIDGE, FAR, INTERFACE, Router, Underlay};
pub use wait::{Look, wait_until};

pub(crate) use error::io;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

/// The world's own directory as its processes see it.
const DIRECTORY: &str = "/run/world";

/// What the anchor does: an empty `/run`, then wait for the pipe to close, or for the word that makes it stay.
const ANCHOR: &str = "
    set -e
    mount --no-mtab -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/netns /run/world/log
    ip link set lo up
    echo ready
    read -r word || exit 0
    if [ \"$word\" = keep ]; then exec sleep infinity; fi
";

/// A private world. Dropping it ends every process in it and removes everything that was made in it.
#[derive(Debug)]
pub struct World {
    unshare: Child,
    /// Open as long as the world shall live.
    lifeline: Option<ChildStdin>,
    anchor: Arc<Anchor>,
}

/// How to get into a world from outside.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// PID of the world's first process, as the creator sees it.
    pid: u32,
    /// The world has a user namespace of its own.
    user: bool,
}

impl World {
    /// Makes an empty world.
    ///
    /// # Errors
    /// [`WorldError::Refused`] when the kernel does not allow it, or when the caller is not root and `/dev/net/tun`
    /// can't be opened; [`WorldError::Start`] when `unshare` is missing.
    pub fn new() -> Result<World> {
        let user = !nix::unistd::geteuid().is_root();
        if user {
            require_tun()?;
        }
        let mut command = Command::new("unshare");
        if user {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", ANCHOR]);
        // A group of its own: Ctrl-C reaches the creator only, whose end closes the lifeline.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut unshare = command.spawn().map_err(|source| WorldError::Start { program: "unshare".into(), source })?;

        let mut first_line = String::new();
        if let Some(stdout) = unshare.stdout.take() {
            BufReader::new(stdout).read_line(&mut first_line).map_err(io("reading from the world's first process"))?;
        }
        if first_line.trim() != "ready" {
            return Err(refused(unshare));
        }
        let pid = only_child(unshare.id())?;
        let lifeline = unshare.stdin.take();
        Ok(World { unshare, lifeline, anchor: Arc::new(Anchor { pid, user }) })
    }

    /// Adds a network namespace with its loopback interface up. `ip netns` inside the world knows it by this name.
    ///
    /// # Errors
    /// When the name is taken or not a file name.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let outer = Namespace::of_world(Arc::clone(&self.anchor));
        outer.run(["ip", "netns", "add", name])?;
        let namespace = Namespace::named(Arc::clone(&self.anchor), name);
        namespace.run(["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The PID of the world's first process, as seen from outside. `kill -9` on it ends the world.
    pub fn pid(&self) -> u32 {
        self.anchor.pid
    }

    /// The command line that starts a shell in the world, for a person to type.
    pub fn entrance(&self) -> Vec<String> {
        let command = self.anchor.enter(None);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).chain(["sh".to_owned()]).collect()
    }

    /// It has a user namespace of its own, because its creator is not root.
    pub fn has_users_of_its_own(&self) -> bool {
        self.anchor.user
    }

    /// Where the world's processes find the file `name`.
    pub fn inside(&self, name: &str) -> String {
        format!("{DIRECTORY}/{name}")
    }

    /// Where the creator finds the file `name`, as long as the world lives.
    pub fn outside(&self, name: &str) -> PathBuf {
        self.anchor.outside(name)
    }

    /// Writes a file into the world and returns the path under which its processes find it.
    ///
    /// # Errors
    /// [`WorldError::Io`].
    pub fn write(&self, name: &str, content: &str) -> Result<String> {
        let path = self.outside(name);
        fs::write(&path, content).map_err(io(format!("writing {}", path.display())))?;
        Ok(self.inside(name))
    }

    /// The last `lines` lines of every log, by the name of the daemon that wrote it.
    pub fn logs(&self, lines: usize) -> Vec<(String, String)> {
        let mut logs: Vec<_> = fs::read_dir(self.outside("log"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let name = entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned());
                (name.unwrap_or_default(), daemon::tail(&entry.path(), lines))
            })
            .collect();
        logs.sort();
        logs
    }

    /// Lets the world live on after its creator. Returns the PID whose `kill -9` ends it.
    ///
    /// # Errors
    /// [`WorldError::Io`] when the world has ended already.
    pub fn keep(mut self) -> Result<u32> {
        if let Some(mut lifeline) = self.lifeline.take() {
            lifeline.write_all(b"keep\n").map_err(io("telling the world to stay"))?;
        }
        let pid = self.anchor.pid;
        std::mem::forget(self);
        Ok(pid)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.lifeline = None;
        // The kernel lets PID 1 go only after every other process of the world has ended.
        let _ = self.unshare.wait();
    }
}

impl Anchor {
    /// A path of the world, seen from outside.
    fn outside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{DIRECTORY}/{name}", self.pid))
    }

    /// `nsenter` into the world, and into one of its named network namespaces if `network` says so.
    fn enter(&self, network: Option<&str>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid)).args(["--mount", "--pid"]);
        if self.user {
            command.args(["--user", "--preserve-credentials"]);
        }
        match network {
            // nsenter opens this path before it enters the mount namespace.
            Some(name) => command.arg(format!("--net=/proc/{}/root/run/netns/{name}", self.pid)),
            None => command.arg("--net"),
        };
        command.arg("--").process_group(0).stdin(Stdio::null());
        command
    }
}

/// The one child of a process that forks exactly once.
pub(crate) fn only_child(parent: u32) -> Result<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(&path).map_err(io(format!("reading {path}")))?;
    children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(|| WorldError::Unexpected { what: format!("{path} should name a process"), seen: children })
}

fn require_tun() -> Result<()> {
    match fs::File::options().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Ok(()),
        Err(error) => Err(WorldError::Refused {
            reason: format!("/dev/net/tun can't be opened by this user: {error}"),
            advice: "Run it as root, or let this user read and write /dev/net/tun.",
        }),
    }
}

fn refused(mut unshare: Child) -> WorldError {
    let mut reason = String::new();
    if let Some(mut stderr) = unshare.stderr.take() {
        let _ = stderr.read_to_string(&mut reason);
    }
    let _ = unshare.wait();
    WorldError::Refused {
        reason: reason.trim().to_owned(),
        advice: "Run it as root (with CAP_SYS_ADMIN), or on a kernel that lets users make user namespaces.",
    }
}

#[cfg(test)]
mod tests;
