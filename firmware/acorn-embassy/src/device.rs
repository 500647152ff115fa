//! The driver of an overlay stack.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_net_driver_channel as channel;

use crate::OVERLAY_MTU;
use crate::resources::RECEIVED;

type Channel<'a> = channel::Device<'a, OVERLAY_MTU>;

/// The driver of an overlay stack.
///
/// It has the stack offer TCP windows of four segments at most, whatever a socket could buffer: so many datagrams find room on the
/// underlay while the node is at work. A longer burst would lose its end, and TCP most of its time with that.
pub struct Device<'a> {
    channel: Channel<'a>,
}

impl<'a> Device<'a> {
    pub(crate) fn new(channel: Channel<'a>) -> Self {
        Self { channel }
    }
}

impl<'a> Driver for Device<'a> {
    type RxToken<'t>
        = <Channel<'a> as Driver>::RxToken<'t>
    where
        Self: 't;
    type TxToken<'t>
        = <Channel<'a> as Driver>::TxToken<'t>
    where
        Self: 't;

    fn receive(&mut self, cx: &mut Context) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.channel.receive(cx)
    }

    fn transmit(&mut self, cx: &mut Context) -> Option<Self::TxToken<'_>> {
        self.channel.transmit(cx)
    }

    fn link_state(&mut self, cx: &mut Context) -> LinkState {
        self.channel.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.channel.capabilities();
        capabilities.max_burst_size = Some(RECEIVED);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.channel.hardware_address()
    }
}
