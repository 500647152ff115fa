//! Leaving the host as it was found.
//!
//! Most of what Acorn makes goes with its interfaces: addresses, routes, neighbour
//! entries, guards, settings. The TUN goes when its [`Tun`](crate::net::tun::Tun) is dropped. What
//! remains, the attachments, the fence and the host's own settings, goes here.

use ipnetwork::IpNetwork;
use thiserror::Error;

use crate::net::interface::AttachmentPrefix;
use crate::net::netlink::NetlinkError;
use crate::net::sysctl::{SysctlError, SysctlJournal};
use crate::net::veth::{self, DetachError};
use crate::net::{Host, fence};

/// What was removed and put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The host ends of attachments.
    pub attachments: Vec<String>,
    /// Networks that were fenced.
    pub fences: Vec<IpNetwork>,
    /// Kernel settings that have their old value again.
    pub settings: Vec<String>,
}

/// Something could not be removed. The rest was.
#[derive(Debug, Error)]
pub enum TeardownError {
    /// An attachment stays.
    #[error(transparent)]
    Detach(#[from] DetachError),
    /// The attachments could not be listed, or the fence stays.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A setting was not put back; it stays in the journal.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Removes every attachment whose host end has this prefix, lowers the fence and
/// puts the settings of the journal back. Whatever of it is not there is no error,
/// so it can run after a crash, and twice.
///
/// # Errors
/// The first [`TeardownError`], after everything was tried.
pub async fn remove_all(
    host: &Host,
    prefix: &AttachmentPrefix,
    journal: &mut SysctlJournal,
) -> Result<Removed, TeardownError> {
    let mut removed = Removed::default();
    let attachments = detach_all(host, prefix, &mut removed.attachments).await;
    let fence = fence::lower(&host.netlink).await.map(|nets| removed.fences = nets);
    let settings = journal.restore().map(|keys| removed.settings = keys);
    attachments?;
    fence?;
    settings?;
    Ok(removed)
}

async fn detach_all(host: &Host, prefix: &AttachmentPrefix, removed: &mut Vec<String>) -> Result<(), TeardownError> {
    let mut first_error = None;
    for name in veth::list_owned(host, prefix).await? {
        match veth::detach(host, &name).await {
            Ok(true) => removed.push(name.to_string()),
            Ok(false) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(()), |error| Err(error.into()))
}
