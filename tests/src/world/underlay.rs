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
}
