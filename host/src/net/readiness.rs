//! Waiting for what the kernel does after it has said yes.
//!
//! Two answers come before the work is done: a veth is up before its queue is, and
//! an IPv6 address is there before packets to it are delivered. A container that is
//! attached must not lose its first packet to that.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::interface::IfName;
use crate::net::netlink::{Netlink, NetlinkError};

/// How long the kernel may take. It takes milliseconds, more on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(1);

impl Netlink {
    /// Waits until an interface passes packets: the queue of a veth whose other end
    /// came up later is started by a worker (`linkwatch`), and what is sent before is
    /// lost. From Linux 6.8 on, asking makes it hurry.
    pub(super) async fn operational(&self, name: &IfName) -> Result<(), NetlinkError> {
        let waiting = async {
            while !self.link(name).await?.is_some_and(|link| link.is_operational) {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let action = || format!("wait for interface {name} to pass packets");
        in_time(action, waiting).await
    }

    /// Waits until packets to a new address are delivered: the local route of an IPv6
    /// address is added by a worker (`addrconf_dad_work`), even without duplicate
    /// address detection, and what comes before gets an ICMP error.
    pub(super) async fn address_in_use(&self, address: IpAddr) -> Result<(), NetlinkError> {
        let waiting = async {
            while !self.is_local(address).await? {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        let action = || format!("wait for address {address} to be in use");
        in_time(action, waiting).await
    }
}

async fn in_time(
    action: impl FnOnce() -> String,
    waiting: impl Future<Output = Result<(), NetlinkError>>,
) -> Result<(), NetlinkError> {
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(done) => done,
        Err(_) => Err(NetlinkError {
            action: action(),
            source: io::Error::new(io::ErrorKind::TimedOut, "the kernel takes too long; try again"),
        }),
    }
}
