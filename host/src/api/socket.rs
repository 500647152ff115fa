//! The unix socket of the control API: made for its owner only, taken over from a dead daemon, never from a live one.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers on it.
    #[error("another acorn runs on this socket, {}; end it with `acorn down` or pass another --socket", .0.display())]
    Alive(PathBuf),
    /// There is something else in its place.
    #[error("{} exists and is not a socket; move it away or pass another --socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("can't listen on the control socket {}: {reason}; check the directory and its permissions or pass another --socket", .path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// A listening control socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: if another daemon replaced it, it is not ours to remove.
    file: (u64, u64),
}

impl ControlSocket {
    /// Creates the socket with mode 0600, and its directory if there is none.
    ///
    /// # Errors
    /// [`SocketError`]; a file in its place is replaced only if it is a socket that nobody answers on.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io_error = |reason| SocketError::Io { path: path.to_owned(), reason };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(io_error)?;
        }
        remove_stale(path)?;
        let listener = bind_private(path).map_err(io_error)?;
        listener.set_nonblocking(true).map_err(io_error)?;
        let file = identity(path).map_err(io_error)?;
        Ok(Self { listener, path: path.to_owned(), file })
    }

    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle of the listener, for a runtime to accept from.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // Nobody is left to tell: the daemon is ending, and the next one replaces the file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io_error = |reason| SocketError::Io { path: path.to_owned(), reason };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Alive(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io_error),
        Err(error) => Err(io_error(error)),
    }
}

/// Binds with mode 0600 from the first moment: on Linux the file gets the mode that the socket had before bind(2).
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(UnixListener::from(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_private_and_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("acorn.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        let _first = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err();
        assert!(error.to_string().starts_with("another acorn runs on this socket"), "{error}");
        UnixStream::connect(&path).expect("the first one still answers");
    }

    #[test]
    fn a_stale_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a listener that dies leaves its file");
        let _socket = ControlSocket::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successors_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        let socket = ControlSocket::bind(&path).unwrap();
        fs::rename(&path, dir.path().join("old.sock")).unwrap();
        let _successor = ControlSocket::bind(&path).unwrap();
        drop(socket);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_path_that_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a".repeat(120));
        assert!(matches!(ControlSocket::bind(&path), Err(SocketError::Io { .. })));
    }
}
