//! The wire between the machines of a world: a bridge in a namespace of its own, so that everything the machines say to
//! each other passes one place where it can be watched, slowed or cut.

use super::{Namespace, Result, World};

/// A bridge, with one veth link per connected namespace.
#[derive(Debug)]
pub struct Underlay {
    wire: Namespace,
}

/// Name of the bridge inside [`Underlay::wire`].
pub const BRIDGE: &str = "bridge";

/// Name of the underlay interface inside each connected namespace.
pub const INTERFACE: &str = "eth0";

/// Name of the link to the namespace behind a [`Router`], in the router.
pub const FAR: &str = "far";

impl Underlay {
    /// Lays the wire, in the namespace `wire`.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn new(world: &World) -> Result<Underlay> {
        let wire = world.namespace("wire")?;
        wire.run(["ip", "link", "add", "name", BRIDGE, "type", "bridge"])?;
        // Promiscuous: the bridge itself then sees what it carries between its ports.
        wire.run(["ip", "link", "set", "dev", BRIDGE, "promisc", "on", "up"])?;
        Ok(Underlay { wire })
    }

    /// The namespace of the bridge.
    pub fn wire(&self) -> &Namespace {
        &self.wire
    }

    /// Connects a namespace: `eth0` there with these addresses (`192.168.50.1/24`, `fd50::1/64`), and a port of the
    /// bridge named like the namespace.
    ///
    /// # Errors
    /// When `ip` fails, for example because an address is not one.
    pub fn connect(&self, namespace: &Namespace, addresses: &[&str]) -> Result<()> {
        let port = namespace.name();
        self.wire.run(["ip", "link", "add", "name", port, "type", "veth", "peer", "name", INTERFACE, "netns", port])?;
        self.wire.run(["ip", "link", "set", "dev", port, "master", BRIDGE, "up"])?;
        namespace.run(["ip", "link", "set", INTERFACE, "up"])?;
        for address in addresses {
            // Without `nodad` an IPv6 address can't be used for its first second.
            let nodad = address.contains(':').then_some("nodad");
            namespace.run(["ip", "address", "add", address, "dev", INTERFACE].into_iter().chain(nodad))?;
        }
        Ok(())
    }

    /// Puts a router between a connected namespace and the bridge. The link behind it, [`FAR`] in the router and [`INTERFACE`] in the
    /// namespace, has its own MTU; the namespace keeps its addresses, which the `others` reach through the router from now on.
    /// Addresses without prefixes, IPv4 before IPv6.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn move_behind_router(
        &self,
        world: &World,
        namespace: &Namespace,
        addresses: [&str; 2],
        router_addresses: [&str; 2],
        others: &[&Namespace],
    ) -> Result<Router> {
        let router = world.namespace("router")?;
        let [router_v4, router_v6] = router_addresses;
        self.connect(&router, &[&format!("{router_v4}/24"), &format!("{router_v6}/64")])?;
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.run(["sh", "-c", &format!("echo 1 > /proc/sys/net/{setting}")])?;
        }
        self.wire.run(["ip", "link", "delete", "dev", namespace.name()])?;
        let far = ["ip", "link", "add", "name", FAR, "type", "veth", "peer", "name", INTERFACE, "netns"];
        router.run(far.into_iter().chain([namespace.name()]))?;
        router.run(["ip", "link", "set", FAR, "up"])?;
        namespace.run(["ip", "link", "set", INTERFACE, "up"])?;
        // Neighbour discovery asks on this link, where the address has to be too.
        router.run(["ip", "address", "add", &format!("{router_v6}/128"), "dev", FAR, "nodad"])?;
        for (address, router_address) in addresses.into_iter().zip(router_addresses) {
            let nodad = address.contains(':').then_some("nodad");
            namespace.run(["ip", "address", "add", address, "dev", INTERFACE].into_iter().chain(nodad))?;
            namespace.run(["ip", "route", "add", router_address, "dev", INTERFACE])?;
            let everything = if address.contains(':') { "::/0" } else { "0.0.0.0/0" };
            namespace.run(["ip", "route", "add", everything, "via", router_address, "dev", INTERFACE])?;
            router.run(["ip", "route", "add", address, "dev", FAR])?;
            for other in others {
                other.run(["ip", "route", "add", address, "via", router_address])?;
            }
        }
        Ok(Router { namespace: router, behind: namespace.clone() })
    }
}

/// A router with one namespace behind it.
#[derive(Debug)]
pub struct Router {
    namespace: Namespace,
    behind: Namespace,
}

impl Router {
    /// The router's own namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Sets the MTU of the link behind it, in bytes, on both ends.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_mtu(&self, bytes: u16) -> Result<()> {
        for (namespace, interface) in [(&self.namespace, FAR), (&self.behind, INTERFACE)] {
            namespace.run(["ip", "link", "set", "dev", interface, "mtu", &bytes.to_string()])?;
        }
        Ok(())
    }
}
