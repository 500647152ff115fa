//! The application of an edge node on a microcontroller.
//!
//! It joins the overlay with what it was provisioned with and attaches itself as an instance of its service. There it serves *telemetry*,
//! its readings as JSON: over TCP and UDP on port [`telemetry::PORT`], and as a page over HTTP on port 80. It calls a *collector* again
//! and again, answers ping, and recovers by itself from every loss of link, manager or peer.
//!
//! A board brings a [`Board`] and calls [`run`]. Everything runs on the board's one executor.

#![no_std]
#![forbid(unsafe_code)]

mod board;
mod collector;
mod lamp;
pub mod reading;
mod service;
pub mod telemetry;
mod underlay;

pub use acorn_core::provision::{Provisioning, ProvisioningError, decode};
pub use acorn_embassy::{ClashWatch, Clashes, EntropyError, EntropySource};
pub use board::{Board, Indicator, Meter, NoMeter, Store, Watchdog};
pub use lamp::Pattern;
pub use underlay::{UNDERLAY_SOCKETS, underlay_config};

use acorn_embassy::{Config, Device, Identity, NodeStatus, Resources, Runner};
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_time::{Duration, Timer};
use static_cell::{ConstStaticCell, StaticCell};

/// Services that the node can know at once.
pub const SERVICES: usize = 16;
/// Instances that the node can know at once.
pub const INSTANCES: usize = 64;
/// Nodes that the node can know at once, itself and its manager included.
pub const NODES: usize = 32;
/// Flows.
pub const FLOWS: usize = 128;
/// Nodes that it has tunnels to at once, its manager included.
pub const PEERS: usize = 4;

/// How long a start waits after one that ended in a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(2);

/// Sockets of the application: a page, telemetry over TCP and UDP, the collector.
const OVERLAY_SOCKETS: usize = 3 + telemetry::PAGES;

type NodeRunner = Runner<'static, SERVICES, INSTANCES, NODES, FLOWS, PEERS, 1>;

static RESOURCES: ConstStaticCell<Resources<SERVICES, INSTANCES, NODES, FLOWS, PEERS>> =
    ConstStaticCell::new(Resources::new());
static OVERLAY: StaticCell<StackResources<OVERLAY_SOCKETS>> = StaticCell::new();

/// Runs the node. Does not return: what can't go on says so, by log and lamp, for ever.
pub async fn run(spawner: Spawner, board: Board) -> ! {
    let Board { underlay, provisioning, boot, entropy, store, indicator, watchdog, meter, clashes, last_panic } = board;
    defmt::info!("node {=str}, start {=u32}", provisioning.name.as_str(), boot);
    if let Some(panic) = last_panic {
        defmt::error!("the last start ended in a panic: {=str}", panic);
    }
    let identity = Identity {
        key: *provisioning.key.as_bytes(),
        join: provisioning.join.as_ref().map(|join| *join.secret.as_bytes()),
        has_joined: store.joined(),
        boot,
    };
    let mut seed = [0; 8];
    let seeded = entropy.fill(&mut seed);
    let config = Config {
        identity,
        name: &provisioning.name,
        managers: &provisioning.managers,
        port: provisioning.port,
        plan: acorn_core::addr::AddressPlan::default(),
    };
    let started = match seeded {
        Ok(()) => acorn_embassy::new(RESOURCES.take(), config, underlay, entropy),
        Err(_) => Err(acorn_embassy::StartError::NoEntropy),
    };
    let (runner, [port], status) = match started {
        Ok(parts) => parts,
        Err(error) => lamp::hopeless(&error, indicator, watchdog).await,
    };
    let (device, handle) = port.split();
    let (stack, net) = embassy_net::new(
        device,
        embassy_net::Config::default(),
        OVERLAY.init(StackResources::new()),
        u64::from_le_bytes(seed),
    );
    let overlay = handle.with_stack(stack);
    let name = provisioning.name.clone();
    let source = reading::Source { name, boot, status, clashes, meter };

    // A token is missing only when the task's place is taken, and each is taken once.
    spawner.spawn(defmt::unwrap!(node_task(runner)));
    spawner.spawn(defmt::unwrap!(overlay_net(net)));
    spawner.spawn(defmt::unwrap!(underlay::watch(underlay, clashes)));
    spawner.spawn(defmt::unwrap!(service::attach(overlay, provisioning.serve.clone())));
    spawner.spawn(defmt::unwrap!(telemetry::tcp(stack, source.clone())));
    spawner.spawn(defmt::unwrap!(telemetry::udp(stack, source.clone())));
    for _ in 0..telemetry::PAGES {
        spawner.spawn(defmt::unwrap!(telemetry::http(stack, source.clone())));
    }
    if let Some(call) = provisioning.call {
        spawner.spawn(defmt::unwrap!(collector::call(stack, call, source)));
    }
    spawner.spawn(defmt::unwrap!(remember_joining(status, store)));
    lamp::show(status, clashes, indicator, watchdog).await
}

/// Waits a moment when the last start ended in a panic: a board that panics again and again must not wear its flash out by counting
/// starts, nor its manager by handshakes. Before the start is counted.
pub async fn after_panic(last_panic: Option<&'static str>) {
    if last_panic.is_some() {
        Timer::after(PAUSE_AFTER_PANIC).await;
    }
}

/// Says for ever what is wrong with the provisioning of the board, by log and lamp.
pub async fn refuse(problem: &ProvisioningError, indicator: &mut dyn Indicator, watchdog: &mut dyn Watchdog) -> ! {
    lamp::hopeless(problem, indicator, watchdog).await
}

#[embassy_executor::task]
async fn node_task(runner: NodeRunner) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn overlay_net(mut runner: embassy_net::Runner<'static, Device<'static>>) -> ! {
    runner.run().await
}

/// Notes in the store that the manager has taken the node in, so that the next start does not try the used-up token first.
#[embassy_executor::task]
async fn remember_joining(status: NodeStatus<'static>, store: &'static mut dyn Store) {
    let mut seen = status.changes();
    let mut now = status.get();
    while !now.has_joined {
        now = status.changed_since(seen).await;
        seen = status.changes();
    }
    if !store.joined() {
        // The flash may stop the processor for a moment; the first packets go before.
        Timer::after(Duration::from_secs(1)).await;
        store.set_joined(true);
    }
}
