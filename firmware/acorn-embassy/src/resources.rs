//! What a node needs: its memory, what it is told, and how both become the parts that run.

use core::fmt;

use acorn_core::HashKey;
use acorn_core::addr::AddressPlan;
use acorn_core::flow::Lifetimes;
use acorn_core::ids::NODE_NAME_MAX;
use acorn_core::node::{Node, NodeConfig};
use acorn_core::policy::Registry;
use acorn_core::sync::client::Profile;
use acorn_core::sync::message::{Capacities, ManagerRecord};
use acorn_core::{Endpoint, NodeKey};
use embassy_net::Stack;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net_driver::HardwareAddress;
use embassy_net_driver_channel as channel;
use embassy_time::Instant;
use wireguard_sans_io::{EntropySource, StaticSecret};

use crate::device::Device;
use crate::overlay::Overlay;
use crate::port::PortCell;
use crate::runner::{Runner, Underlay, engine_time};
use crate::status::{NodeCell, NodeStatus};
use crate::tunnels::{DATAGRAM_MAX, Tunnels};

/// The longest packet of an overlay stack in bytes: what one datagram on Ethernet carries over IPv4.
pub const OVERLAY_MTU: usize = 1440;

/// Packets that wait for an overlay stack. The runner waits for room, so there need not be as many as datagrams.
const PORT_RECEIVED: usize = 2;
/// Packets of an overlay stack that wait for the runner.
pub(crate) const PORT_SENT: usize = 2;
/// Packets and look-ups that wait for the manager.
pub(crate) const WAITING: usize = 4;
/// Datagrams from the underlay that wait to be opened; nobody waits for room there, so TCP is held to as many segments ([`Device`]).
pub(crate) const RECEIVED: usize = 4;
/// Sealed datagrams that wait for the underlay.
pub(crate) const SENT: usize = 2;
/// Room for one handshake message and its successor.
pub(crate) const LANE_BYTES: usize = 320;

/// The lease that a board asks for, in milliseconds: it says that it is there three times in this time.
const LEASE_MS: u32 = 60_000;

/// Sockets that a node with so many peers opens on the underlay stack, for its `StackResources`.
pub const fn underlay_sockets(peers: usize) -> usize {
    peers + 2
}

/// The memory of a node. All zero when new, so that it costs no flash.
///
/// Capacities: services, instances and nodes (the node itself and its manager included) that it can know at once, flows, peers that it
/// has tunnels to at once, and overlay stacks.
pub struct Resources<
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize = 1,
> {
    engine: Node<SERVICES, INSTANCES, NODES, FLOWS, PORTS, WAITING>,
    tunnels: Tunnels<PEERS, NODES>,
    channels: [channel::State<OVERLAY_MTU, PORT_RECEIVED, PORT_SENT>; PORTS],
    ports: [PortCell; PORTS],
    node: NodeCell,
    buffers: Buffers,
    live: SocketMemory<{ RECEIVED * DATAGRAM_MAX }, { SENT * DATAGRAM_MAX }, 8>,
    lanes: [SocketMemory<0, LANE_BYTES, 2>; PEERS],
    /// With room for what the lanes have none for.
    stray: SocketMemory<0, DATAGRAM_MAX, 2>,
}

/// Scratch space of the runner.
pub(crate) struct Buffers {
    /// A packet from an overlay stack, or an opened payload.
    pub(crate) packet: [u8; acorn_core::node::PENDING_LEN],
    /// What the engine writes.
    pub(crate) work: [u8; acorn_core::node::PENDING_LEN],
    /// A datagram, received or to be sent.
    pub(crate) datagram: [u8; DATAGRAM_MAX],
}

struct SocketMemory<const RX: usize, const TX: usize, const META: usize> {
    rx: [u8; RX],
    /// Filled when the socket is made: an empty one is all zero bytes, which [`PacketMetadata`] is not.
    rx_meta: heapless::Vec<PacketMetadata, META>,
    tx: [u8; TX],
    tx_meta: heapless::Vec<PacketMetadata, META>,
}

impl<const RX: usize, const TX: usize, const META: usize> SocketMemory<RX, TX, META> {
    const fn new() -> Self {
        Self { rx: [0; RX], rx_meta: heapless::Vec::new(), tx: [0; TX], tx_meta: heapless::Vec::new() }
    }

    fn socket<'a>(&'a mut self, stack: Stack<'a>) -> UdpSocket<'a> {
        for meta in [&mut self.rx_meta, &mut self.tx_meta] {
            *meta = core::iter::repeat_n(PacketMetadata::EMPTY, META).collect();
        }
        UdpSocket::new(stack, &mut self.rx_meta, &mut self.rx, &mut self.tx_meta, &mut self.tx)
    }
}

impl<
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize,
> Resources<SERVICES, INSTANCES, NODES, FLOWS, PEERS, PORTS>
{
    /// Unused memory, for a `static`.
    pub const fn new() -> Self {
        Self {
            engine: Node::new(),
            tunnels: Tunnels::new(),
            channels: [const { channel::State::new() }; PORTS],
            ports: [const { PortCell::new() }; PORTS],
            node: NodeCell::new(),
            buffers: Buffers {
                packet: [0; acorn_core::node::PENDING_LEN],
                work: [0; acorn_core::node::PENDING_LEN],
                datagram: [0; DATAGRAM_MAX],
            },
            live: SocketMemory::new(),
            lanes: [const { SocketMemory::new() }; PEERS],
            stray: SocketMemory::new(),
        }
    }
}

impl<
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize,
> Default for Resources<SERVICES, INSTANCES, NODES, FLOWS, PEERS, PORTS>
{
    fn default() -> Self {
        Self::new()
    }
}

/// Who the node is. The private keys are secret: whoever has them is the node.
pub struct Identity {
    /// The node's own X25519 private key (RFC 7748).
    pub key: [u8; 32],
    /// The private key of a join token, for a node that its manager may not know yet.
    pub join: Option<[u8; 32]>,
    /// The manager has taken the node in before: its own key is tried first.
    pub has_joined: bool,
    /// How often the node has been started, this time included: at least 1, and never the same twice, or its peers refuse its
    /// handshakes (their time stamps are made of it) until it is. At most 2^24.
    pub boot: u32,
}

/// What a node is told.
pub struct Config<'a> {
    /// Who it is.
    pub identity: Identity,
    /// Its name, for people: up to 63 bytes; more are cut off.
    pub name: &'a str,
    /// Its managers: up to 4, at least 1; more are left out.
    pub managers: &'a [ManagerRecord],
    /// The UDP port on the underlay. 50103 is Acorn's.
    pub port: u16,
    /// The address plan; the same in the whole network.
    pub plan: AddressPlan,
}

/// A node could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError {
    /// There is no entropy.
    NoEntropy,
    /// No manager is named.
    NoManager,
    /// The boot counter is 0 or above 2^24.
    Boot,
    /// The managers do not fit into the table: `NODES` has to be larger.
    Managers,
    /// The UDP port is 0, or the underlay stack has no room for the sockets.
    Underlay,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntropy => "no entropy: the random number generator failed its checks",
            Self::NoManager => "no manager is named: provision the board with a token",
            Self::Boot => "the boot counter is out of range: provision the board again, which makes a new key",
            Self::Managers => "the managers do not fit into the node table",
            Self::Underlay => "the UDP port is not one",
        })
    }
}

impl core::error::Error for StartError {}

/// Where an overlay stack is joined to the node.
pub struct Port<'a> {
    /// The driver to make the stack of.
    pub device: Device<'a>,
    cell: &'a PortCell,
    node: &'a NodeCell,
}

impl<'a> Port<'a> {
    /// Takes the port apart: the driver goes into the stack, the handle is joined with the stack.
    pub fn split(self) -> (Device<'a>, PortHandle<'a>) {
        (self.device, PortHandle { cell: self.cell, node: self.node })
    }
}

/// What is left of a [`Port`] when its driver has become a stack.
#[derive(Clone, Copy)]
pub struct PortHandle<'a> {
    cell: &'a PortCell,
    node: &'a NodeCell,
}

impl<'a> PortHandle<'a> {
    /// Joins the stack that was made of the port's driver to the node.
    pub fn with_stack(self, stack: Stack<'a>) -> Overlay<'a> {
        Overlay { stack, port: self.cell, node: self.node }
    }
}

/// Starts a node: returns what has to run as a task, the ports for overlay stacks, and a handle to look at the node.
///
/// The underlay stack needs room for [`underlay_sockets`]. Runner, underlay and overlay stacks have to run on one executor.
///
/// # Errors
/// See [`StartError`]. No packet has been sent then.
pub fn new<
    'a,
    const SERVICES: usize,
    const INSTANCES: usize,
    const NODES: usize,
    const FLOWS: usize,
    const PEERS: usize,
    const PORTS: usize,
>(
    resources: &'a mut Resources<SERVICES, INSTANCES, NODES, FLOWS, PEERS, PORTS>,
    config: Config<'_>,
    underlay: Stack<'a>,
    entropy: &'a mut dyn EntropySource,
) -> Result<(Runner<'a, SERVICES, INSTANCES, NODES, FLOWS, PEERS, PORTS>, [Port<'a>; PORTS], NodeStatus<'a>), StartError>
{
    let Resources { engine, tunnels, channels, ports, node, buffers, live, lanes, stray } = resources;
    let (ports, node) = (&*ports, &*node);
    if config.managers.is_empty() {
        return Err(StartError::NoManager);
    }
    // The library's time stamps are TAI64N labels: 2^62 seconds is where they begin, 2^56 is what is left for eras of 2^32.
    if config.identity.boot == 0 || config.identity.boot > 1 << 24 {
        return Err(StartError::Boot);
    }
    if config.port == 0 {
        return Err(StartError::Underlay);
    }
    let mut secret = [0; 16];
    entropy.fill(&mut secret).map_err(|_| StartError::NoEntropy)?;
    let [low, high] = [0, 8].map(|at| secret[at..at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
    let Identity { key, join, has_joined, boot } = config.identity;
    let is_joining = join.is_some() && !has_joined;
    let own = tunnels.start(StaticSecret::from_bytes(key), join.map(StaticSecret::from_bytes), boot);
    let profile = Profile {
        key: own,
        name: cut(config.name),
        joining: is_joining,
        epoch: boot,
        endpoint: Endpoint::UNKNOWN,
        subnet: None,
        lease_ms: LEASE_MS,
        capacities: Capacities { services: SERVICES as u32, instances: INSTANCES as u32, nodes: NODES as u32 },
    };
    let config_of_node = NodeConfig {
        plan: config.plan,
        registry: Registry::built_in(),
        lifetimes: Lifetimes::default(),
        hash_key: HashKey(low, high),
        profile,
        managers: config.managers,
    };
    engine.start(engine_time(Instant::now()), config_of_node).map_err(|_| StartError::Managers)?;

    let mut joined = heapless::Vec::<Port<'a>, PORTS>::new();
    let mut lower = heapless::Vec::<channel::Runner<'a, OVERLAY_MTU>, PORTS>::new();
    for (state, cell) in channels.iter_mut().zip(ports) {
        let (runner, device) = channel::new(state, HardwareAddress::Ip);
        let _ = lower.push(runner);
        let _ = joined.push(Port { device: Device::new(device), cell, node });
    }
    let Ok(joined) = joined.into_array::<PORTS>() else {
        return Err(StartError::Underlay);
    };
    // The receiving socket first: of two on one port the stack gives a datagram to the one that was made first.
    let live = live.socket(underlay);
    let lanes = lanes.iter_mut().map(|lane| lane.socket(underlay)).collect();
    let underlay = Underlay::new(underlay, config.port, live, lanes, stray.socket(underlay));
    let runner = Runner::new(own, engine, tunnels, lower, ports, node, underlay, entropy, buffers, has_joined);
    Ok((runner, joined, NodeStatus { cell: node }))
}

/// As much of a name as there is room for.
fn cut(name: &str) -> heapless::String<NODE_NAME_MAX> {
    let mut short = heapless::String::new();
    for letter in name.chars() {
        if short.push(letter).is_err() {
            break;
        }
    }
    short
}

/// The public key of a private one, as the manager lists nodes.
pub fn public_key(private: &[u8; 32]) -> NodeKey {
    NodeKey(*StaticSecret::from_bytes(*private).public_key().as_bytes())
}

#[cfg(test)]
mod tests;
