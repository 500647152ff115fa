//! The application's handle of an overlay stack: it attaches the instance that the stack is.

use core::fmt;
use core::future::poll_fn;

use acorn_core::ids::NameError;
use acorn_core::router::Attachment;
use acorn_core::sync::message::Refusal;
use acorn_core::{InstanceId, ServiceName};
use embassy_net::{ConfigV4, ConfigV6, Ipv4Address, Ipv4Cidr, Ipv6Cidr, Stack, StaticConfigV4, StaticConfigV6};

use crate::port::{PortCell, PortState};
use crate::status::NodeCell;

/// What an overlay stack sends through. It names nothing: the driver takes every packet, whatever the next hop is.
const GATEWAY: Ipv4Address = Ipv4Address::new(169, 254, 1, 1);

/// An overlay stack and the instance that it is.
///
/// A stack has one IPv4 address, so it is one instance at a time; a node with several has a port for each.
#[derive(Clone, Copy)]
pub struct Overlay<'a> {
    pub(crate) stack: Stack<'a>,
    pub(crate) port: &'a PortCell,
    pub(crate) node: &'a NodeCell,
}

/// The instance that an overlay stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Which instance of which service.
    pub id: InstanceId,
    /// Where it is reached from anywhere, whatever node it runs on.
    pub instance_ip: Ipv4Address,
    /// Its address on this node, which is the stack's.
    pub namespace_ip: Ipv4Address,
}

/// An instance could not be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// The text is not a service's name.
    Name(NameError),
    /// The stack is an instance already, or is about to become one.
    AlreadyAttached,
    /// The manager refuses it.
    Refused(Refusal),
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::AlreadyAttached => {
                f.write_str("this overlay stack is an instance already: use a port and a stack for each")
            }
            Self::Refused(Refusal::NoSuchService) => {
                f.write_str("there is no service of this name: create it with `acorn service create`")
            }
            Self::Refused(refusal) => write!(f, "the manager refuses the instance: {refusal:?}"),
        }
    }
}

impl core::error::Error for AttachError {}

impl<'a> Overlay<'a> {
    /// The stack, to open sockets on.
    pub fn stack(&self) -> Stack<'a> {
        self.stack
    }

    /// Attaches an instance of a service, named `app.ns.service.ns`: from then on others reach this stack under the service's
    /// addresses, and this stack may dial service addresses. Waits as long as the manager does not answer.
    ///
    /// # Errors
    /// See [`AttachError`]. Nothing has changed then.
    pub async fn attach(&self, service: &str) -> Result<Instance, AttachError> {
        let name = ServiceName::new(service).map_err(AttachError::Name)?;
        self.attach_as(Some(name)).await
    }

    /// Attaches the node itself, as an instance without a service: it can dial service addresses and be reached under its instance
    /// IP. One stack of a node can be this. Waits as long as the manager does not answer.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub async fn attach_node(&self) -> Result<Instance, AttachError> {
        self.attach_as(None).await
    }

    /// The instance that the stack is, if it is one.
    pub fn instance(&self) -> Option<Instance> {
        self.port.with(|state| match state {
            PortState::Attached(attachment) => Some(Instance::from(attachment)),
            _ => None,
        })
    }

    /// Takes the instance out: no new connections come, and those that are there end. Waits until the node has said so; does nothing
    /// when there is none.
    pub async fn detach(&self) {
        if let PortState::Attached(attachment) = self.port.state() {
            self.port.set(PortState::Leaving(attachment));
            self.node.ask();
            poll_fn(|cx| self.port.poll(cx, |state| (!matches!(state, PortState::Leaving(_))).then_some(()))).await;
            self.unset_addresses();
        }
    }

    /// Waits until the instance is lost: taken over by another node, withdrawn at the manager, or without an address because the node
    /// has got another subnet. Attach it again, or leave it. Returns at once when the stack is no instance.
    pub async fn lost(&self) {
        poll_fn(|cx| self.port.poll(cx, |state| (!matches!(state, PortState::Attached(_))).then_some(()))).await;
        self.unset_addresses();
    }

    async fn attach_as(&self, name: Option<ServiceName>) -> Result<Instance, AttachError> {
        // What was given up or taken out just now may not be settled yet.
        let is_leaving = |state: &PortState| matches!(state, PortState::GivenUp(_) | PortState::Leaving(_));
        poll_fn(|cx| self.port.poll(cx, |state| (!is_leaving(state)).then_some(()))).await;
        match self.port.state() {
            PortState::Free | PortState::Refused(_) | PortState::Lost => {}
            _ => return Err(AttachError::AlreadyAttached),
        }
        self.port.set(PortState::Wanted(name));
        let given_up = GiveUp { port: self.port, node: self.node };
        self.node.ask();
        let outcome = poll_fn(|cx| {
            self.port.poll(cx, |state| match state {
                PortState::Attached(attachment) => Some(Ok(*attachment)),
                PortState::Refused(refusal) => Some(Err(AttachError::Refused(*refusal))),
                // Lost again before this task ran: the next call begins anew.
                PortState::Lost | PortState::Free => Some(Err(AttachError::Refused(Refusal::Moved))),
                _ => None,
            })
        })
        .await;
        core::mem::forget(given_up);
        let attachment = outcome?;
        self.set_addresses(&attachment);
        Ok(Instance::from(&attachment))
    }

    fn set_addresses(&self, attachment: &Attachment) {
        // A host route: everything else goes through the driver, which asks for no neighbour.
        self.stack.set_config_v4(ConfigV4::Static(StaticConfigV4 {
            address: Ipv4Cidr::new(attachment.namespace_ip.v4, 32),
            gateway: Some(GATEWAY),
            dns_servers: heapless::Vec::new(),
        }));
        self.stack.set_config_v6(ConfigV6::Static(StaticConfigV6 {
            address: Ipv6Cidr::new(attachment.namespace_ip.v6, 128),
            gateway: Some(GATEWAY_V6),
            dns_servers: heapless::Vec::new(),
        }));
    }

    fn unset_addresses(&self) {
        self.stack.set_config_v4(ConfigV4::None);
        self.stack.set_config_v6(ConfigV6::None);
    }
}

/// As [`GATEWAY`].
const GATEWAY_V6: embassy_net::Ipv6Address = embassy_net::Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

impl From<&Attachment> for Instance {
    fn from(attachment: &Attachment) -> Self {
        Self { id: attachment.id, instance_ip: attachment.instance_ip.v4, namespace_ip: attachment.namespace_ip.v4 }
    }
}

/// Gives an attachment up when its future is dropped.
struct GiveUp<'a> {
    port: &'a PortCell,
    node: &'a NodeCell,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let next = match self.port.state() {
            PortState::Wanted(_) => PortState::Free,
            PortState::Asked(request) => PortState::GivenUp(request),
            PortState::Attached(attachment) => PortState::Leaving(attachment),
            _ => return,
        };
        self.port.set(next);
        self.node.ask();
    }
}

#[cfg(test)]
mod tests;
