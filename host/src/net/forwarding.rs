//! Packet forwarding, switched on for Acorn's own interfaces and no others.
//!
//! IPv4 knows forwarding per interface: the one a packet comes in on decides.
//! For IPv6 that depends on the kernel. From 6.17 on, `force_forwarding` of the
//! incoming interface is enough. Before, only `conf/all/forwarding` counts,
//! which also makes a router of every interface: they stop accepting router
//! advertisements and lose the default routes they learnt. So in
//! [`Ipv6Forwarding::Global`] the other interfaces are made hosts again at
//! once, which does not stop the forwarding, and keep their routes.

use crate::net::interface::IfName;
use crate::net::sysctl::{self, SysctlError, SysctlJournal};

const ALL: &str = "net/ipv6/conf/all/forwarding";
const DEFAULT: &str = "net/ipv6/conf/default/forwarding";

/// How IPv6 forwarding is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Forwarding {
    /// By `force_forwarding` of the interface (Linux 6.17 and later). Nothing
    /// of the host's changes.
    PerInterface,
    /// By `conf/all/forwarding`. It is recorded, and put back at `down`.
    Global,
}

impl Ipv6Forwarding {
    /// What the running kernel offers.
    #[must_use]
    pub fn detect() -> Self {
        if sysctl::exists("net/ipv6/conf/all/force_forwarding") { Self::PerInterface } else { Self::Global }
    }

    /// Does once what concerns the whole host.
    pub(super) fn prepare(self, journal: &mut SysctlJournal) -> Result<(), SysctlError> {
        match self {
            Self::PerInterface => Ok(()),
            Self::Global if sysctl::read(ALL)? != "0" => Ok(()),
            Self::Global => forward_globally(journal),
        }
    }

    /// Lets packets that come in on `interface` be forwarded.
    pub(super) fn enable(self, interface: &IfName) -> Result<(), SysctlError> {
        sysctl::write(&format!("net/ipv4/conf/{interface}/forwarding"), "1")?;
        match self {
            Self::PerInterface => sysctl::write(&format!("net/ipv6/conf/{interface}/force_forwarding"), "1"),
            Self::Global => Ok(()),
        }
    }
}

/// `accept_ra = 2` is what spares an interface's learnt default routes when
/// forwarding is switched on (`rt6_purge_dflt_routers`); it holds for a moment.
fn forward_globally(journal: &mut SysctlJournal) -> Result<(), SysctlError> {
    let default = sysctl::read(DEFAULT)?;
    let hosts = interfaces_that_are_hosts()?;
    let switched = shield(&hosts).and_then(|()| journal.set(ALL, "1"));
    // Also when that failed, and for every interface even when one is gone.
    let put_back: Vec<_> =
        hosts.iter().map(HostInterface::put_back).chain([sysctl::write(DEFAULT, &default)]).collect();
    switched.and(put_back.into_iter().collect())
}

fn shield(hosts: &[HostInterface]) -> Result<(), SysctlError> {
    let mut accepting = hosts.iter().filter_map(|host| host.accept_ra.as_ref());
    accepting.try_for_each(|accept_ra| sysctl::write(accept_ra, "2"))
}

/// An interface that does not forward.
struct HostInterface {
    forwarding: String,
    /// Present when it accepts router advertisements as hosts do.
    accept_ra: Option<String>,
}

impl HostInterface {
    fn put_back(&self) -> Result<(), SysctlError> {
        if !sysctl::exists(&self.forwarding) {
            return Ok(());
        }
        sysctl::write(&self.forwarding, "0")?;
        self.accept_ra.as_ref().map_or(Ok(()), |accept_ra| sysctl::write(accept_ra, "1"))
    }
}

fn interfaces_that_are_hosts() -> Result<Vec<HostInterface>, SysctlError> {
    let mut hosts = Vec::new();
    for name in sysctl::list("net/ipv6/conf")? {
        let forwarding = format!("net/ipv6/conf/{name}/forwarding");
        let accept_ra = format!("net/ipv6/conf/{name}/accept_ra");
        if name == "all" || name == "default" || sysctl::read(&forwarding)? != "0" {
            continue;
        }
        let accepts = sysctl::read(&accept_ra)? == "1";
        hosts.push(HostInterface { forwarding, accept_ra: accepts.then_some(accept_ra) });
    }
    Ok(hosts)
}
