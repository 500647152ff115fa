//! Attaching that cannot succeed, or is abandoned.

use std::time::Duration;

use acorn::net::veth::{self, AttachError};
use acorn::net::{Netns, NetnsError, NetnsRef};

use crate::stage::{Container, add_underlay, on_a_private_host, open_host, spec, until};
use crate::view::{ip_do, links, snapshot};

type Expected = fn(&AttachError) -> bool;

#[test]
fn a_failed_attachment_leaves_nothing_wherever_it_failed() {
    on_a_private_host(async || {
        let host = open_host();
        add_underlay();
        let cases: [(&str, bool, Expected); 6] = [
            ("link add acorn type bridge", true, |error| matches!(error, AttachError::ContainerInterfaceTaken { .. })),
            ("link add acv1 type bridge", false, |error| matches!(error, AttachError::HostInterfaceTaken(_))),
            ("route add 10.30.0.0/16 dev other", true, route_taken),
            ("-6 route add fdff::/16 dev other metric 1024", true, route_taken),
            ("route add 10.18.30.65/32 dev underlay", false, route_taken),
            ("-6 route add fc00::1/128 dev underlay metric 1024", false, route_taken),
        ];
        for (obstacle, inside, expected) in cases {
            let container = Container::start();
            ip_do("link add other type bridge", Some(&container));
            ip_do("link set other up", Some(&container));
            ip_do(obstacle, inside.then_some(&container));
            let before = (snapshot(None), snapshot(Some(&container)));
            let error = veth::attach(&host, container.netns(), &spec(1)).await.unwrap_err();
            assert!(expected(&error), "{obstacle}: {error}");
            assert_eq!((snapshot(None), snapshot(Some(&container))), before, "{obstacle}");
            if !inside {
                ip_do(&obstacle.replace(" add ", " del "), None);
            }
        }
    });
}

#[test]
fn a_caller_who_stops_waiting_leaves_nothing() {
    on_a_private_host(async || {
        let host = open_host();
        let container = Container::start();
        let before = (snapshot(None), links(Some(&container)));
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let idle = tasks();
        let spec = spec(1);
        let attaching = veth::attach(&host, container.netns(), &spec);
        let abandoned = tokio::time::timeout(Duration::ZERO, attaching);
        assert!(abandoned.await.is_err());
        assert!(tasks() > idle);
        until(|| tasks() == idle).await;
        assert_eq!((snapshot(None), links(Some(&container))), before);
        veth::attach(&host, container.netns(), &spec).await.unwrap();
    });
}

#[test]
fn the_hosts_own_namespace_is_not_attached() {
    on_a_private_host(async || {
        let host = open_host();
        let own = Netns::current().unwrap();
        let error = veth::attach(&host, own, &spec(1)).await.unwrap_err();
        assert!(matches!(error, AttachError::HostNamespace(_)), "{error}");
    });
}

#[test]
fn a_process_that_ended_is_told() {
    on_a_private_host(async || {
        let container = Container::start();
        let pid = container.pid();
        drop(container);
        let error = Netns::open(&NetnsRef::Pid(pid)).unwrap_err();
        assert!(matches!(error, NetnsError::PidGone(gone) if gone == pid), "{error}");
    });
}

fn route_taken(error: &AttachError) -> bool {
    matches!(error, AttachError::RouteTaken { .. })
}
