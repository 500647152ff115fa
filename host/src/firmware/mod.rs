//! What this machine does for microcontrollers: it writes the blob that a board is flashed with
//! ([`acorn_core::provision`] has the format).

mod blob_file;
mod host_address;
mod order;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use acorn_core::provision::Flaw;

pub use self::blob_file::write;
pub use self::host_address::HostAddress;
pub use self::order::Order;

/// Why no blob was written. The text is for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// The token would be refused.
    #[error("the join token has expired: make a new one with `acorn token create` on the root")]
    Expired,
    /// The manager has no endpoint for a board.
    #[error(
        "the join token names no address of the manager that a board can dial, only {0}: boards speak IPv4 to the network \
         that they are plugged into. Make a token with `acorn token create --endpoint ADDR:PORT` and such an address"
    )]
    NoIpv4(String),
    /// The manager is in another network and there is no router to it.
    #[error("the manager {manager} is not in {network}, the board's network: name the router with `--gateway`")]
    NoGateway {
        /// Where the manager is.
        manager: SocketAddrV4,
        /// The board's address.
        network: HostAddress,
    },
    /// The board would have the address of its manager.
    #[error("{0} is the manager's address: give the board another one with `--ip`")]
    AddressOfManager(Ipv4Addr),
    /// No board could work with it.
    #[error("no board can work with this: {0}")]
    Flaw(#[from] Flaw),
    /// The system gave no randomness for the board's key.
    #[error("no randomness for a key: {0}")]
    Entropy(#[from] getrandom::Error),
    /// The file is there already.
    #[error(
        "{} exists and may hold a board's key: choose another file, or use --force to replace it", .0.display()
    )]
    Exists(PathBuf),
    /// The file can't be written.
    #[error("can't write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}
