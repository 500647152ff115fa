//! The underlay: how the board gets its address there, and whether somebody else has it too.

use acorn_core::provision::{Provisioning, Underlay};
use acorn_embassy::Clashes;
use embassy_futures::select::{Either, select};
use embassy_net::{DhcpConfig, Ipv4Cidr, Stack, StaticConfigV4};

use crate::PEERS;

/// Sockets on the underlay stack, for its `StackResources`: the node's, and one for DHCP.
pub const UNDERLAY_SOCKETS: usize = acorn_embassy::underlay_sockets(PEERS) + 1;

/// How the underlay stack gets its address.
pub fn underlay_config(provisioning: &Provisioning) -> embassy_net::Config {
    match provisioning.underlay {
        Underlay::Dhcp => embassy_net::Config::dhcpv4(DhcpConfig::default()),
        Underlay::Static { address, prefix, gateway } => embassy_net::Config::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(address, prefix),
            gateway,
            dns_servers: heapless::Vec::new(),
        }),
    }
}

/// Tells the watch which address is the board's, and the log who else uses it.
#[embassy_executor::task]
pub(crate) async fn watch(stack: Stack<'static>, clashes: &'static Clashes) {
    loop {
        clashes.set_address(None);
        stack.wait_config_up().await;
        let address = stack.config_v4().map(|config| config.address.address());
        if let Some(address) = address {
            let [a, b, c, d] = address.octets();
            defmt::info!("underlay address {=u8}.{=u8}.{=u8}.{=u8}", a, b, c, d);
        }
        clashes.set_address(address);
        while let Either::First(clash) = select(clashes.wait(), stack.wait_config_down()).await {
            let [a, b, c, d] = clash.address.octets();
            defmt::error!(
                "another machine, {=[u8; 6]:02x}, uses this board's underlay address {=u8}.{=u8}.{=u8}.{=u8}: change one of them",
                clash.other,
                a,
                b,
                c,
                d
            );
        }
        defmt::warn!("the underlay has no address any more");
    }
}
