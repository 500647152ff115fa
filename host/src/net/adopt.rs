//! Taking over an attachment that an earlier run of the daemon made.
//!
//! After a `kill -9` the veth pairs stand, and the containers go on. A daemon that
//! starts finds each again by the identity of its namespace, makes sure that the
//! two ends are those of its records, and repairs what is missing.

use thiserror::Error;

use crate::net::Host;
use crate::net::interface::InterfaceMtu;
use crate::net::netlink::{Existing, Link, Netlink, NetlinkError};
use crate::net::netns::{NamespaceId, Netns, NetnsError};
use crate::net::veth::{self, AttachError, AttachSpec};

/// How an attachment was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// As it was left.
    Whole,
    /// Something was missing, named for the log, and is there again.
    Repaired(Vec<String>),
}

/// An attachment cannot be adopted: it is to be removed with
/// [`detach`](veth::detach), and can then be made anew.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// Nothing has a namespace of this identity any more.
    #[error("the container's network namespace is gone: its instance ended")]
    NamespaceGone,
    /// One end is missing.
    #[error("interface {0} is gone: attach the instance again")]
    InterfaceGone(String),
    /// The ends are not those of the record: the identity has come again, or
    /// somebody made interfaces of the same names.
    #[error("interface {0} is not the one that acorn made: attach the instance again")]
    NotOurs(String),
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A repair failed.
    #[error("cannot repair the attachment: {0}")]
    Repair(#[from] AttachError),
    /// Netlink refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Verifies an attachment and repairs it. The container's traffic goes on meanwhile.
///
/// # Errors
/// [`AdoptError`]. What stands is left standing.
pub async fn adopt(host: &Host, namespace: NamespaceId, spec: &AttachSpec) -> Result<Adoption, AdoptError> {
    let gone = |name: &dyn std::fmt::Display| AdoptError::InterfaceGone(name.to_string());
    let namespace = Netns::find(namespace).ok_or(AdoptError::NamespaceGone)?;
    let host_end = host.netlink.link(&spec.host_ifname).await?;
    let host_end = host_end.ok_or_else(|| gone(&spec.host_ifname))?;

    let (inner, outer) = (spec.clone(), host_end.clone());
    let verified = namespace.run(async move |netlink| {
        let end = netlink.link(&inner.container_ifname).await?;
        let end = end.ok_or_else(|| gone(&inner.container_ifname))?;
        verify(&outer, &end, &inner)?;
        Ok::<_, AdoptError>(adapt_mtu(&netlink, &end, inner.mtu).await?)
    });
    verified.await??;
    adapt_mtu(&host.netlink, &host_end, spec.mtu).await?;

    let missing = veth::furnish(host, &namespace, spec, Existing::Repair).await?;
    Ok(if missing.is_empty() { Adoption::Whole } else { Adoption::Repaired(missing) })
}

/// The MTU may be configured otherwise since.
async fn adapt_mtu(netlink: &Netlink, end: &Link, mtu: InterfaceMtu) -> Result<(), NetlinkError> {
    if end.mtu == u32::from(mtu.get()) {
        return Ok(());
    }
    netlink.set_mtu(end.index, mtu).await
}

/// Each end must have its address and have the other for its peer.
fn verify(host_end: &Link, container_end: &Link, spec: &AttachSpec) -> Result<(), AdoptError> {
    let ends =
        [(host_end, spec.host_mac(), container_end.index), (container_end, spec.container_mac(), host_end.index)];
    for (end, mac, peer) in ends {
        if !end.is_veth || end.mac != Some(mac) || end.peer_index != Some(peer) {
            return Err(AdoptError::NotOurs(end.name.clone()));
        }
    }
    Ok(())
}
