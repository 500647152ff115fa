//! The application's side of an attachment, with the test as the runner.

use std::boxed::Box;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use acorn_core::addr::Dual;
use acorn_core::ids::ServiceId;
use acorn_core::node::{Node, NodeConfig};
use acorn_core::sync::client::{Profile, RequestId};
use acorn_core::sync::message::{AttachKind, Capacities, ManagerRecord};
use acorn_core::{Endpoint, HashKey, NodeKey};
use embassy_net::StackResources;
use embassy_net_driver::HardwareAddress;
use embassy_net_driver_channel as channel;

use super::*;
use crate::status::tests::Bell;

const SERVICE: &str = "app.ns.service.ns";

/// Names of requests, as the engine gives them.
fn requests() -> [RequestId; 2] {
    let mut engine = Box::new(Node::<2, 2, 4, 2, 2, 4>::new());
    let now = acorn_core::time::Instant::from_millis(1);
    let key = |n| NodeKey([n; 32]);
    let managers = [ManagerRecord { key: key(2), endpoint: Endpoint::UNKNOWN }];
    let profile = Profile {
        key: key(1),
        name: heapless::String::new(),
        joining: false,
        epoch: 1,
        endpoint: Endpoint::UNKNOWN,
        subnet: None,
        lease_ms: 0,
        capacities: Capacities { services: 2, instances: 2, nodes: 4 },
    };
    let config = NodeConfig {
        plan: Default::default(),
        registry: acorn_core::policy::Registry::built_in(),
        lifetimes: Default::default(),
        hash_key: HashKey(1, 2),
        profile,
        managers: &managers,
    };
    engine.start(now, config).expect("there is room");
    [1, 2].map(|host| engine.attach(now, AttachKind::Host, dual(host)).expect("there is room"))
}

fn dual(host: u8) -> Dual {
    Dual {
        v4: Ipv4Address::new(10, 18, 0, host),
        v6: embassy_net::Ipv6Address::new(0xfc00, 0, 0, 0, 0, 0, 0, host.into()),
    }
}

fn attachment() -> Attachment {
    let id = InstanceId { service: ServiceId(3), number: 4 };
    Attachment { id, instance_ip: dual(200), namespace_ip: dual(1) }
}

type Attaching<'a> = Pin<Box<dyn Future<Output = Result<Instance, AttachError>> + 'a>>;

/// An overlay stack, and what is on the runner's side of it.
struct Side<'a> {
    overlay: Overlay<'a>,
    port: &'a PortCell,
    node: &'a NodeCell,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<'a> Side<'a> {
    fn attach(&self, service: &'static str) -> Attaching<'a> {
        let overlay = self.overlay;
        Box::pin(async move { overlay.attach(service).await })
    }

    fn poll<T>(&self, future: &mut Pin<Box<dyn Future<Output = T> + 'a>>) -> Option<T> {
        match future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    fn is_asked(&self) -> bool {
        self.node.poll_asked(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// Attaches as far as that goes.
    fn attached(&self) {
        let mut attaching = self.attach(SERVICE);
        assert_eq!(self.poll(&mut attaching), None);
        self.port.set(PortState::Attached(attachment()));
        assert!(self.poll(&mut attaching).expect("attached").is_ok());
        assert!(self.is_asked());
    }

    fn state(&self) -> String {
        format!("{:?}", self.port.state())
    }
}

fn with_overlay(play: impl FnOnce(&Side<'_>)) {
    let mut state = channel::State::<1514, 1, 1>::new();
    let (_lower, device) = channel::new(&mut state, HardwareAddress::Ip);
    let mut resources = StackResources::<2>::new();
    let (stack, _runner) = embassy_net::new(device, embassy_net::Config::default(), &mut resources, 1);
    let (port, node) = (PortCell::new(), NodeCell::new());
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    play(&Side { overlay: Overlay { stack, port: &port, node: &node }, port: &port, node: &node, bell, waker });
}

#[test]
fn an_instance_that_is_attached_gives_the_stack_its_addresses_and_takes_them_when_it_goes() {
    with_overlay(|side| {
        let mut attaching = side.attach(SERVICE);
        assert_eq!(side.poll(&mut attaching), None);
        assert!(matches!(side.port.state(), PortState::Wanted(Some(name)) if name.as_str() == SERVICE));
        assert!(side.is_asked());
        side.port.set(PortState::Asked(requests()[0]));
        assert_eq!(side.poll(&mut attaching), None);
        let rings = side.bell.rings();
        side.port.set(PortState::Attached(attachment()));
        assert_eq!(side.bell.rings(), rings + 1, "who waits is woken");
        let instance = side.poll(&mut attaching).expect("attached").expect("attached");
        assert_eq!(instance, Instance::from(&attachment()));
        assert_eq!((instance.instance_ip, instance.namespace_ip), (dual(200).v4, dual(1).v4));
        assert_eq!(side.overlay.instance(), Some(instance));
        assert!(side.overlay.stack.config_v4().is_some_and(|config| config.address == Ipv4Cidr::new(dual(1).v4, 32)));
        assert!(side.overlay.stack.config_v6().is_some_and(|config| config.address == Ipv6Cidr::new(dual(1).v6, 128)));

        let overlay = side.overlay;
        let mut lost: Pin<Box<dyn Future<Output = ()>>> = Box::pin(async move { overlay.lost().await });
        assert_eq!(side.poll(&mut lost), None);
        side.port.set(PortState::Lost);
        assert_eq!(side.poll(&mut lost), Some(()));
        assert_eq!(side.overlay.instance(), None);
        assert!(side.overlay.stack.config_v4().is_none() && side.overlay.stack.config_v6().is_none());
        // It can be attached again.
        side.attached();
    });
}

#[test]
fn one_instance_at_a_time() {
    with_overlay(|side| {
        let refuse = |when: &str| {
            assert_eq!(side.poll(&mut side.attach(SERVICE)), Some(Err(AttachError::AlreadyAttached)), "{when}");
        };
        let mut attaching = side.attach(SERVICE);
        assert_eq!(side.poll(&mut attaching), None);
        refuse("wanted");
        side.port.set(PortState::Asked(requests()[0]));
        refuse("asked for");
        side.port.set(PortState::Attached(attachment()));
        assert!(side.poll(&mut attaching).is_some());
        refuse("attached");
        assert!(side.overlay.instance().is_some(), "which has changed nothing");
    });
}

#[test]
fn a_wrong_name_and_a_refusal_change_nothing() {
    with_overlay(|side| {
        assert!(matches!(side.poll(&mut side.attach("app..ns")), Some(Err(AttachError::Name(_)))));
        assert!(matches!(side.port.state(), PortState::Free) && !side.is_asked());
        let mut attaching = side.attach(SERVICE);
        assert_eq!(side.poll(&mut attaching), None);
        side.port.set(PortState::Refused(Refusal::NoSuchService));
        assert_eq!(side.poll(&mut attaching), Some(Err(AttachError::Refused(Refusal::NoSuchService))));
        assert!(side.overlay.stack.config_v4().is_none());
        side.attached();
    });
}

#[test]
fn an_attachment_that_is_not_waited_for_any_more_is_given_up_wherever_it_is() {
    let [request, _] = requests();
    let cases = [
        (PortState::Wanted(None), "Free".to_owned()),
        (PortState::Asked(request), format!("GivenUp({request:?})")),
        (PortState::Attached(attachment()), format!("Leaving({:?})", attachment())),
        (PortState::Refused(Refusal::Full), "Refused(Full)".to_owned()),
    ];
    for (reached, left) in cases {
        with_overlay(|side| {
            let mut attaching = side.attach(SERVICE);
            assert_eq!(side.poll(&mut attaching), None);
            assert!(side.is_asked());
            side.port.set(reached.clone());
            drop(attaching);
            assert_eq!(side.state(), left);
            assert_eq!(side.is_asked(), !matches!(reached, PortState::Refused(_)), "the runner has something to do");
            assert!(side.overlay.stack.config_v4().is_none());
        });
    }
}

#[test]
fn who_attaches_again_at_once_waits_for_the_last_attachment_to_be_gone() {
    for leaving in [PortState::GivenUp(requests()[0]), PortState::Leaving(attachment())] {
        with_overlay(|side| {
            side.port.set(leaving.clone());
            let mut attaching = side.attach(SERVICE);
            assert_eq!(side.poll(&mut attaching), None);
            let rings = side.bell.rings();
            side.port.set(PortState::Free);
            assert_eq!(side.bell.rings(), rings + 1);
            assert_eq!(side.poll(&mut attaching), None);
            assert!(matches!(side.port.state(), PortState::Wanted(Some(_))));
        });
    }
}

#[test]
fn detaching_waits_for_the_runner_and_is_nothing_without_an_instance() {
    with_overlay(|side| {
        let overlay = side.overlay;
        let detach = || -> Pin<Box<dyn Future<Output = ()>>> { Box::pin(async move { overlay.detach().await }) };
        assert_eq!(side.poll(&mut detach()), Some(()));
        side.attached();
        let mut detaching = detach();
        assert_eq!(side.poll(&mut detaching), None);
        assert!(matches!(side.port.state(), PortState::Leaving(_)) && side.is_asked());
        side.port.set(PortState::Free);
        assert_eq!(side.poll(&mut detaching), Some(()));
        assert!(side.overlay.stack.config_v4().is_none());
        let mut lost = pin!(overlay.lost());
        assert!(lost.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready(), "it is no instance");
    });
}
