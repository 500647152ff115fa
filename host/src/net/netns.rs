//! Network namespaces: finding one, knowing it again, and working inside it.
//!
//! A [`Netns`] is an open handle and keeps the namespace alive even after its
//! last process: it is held during an operation and dropped, not stored. What
//! is stored is its [`NamespaceId`].

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::net::netlink::{Netlink, NetlinkError};

const NAMED: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// Which namespace a user means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetnsRef {
    /// That of a process.
    Pid(u32),
    /// One that `ip netns add` made.
    Name(String),
}

/// The identity of a namespace: device and inode of its nsfs file. No two living
/// namespaces share one; after the death of one the inode can come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamespaceId {
    device: u64,
    inode: u64,
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    id: NamespaceId,
    described: String,
}

/// A namespace could not be opened or entered.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// There is no such process, or it is a zombie.
    #[error("process {0} is gone: give the PID of a running process of the container")]
    PidGone(u32),
    /// There is no namespace of that name.
    #[error("there is no network namespace named {0:?}: `ip netns list` shows those there are")]
    NoSuchNamespace(String),
    /// The name cannot be one.
    #[error("{0:?} is not the name of a network namespace: give a name without '/', not a path")]
    InvalidName(String),
    /// The file is not, or no longer, the handle of a network namespace.
    #[error(
        "{0} is no network namespace: it may be a leftover of a deleted one, \
         `ip netns delete` and `ip netns add` make it anew"
    )]
    NotANamespace(String),
    /// The daemon lacks privileges.
    #[error("no permission for {0}: run acorn as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE")]
    NotPermitted(String),
    /// Something else failed.
    #[error("cannot {action} {what}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which namespace or file.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The namespace was entered but gave no netlink socket.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The thread inside the namespace panicked: a defect of Acorn.
    #[error("the thread in {0} panicked; its message is in the log")]
    Panicked(String),
}

impl Netns {
    /// Opens what the user named.
    ///
    /// # Errors
    /// [`NetnsError`], in words for the user.
    pub fn open(reference: &NetnsRef) -> Result<Self, NetnsError> {
        match reference {
            NetnsRef::Pid(pid) => Self::of_process(*pid),
            NetnsRef::Name(name) => Self::named(name),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// [`NetnsError`] when `/proc` is not there.
    pub fn current() -> Result<Self, NetnsError> {
        Self::at(Path::new("/proc/thread-self/ns/net"), "the host's own network".to_owned())
    }

    /// Finds a living namespace by its identity: among those of the processes and
    /// those that are mounted anywhere (by `ip netns`, Docker, ...). `None` when no
    /// process and no mount has it: then it is dead, or its owner hides it.
    #[must_use]
    pub fn find(id: NamespaceId) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounted = mounts.lines().filter_map(nsfs_mount_point).collect::<Vec<_>>();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let of_processes =
            processes.filter(|entry| is_pid(&entry.file_name())).map(|entry| entry.path().join("ns/net"));
        mounted
            .into_iter()
            .chain(of_processes)
            .filter(|path| path.metadata().is_ok_and(|file| NamespaceId::of(&file) == id))
            .find_map(|path| Self::at(&path, format!("namespace {}", path.display())).ok())
            // The path may have come to mean another one in between.
            .filter(|namespace| namespace.id == id)
    }

    /// Its identity, to know it again after a restart.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.id
    }

    /// Works inside the namespace: `work` runs on a thread of its own that has
    /// entered it, with a connection to its routing tables. The thread of the
    /// caller stays where it is. Dropping the future does not stop the work.
    ///
    /// # Errors
    /// [`NetnsError`] when the namespace cannot be entered, or `work` panics.
    pub async fn run<W, F, T>(&self, work: W) -> Result<T, NetnsError>
    where
        W: FnOnce(Netlink) -> F + Send + 'static,
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let io_error = |source| self.io_error("start a thread in", source);
        let file = self.file.try_clone().map_err(io_error)?;
        let (id, described) = (self.id, self.described.clone());
        let (done, result) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("acorn-netns".to_owned())
            .spawn(move || {
                let namespace = Self { file, id, described };
                // Nobody may be waiting any more.
                let _ = done.send(namespace.enter_and(work));
            })
            .map_err(io_error)?;
        result.await.map_err(|_| NetnsError::Panicked(self.described.clone()))?
    }

    fn of_process(pid: u32) -> Result<Self, NetnsError> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        match Self::at(&path, format!("the namespace of process {pid}")) {
            Err(NetnsError::Io { source, .. }) if is_gone(&source) => Err(NetnsError::PidGone(pid)),
            other => other,
        }
    }

    fn named(name: &str) -> Result<Self, NetnsError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(NetnsError::InvalidName(name.to_owned()));
        }
        for directory in NAMED {
            match Self::at(&Path::new(directory).join(name), format!("namespace {name}")) {
                Err(NetnsError::Io { source, .. }) if is_gone(&source) => {}
                other => return other,
            }
        }
        Err(NetnsError::NoSuchNamespace(name.to_owned()))
    }

    fn at(path: &Path, described: String) -> Result<Self, NetnsError> {
        let open = || {
            let file = File::open(path)?;
            let is_nsfs = fstatfs(&file)?.filesystem_type() == NSFS_MAGIC;
            let id = NamespaceId::of(&file.metadata()?);
            Ok((file, is_nsfs, id))
        };
        match open() {
            Ok((file, true, id)) => Ok(Self { file, id, described }),
            Ok((_, false, _)) => Err(NetnsError::NotANamespace(path.display().to_string())),
            Err(source) => Err(refused("open", described, source)),
        }
    }

    fn enter_and<W, F, T>(self, work: W) -> Result<T, NetnsError>
    where
        W: FnOnce(Netlink) -> F,
        F: Future<Output = T>,
    {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EINVAL => NetnsError::NotANamespace(self.described.clone()),
            other => self.io_error("enter", other.into()),
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| self.io_error("start a thread in", source))?;
        runtime.block_on(async { Ok(work(Netlink::connect()?).await) })
    }

    fn io_error(&self, action: &'static str, source: io::Error) -> NetnsError {
        refused(action, self.described.clone(), source)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl std::fmt::Display for Netns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.described)
    }
}

impl NamespaceId {
    fn of(file: &std::fs::Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

fn refused(action: &'static str, what: String, source: io::Error) -> NetnsError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => NetnsError::NotPermitted(what),
        _ => NetnsError::Io { action, what, source },
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

fn is_pid(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

/// The mount point of a line of mountinfo, if a network namespace is mounted
/// there (`proc_pid_mountinfo(5)`: root and mount point are the fields 4 and 5).
fn nsfs_mount_point(line: &str) -> Option<PathBuf> {
    let mut fields = line.split(' ').skip(3);
    let (root, mount_point) = (fields.next()?, fields.next()?);
    root.starts_with("net:[").then(|| PathBuf::from(mount_point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_gone_is_told_apart() {
        // Above the largest pid_max there is (2^22).
        let error = Netns::open(&NetnsRef::Pid(1 << 30)).unwrap_err();
        assert!(matches!(error, NetnsError::PidGone(_)), "{error}");
    }

    #[test]
    fn a_name_is_not_a_path() {
        for bad in ["", ".", "..", "../proc/1/ns/net", "a\0b"] {
            let error = Netns::open(&NetnsRef::Name(bad.to_owned())).unwrap_err();
            assert!(matches!(error, NetnsError::InvalidName(_)), "{error}");
        }
    }

    #[test]
    fn a_name_that_nobody_made_is_told_apart() {
        let error = Netns::open(&NetnsRef::Name("acorn-was-never-made".to_owned())).unwrap_err();
        assert!(matches!(error, NetnsError::NoSuchNamespace(_)), "{error}");
    }

    #[test]
    fn a_file_that_is_no_namespace_is_refused() {
        let error = Netns::at(Path::new("/proc/self/status"), String::new()).unwrap_err();
        assert!(matches!(error, NetnsError::NotANamespace(_)), "{error}");
    }

    #[test]
    fn the_own_namespace_is_found_by_its_identity() {
        let own = Netns::current().unwrap();
        assert_eq!(Netns::find(own.id()).unwrap().id(), own.id());
        assert!(Netns::find(NamespaceId { inode: u64::MAX, ..own.id() }).is_none());
    }

    #[test]
    fn mountinfo_tells_where_namespaces_are_mounted() {
        let named = "1240 28 0:4 net:[4026532713] /run/netns/blue rw shared:5 - nsfs nsfs rw";
        assert_eq!(nsfs_mount_point(named), Some(PathBuf::from("/run/netns/blue")));
        let other = "28 1 254:1 / /net:[1] rw,relatime shared:1 - ext4 /dev/vda1 rw";
        assert_eq!(nsfs_mount_point(other), None);
        assert_eq!(nsfs_mount_point(""), None);
    }
}
