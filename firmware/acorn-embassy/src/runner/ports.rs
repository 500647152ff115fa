//! Overlay stacks and their instances: what the applications ask for, the engine is asked, and what comes of it they are told.

use acorn_core::addr::Dual;
use acorn_core::router::Attachment;
use acorn_core::sync::client::{Outcome, RequestId};
use acorn_core::sync::message::AttachKind;
use embassy_time::Instant;

use super::{Runner, engine_time};
use crate::log::{info, warn};
use crate::port::{PortCell, PortState};

impl<const S: usize, const I: usize, const N: usize, const F: usize, const P: usize, const PORTS: usize>
    Runner<'_, S, I, N, F, P, PORTS>
{
    /// Does what the applications have asked for. After [`Self::follow_outcomes`]: what is given up here has no outcome yet.
    pub(super) fn follow_ports(&mut self) {
        let at = engine_time(Instant::now());
        let ports = self.ports;
        for (place, port) in ports.iter().enumerate() {
            match port.state() {
                PortState::Wanted(service) => {
                    let Some(namespace_ip) = self.namespace_ip(place, service.is_none()) else {
                        continue;
                    };
                    let kind = service.map_or(AttachKind::Host, AttachKind::New);
                    if let Some(request) = self.engine.attach(at, kind, namespace_ip) {
                        port.set(PortState::Asked(request));
                    }
                }
                PortState::GivenUp(request) => {
                    self.engine.cancel(request);
                    port.set(PortState::Free);
                }
                PortState::Leaving(attachment) => {
                    let is_out = self.engine.detach(at, attachment.id).is_some();
                    if is_out {
                        self.set_link(place, false);
                        port.set(PortState::Free);
                    }
                }
                // The manager has given the node another subnet: the address is not the node's any more.
                PortState::Attached(attachment) if !self.has_address(&attachment) => {
                    let is_out = self.engine.detach(at, attachment.id).is_some();
                    if is_out {
                        warn!("the node has another subnet now: its instance has lost its address");
                        self.lose(place);
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells the applications what has become of what they asked for.
    pub(super) fn follow_outcomes(&mut self) {
        while let Some((request, outcome)) = self.engine.poll_event() {
            let asked = self.ports.iter().position(|port| {
                let is_it = |asked: &RequestId| Some(*asked) == request;
                port.with(|state| matches!(state, PortState::Asked(asked) | PortState::GivenUp(asked) if is_it(asked)))
            });
            let is_given_up = |port: &PortCell| port.with(|state| matches!(state, PortState::GivenUp(_)));
            match (asked, outcome) {
                // The application does not wait for it any more.
                (Some(place), outcome) if self.ports.get(place).is_some_and(is_given_up) => {
                    if let Some(port) = self.ports.get(place) {
                        port.set(match outcome {
                            Outcome::Attached(attachment) => PortState::Leaving(attachment),
                            _ => PortState::Free,
                        });
                    }
                }
                (Some(place), Outcome::Attached(attachment)) => {
                    self.set_link(place, true);
                    if let Some(port) = self.ports.get(place) {
                        port.set(PortState::Attached(attachment));
                    }
                }
                (Some(place), Outcome::Refused(refusal)) => {
                    if let Some(port) = self.ports.get(place) {
                        port.set(PortState::Refused(refusal));
                    }
                }
                (_, Outcome::Lost(instance, _)) => {
                    let is_lost = |port: &PortCell| {
                        port.with(|state| matches!(state, PortState::Attached(attached) if attached.id == instance))
                    };
                    if let Some(place) = self.ports.iter().position(is_lost) {
                        info!("the instance {=u32} is not this node's any more", instance.number);
                        self.lose(place);
                    }
                }
                _ => {}
            }
        }
    }

    fn lose(&mut self, place: usize) {
        self.set_link(place, false);
        if let Some(port) = self.ports.get(place) {
            port.set(PortState::Lost);
        }
    }

    fn has_address(&self, attachment: &Attachment) -> bool {
        let membership = self.engine.client().membership();
        membership.is_none_or(|m| m.subnet.offset_of(attachment.namespace_ip.v4.into()).is_some())
    }

    /// The address of the instance at a port: the same after every start, so that the manager takes it for the same instance. None
    /// before the node has a subnet.
    fn namespace_ip(&self, place: usize, is_node: bool) -> Option<Dual> {
        let subnet = self.engine.client().membership()?.subnet;
        let offset = if is_node { subnet.last_host() } else { u32::try_from(place).ok()?.checked_add(1)? };
        Some(subnet.namespace_ip(offset)?.dual())
    }
}

/// The port whose instance a packet is for.
pub(super) fn port_of(ports: &[PortCell], packet: &[u8]) -> Option<usize> {
    use core::net::{Ipv4Addr, Ipv6Addr};
    let destination = match packet.first()? >> 4 {
        4 => Ipv4Addr::from(*packet.get(16..20)?.first_chunk::<4>()?).into(),
        _ => Ipv6Addr::from(*packet.get(24..40)?.first_chunk::<16>()?).into(),
    };
    ports.iter().position(|port| {
        port.with(|state| matches!(state, PortState::Attached(a) if a.namespace_ip.contains(destination)))
    })
}
