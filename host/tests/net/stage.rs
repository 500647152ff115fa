//! Private hosts, containers, and what is attached to what.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use acorn::net::tun::{Tun, TunAddressing};
use acorn::net::veth::{self, AttachSpec};
use acorn::net::{
    AttachmentPrefix, Host, IfName, InterfaceMtu, Ipv6Forwarding, Netns, NetnsRef, ServiceNets, SysctlJournal, tun,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use crate::view::{ip_do, set_sysctl};

/// How long anything may take that has to happen.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Runs a test on a thread in a network namespace of its own.
pub fn on_a_private_host(test: impl AsyncFnOnce() + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo");
    let host = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of one's own");
        ip_do("link set lo up", None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A process in a network namespace of its own, killed when dropped, or with the
/// thread of its test.
pub struct Container(Child);

impl Container {
    pub fn start() -> Self {
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: between fork and exec only two system calls are made.
        unsafe {
            command.pre_exec(|| {
                set_pdeathsig(Signal::SIGKILL)?;
                Ok(unshare(CloneFlags::CLONE_NEWNET)?)
            });
        }
        Self(command.spawn().expect("sleep runs"))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn netns(&self) -> Netns {
        Netns::open(&NetnsRef::Pid(self.pid())).unwrap()
    }

    /// Sends a datagram from inside.
    pub async fn send_datagram(&self, to: SocketAddr) {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let inside = async move |_| UdpSocket::bind(any).unwrap().send_to(b"hello", to).unwrap();
        self.netns().run(inside).await.unwrap();
    }

    /// What an application inside gets that dials.
    pub async fn dial(&self, to: SocketAddr) -> io::ErrorKind {
        let inside = async move |_| TcpStream::connect_timeout(&to, DEADLINE);
        self.netns().run(inside).await.unwrap().unwrap_err().kind()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace of `ip netns add`.
pub struct NamedNetns(String);

impl NamedNetns {
    pub fn add(name: &str) -> Self {
        ip_do(&format!("netns add {name}"), None);
        Self(name.to_owned())
    }
}

impl Drop for NamedNetns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

pub fn open_host() -> Host {
    let mut journal = SysctlJournal::default();
    let host = Host::open(&mut journal).unwrap();
    let unchanged = Ipv6Forwarding::detect() == Ipv6Forwarding::PerInterface;
    assert_eq!(journal.is_empty(), unchanged);
    host
}

pub async fn open_tun(host: &Host) -> Tun {
    let tun = Tun::open(host, &ifname("acorn0"), mtu()).await.unwrap();
    tun::configure(host, tun.name(), &addressing()).await.unwrap();
    tun
}

/// An interface of the host's own, with addresses.
pub fn add_underlay() {
    ip_do("link add underlay type veth peer name wire", None);
    set_sysctl("net/ipv6/conf/wire/disable_ipv6", "1");
    ip_do("link set wire up", None);
    ip_do("addr add 192.0.2.1/24 dev underlay", None);
    ip_do("addr add 2001:db8::1/64 dev underlay nodad", None);
    set_sysctl("net/ipv6/conf/underlay/addr_gen_mode", "1");
    ip_do("link set underlay up", None);
}

pub fn addressing() -> TunAddressing {
    TunAddressing {
        host_ip: "10.18.30.126".parse().unwrap(),
        host_ip_v6: "fc00::3e".parse().unwrap(),
        worker_subnet: "10.18.30.64/26".parse().unwrap(),
        worker_subnet_v6: "fc00::/120".parse().unwrap(),
        service_nets: service_nets(),
    }
}

pub fn spec(n: u8) -> AttachSpec {
    AttachSpec {
        host_ifname: prefix().host_ifname(n),
        container_ifname: ifname(veth::CONTAINER_IFNAME),
        namespace_ip: Ipv4Addr::new(10, 18, 30, 64 + n),
        namespace_ip_v6: Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, n.into()),
        service_nets: service_nets(),
        mtu: mtu(),
    }
}

pub fn service_nets() -> ServiceNets {
    ServiceNets { v4: "10.30.0.0/16".parse().unwrap(), v6: "fdff::/16".parse().unwrap() }
}

pub fn prefix() -> AttachmentPrefix {
    AttachmentPrefix::default()
}

pub fn ifname(name: &str) -> IfName {
    IfName::new(name).unwrap()
}

pub fn mtu() -> InterfaceMtu {
    InterfaceMtu::new(1440).unwrap()
}

/// Waits for a condition.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
