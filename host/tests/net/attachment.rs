//! Attached containers: what they have, and that packets pass.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use acorn::net::tun::Tun;
use acorn::net::veth::{self, AdoptError, Adoption};
use acorn::net::{Host, Ipv6Forwarding, Netns, NetnsError, NetnsRef, SysctlJournal, teardown};

use crate::packet::{REMOTE, REMOTE_V6, echo, endpoints, next_packet};
use crate::stage::{
    Container, NamedNetns, add_underlay, ifname, mtu, on_a_private_host, open_host, open_tun, prefix, service_nets,
    spec,
};
use crate::view::{addresses, get_sysctl, ip_do, ip_in, mac_of, neighbours, routes, set_sysctl};

#[test]
fn an_attachment_has_its_addresses_routes_and_neighbours_on_both_sides() {
    on_a_private_host(async || {
        let host = open_host();
        let _tun = open_tun(&host).await;
        let containers = [Container::start(), Container::start()];
        for (container, n) in containers.iter().zip([1, 2]) {
            let id = veth::attach(&host, container.netns(), &spec(n)).await.unwrap();
            assert_eq!(id, container.netns().id());
        }
        for (container, n) in containers.iter().zip([1, 2]) {
            let inside = Some(container);
            let (v4, v6) = (spec(n).namespace_ip, spec(n).namespace_ip_v6);
            assert_eq!(addresses("acorn", inside), [format!("{v4}/32"), format!("{v6}/128")]);
            assert_eq!(routes("", inside), [format!("10.30.0.0/16 dev acorn via 169.254.1.1 src {v4}")]);
            assert_eq!(routes("-6", inside), [format!("fdff::/16 dev acorn via fe80::1 src {v6}")]);
            let mac = mac_of(&format!("acv{n}"), None);
            assert_eq!(
                neighbours("acorn", inside),
                [format!("169.254.1.1 {mac} PERMANENT"), format!("fe80::1 {mac} PERMANENT")]
            );
            assert_eq!(ip_in("link show acorn", inside)[0]["mtu"], 1440);
            let lo = &ip_in("link show lo", inside)[0]["flags"];
            assert!(lo.as_array().unwrap().contains(&"UP".into()), "{lo}");

            let end = format!("acv{n}");
            assert_eq!(addresses(&end, None), [""; 0]);
            assert!(routes("", None).contains(&format!("{v4} dev {end}")));
            assert!(routes("-6", None).contains(&format!("{v6} dev {end}")));
            let mac = mac_of("acorn", inside);
            assert_eq!(neighbours(&end, None), [format!("{v4} {mac} PERMANENT"), format!("{v6} {mac} PERMANENT")]);
        }
    });
}

#[test]
fn an_echo_through_the_tun_is_answered_by_each_container() {
    on_a_private_host(async || echo_through(open_host()).await);
}

#[test]
fn an_echo_is_answered_where_source_validation_is_strict() {
    on_a_private_host(async || {
        set_sysctl("net/ipv4/conf/all/rp_filter", "1");
        set_sysctl("net/ipv4/conf/default/rp_filter", "1");
        echo_through(open_host()).await;
    });
}

#[test]
fn an_echo_is_answered_where_ipv6_is_off_by_default() {
    on_a_private_host(async || {
        set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        echo_through(open_host()).await;
    });
}

#[test]
fn forwarding_of_the_older_kernels_spares_the_other_interfaces_and_is_put_back() {
    on_a_private_host(async || {
        add_underlay();
        let settings = || {
            ["all/forwarding", "default/forwarding", "underlay/forwarding", "underlay/accept_ra"]
                .map(|key| get_sysctl(&format!("net/ipv6/conf/{key}")))
        };
        assert_eq!(settings(), ["0", "0", "0", "1"]);
        let mut journal = SysctlJournal::default();
        let host = Host::open_with(Ipv6Forwarding::Global, &mut journal).unwrap();
        assert_eq!(settings(), ["1", "0", "0", "1"]);
        echo_through(host.clone()).await;

        // As after a crash: the journal comes from disk and is not overwritten.
        let kept = serde_json::to_string(&journal).unwrap();
        let mut journal = serde_json::from_str(&kept).unwrap();
        let host_again = Host::open_with(Ipv6Forwarding::Global, &mut journal).unwrap();
        let removed = teardown::remove_all(&host_again, &prefix(), &mut journal).await.unwrap();
        assert_eq!(removed.settings, ["net/ipv6/conf/all/forwarding"]);
        assert_eq!(settings(), ["0", "0", "0", "1"]);
        assert!(journal.is_empty());
    });
}

#[test]
fn a_containers_datagram_reaches_the_tun_with_its_namespace_ip() {
    on_a_private_host(async || {
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let container = Container::start();
        veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        for to in [SocketAddr::from((REMOTE, 7)), SocketAddr::from((REMOTE_V6, 7))] {
            container.send_datagram(to).await;
            let packet = next_packet(&mut tun);
            let (source, destination) = endpoints(&packet);
            assert_eq!(destination, to.ip());
            let own = [IpAddr::from(spec(1).namespace_ip), spec(1).namespace_ip_v6.into()];
            assert!(own.contains(&source), "{source}");
        }
    });
}

#[test]
fn without_the_tun_a_container_gets_unreachable_and_nothing_leaves_in_the_clear() {
    on_a_private_host(async || {
        let host = open_host();
        let mut underlay = Tun::open(&host, &ifname("underlay"), mtu()).await.unwrap();
        for command in [
            "addr add 192.0.2.1/24 dev underlay",
            "addr add 2001:db8::1/64 dev underlay nodad",
            "link set underlay up",
            "route add default dev underlay",
            "-6 route add default dev underlay",
        ] {
            ip_do(command, None);
        }
        let tun = open_tun(&host).await;
        let container = Container::start();
        veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        drop(tun);
        let dials = [
            (SocketAddr::from((REMOTE, 7)), io::ErrorKind::HostUnreachable),
            (SocketAddr::from((REMOTE_V6, 7)), io::ErrorKind::NetworkUnreachable),
        ];
        for (to, refused) in dials {
            assert_eq!(container.dial(to).await, refused, "{to}");
            container.send_datagram(to).await;
        }
        // What comes out of the underlay first is what was sent without a fence.
        ip_do("route del unreachable 10.30.0.0/16 metric 4294967295", None);
        let leaking = Ipv4Addr::new(10, 30, 0, 99);
        container.send_datagram((leaking, 7).into()).await;
        let overlay = |packet: &Vec<u8>| match endpoints(packet).1 {
            IpAddr::V4(v4) => service_nets().v4.contains(v4),
            IpAddr::V6(v6) => service_nets().v6.contains(v6),
        };
        let leaked = std::iter::repeat_with(|| next_packet(&mut underlay)).find(overlay).unwrap();
        assert_eq!(endpoints(&leaked).1, leaking);
    });
}

#[test]
fn many_are_attached_at_once_from_the_threads_of_a_runtime() {
    on_a_private_host(async || {
        // Threads are born into the namespace of the thread that starts them.
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let containers: Vec<_> = (1..=8).map(|n| (Container::start(), n)).collect();
        let namespaces = containers.iter().map(|(container, n)| (container.netns(), *n));
        let namespaces: Vec<_> = namespaces.collect();
        let attached = runtime.spawn(async move {
            let host = open_host();
            let tun = open_tun(&host).await;
            let attaching = namespaces.into_iter().map(|(netns, n)| {
                let host = host.clone();
                tokio::spawn(async move { veth::attach(&host, netns, &spec(n)).await })
            });
            for task in attaching.collect::<Vec<_>>() {
                task.await.unwrap().unwrap();
            }
            tun
        });
        let mut tun = attached.await.unwrap();
        for n in 1..=8 {
            echo(&mut tun, &spec(n));
        }
        runtime.shutdown_background();
    });
}

#[test]
fn a_named_namespace_is_attached_and_its_absence_is_told() {
    on_a_private_host(async || {
        let name = format!("acorn-test-{}", std::process::id());
        let absent = Netns::open(&NetnsRef::Name(name.clone())).unwrap_err();
        assert!(matches!(absent, NetnsError::NoSuchNamespace(_)), "{absent}");
        let named = NamedNetns::add(&name);
        let host = open_host();
        let netns = Netns::open(&NetnsRef::Name(name.clone())).unwrap();
        let id = veth::attach(&host, netns, &spec(1)).await.unwrap();
        assert_eq!(veth::adopt(&host, id, &spec(1)).await.unwrap(), Adoption::Whole);
        drop(named);
        let gone = veth::adopt(&host, id, &spec(1)).await.unwrap_err();
        assert!(matches!(gone, AdoptError::NamespaceGone), "{gone}");
    });
}

/// Two containers answer through one TUN.
async fn echo_through(host: Host) {
    let mut tun = open_tun(&host).await;
    let containers = [Container::start(), Container::start()];
    for (container, n) in containers.iter().zip([1, 2]) {
        veth::attach(&host, container.netns(), &spec(n)).await.unwrap();
    }
    for n in [1, 2, 1] {
        echo(&mut tun, &spec(n));
    }
}
