//! The board of `cargo xtask bench mcu`: what it serves on the overlay it serves plainly on its Ethernet too, with the same
//! tasks and the same buffers, so that one run of one program shows what the overlay costs.
//!
//! Its tables are small, since it needs room for the buffers of an application that moves bulk data: a board of 160 KiB has not both.

#![no_std]
#![no_main]

mod serve;

use acorn_embassy::{Config, Device, EntropyError, EntropySource, Identity, Overlay, Resources, Runner};
use acorn_node::{Provisioning, decode, underlay_config};
use embassy_executor::Spawner;
use embassy_net::StackResources;
use mps2_an385::executor::Executor;
use mps2_an385::host::{self, State};
use mps2_an385::lan9118::Lan9118;
use static_cell::{ConstStaticCell, StaticCell};

const SERVICES: usize = 4;
const INSTANCES: usize = 8;
const NODES: usize = 8;
const FLOWS: usize = 32;
/// The manager and the node that the traffic comes from.
const PEERS: usize = 2;

static RESOURCES: ConstStaticCell<Resources<SERVICES, INSTANCES, NODES, FLOWS, PEERS>> =
    ConstStaticCell::new(Resources::new());
static EXECUTOR: StaticCell<Executor> = StaticCell::new();
static UNDERLAY: StaticCell<StackResources<{ acorn_embassy::underlay_sockets(PEERS) + serve::SOCKETS }>> =
    StaticCell::new();
static OVERLAY: StaticCell<StackResources<{ serve::SOCKETS }>> = StaticCell::new();
static ENTROPY: ConstStaticCell<HostEntropy> = ConstStaticCell::new(HostEntropy);

#[mps2_an385::entry]
fn main() -> ! {
    mps2_an385::init();
    EXECUTOR.init(Executor::new()).run(|spawner| spawner.spawn(defmt::unwrap!(start(spawner))))
}

#[embassy_executor::task]
async fn start(spawner: Spawner) {
    let provisioning = defmt::unwrap!(decode(host::provisioning()).ok(), "the board is provisioned");
    let (driver, seed) = (defmt::unwrap!(Lan9118::new()), seed());
    let (underlay, net) =
        embassy_net::new(driver, underlay_config(&provisioning), UNDERLAY.init(StackResources::new()), seed);
    spawner.spawn(defmt::unwrap!(underlay_net(net)));

    let config = Config {
        identity: identity(&provisioning),
        name: &provisioning.name,
        managers: &provisioning.managers,
        port: provisioning.port,
        plan: acorn_core::addr::AddressPlan::default(),
    };
    let started = acorn_embassy::new(RESOURCES.take(), config, underlay, ENTROPY.take());
    let (runner, [port], _) = defmt::unwrap!(started.ok(), "the node starts");
    let (device, handle) = port.split();
    let (overlay, net) =
        embassy_net::new(device, embassy_net::Config::default(), OVERLAY.init(StackResources::new()), seed);
    spawner.spawn(defmt::unwrap!(node(runner)));
    spawner.spawn(defmt::unwrap!(overlay_net(net)));

    for stack in [underlay, overlay] {
        spawner.spawn(defmt::unwrap!(serve::sink(stack)));
        spawner.spawn(defmt::unwrap!(serve::source(stack)));
        spawner.spawn(defmt::unwrap!(serve::echo(stack)));
    }
    attach(handle.with_stack(overlay), &provisioning).await;
}

#[embassy_executor::task]
async fn underlay_net(mut runner: embassy_net::Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn overlay_net(mut runner: embassy_net::Runner<'static, Device<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn node(runner: Runner<'static, SERVICES, INSTANCES, NODES, FLOWS, PEERS, 1>) -> ! {
    runner.run().await
}

/// Becomes an instance of the service that the board is provisioned with.
async fn attach(overlay: Overlay<'_>, provisioning: &Provisioning) {
    let service = defmt::unwrap!(provisioning.serve.as_ref(), "the board serves something");
    let instance = defmt::unwrap!(overlay.attach(service.as_str()).await.ok(), "the manager takes the instance");
    let [a, b, c, d] = instance.instance_ip.octets();
    defmt::info!("attached as instance IP {=u8}.{=u8}.{=u8}.{=u8}", a, b, c, d);
}

/// Who the board is. Each start is counted before anything is sent, as handshakes need it.
fn identity(provisioning: &Provisioning) -> Identity {
    let before = defmt::unwrap!(State::load()).unwrap_or_default();
    let state = State { boots: before.boots.saturating_add(1), ..before };
    defmt::unwrap!(state.store());
    Identity {
        key: *provisioning.key.as_bytes(),
        join: provisioning.join.as_ref().map(|join| *join.secret.as_bytes()),
        has_joined: state.joined,
        boot: state.boots,
    }
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    defmt::unwrap!(host::entropy(&mut seed));
    u64::from_le_bytes(seed)
}

/// The random numbers of the machine that runs QEMU.
struct HostEntropy;

impl EntropySource for HostEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        host::entropy(bytes).map_err(|_| EntropyError)
    }
}
