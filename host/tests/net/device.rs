//! The TUN: what it carries, and what is left of it.

use std::io;
use std::net::{IpAddr, UdpSocket};

use acorn::net::tun::{Tun, TunAddressing, TunError};
use acorn::net::{Host, InterfaceMtu, SysctlJournal, teardown, tun};

use crate::packet::{REMOTE, REMOTE_V6};
use crate::stage::{add_underlay, addressing, ifname, mtu, on_a_private_host, open_host, open_tun, prefix};
use crate::view::{addresses, ip, ip_do, routes, snapshot};

#[test]
fn the_tun_carries_the_hosts_addresses_and_the_overlay_routes() {
    on_a_private_host(async || {
        let host = open_host();
        let _tun = open_tun(&host).await;

        let link = &ip("-d link show acorn0")[0];
        assert_eq!(link["mtu"], 1440);
        assert_eq!(link["linkinfo"]["info_data"]["persist"], false);
        assert_eq!(link["linkinfo"]["info_data"]["pi"], false);
        assert_eq!(addresses("acorn0", None), ["10.18.30.126/32", "fc00::3e/128"]);
        assert_eq!(
            routes("", None),
            [
                "10.18.30.64/26 dev acorn0 src 10.18.30.126",
                "10.30.0.0/16 dev acorn0 src 10.18.30.126",
                "unreachable 10.30.0.0/16",
            ]
        );
        assert_eq!(
            routes("-6", None),
            ["fc00::/120 dev acorn0 src fc00::3e", "fdff::/16 dev acorn0 src fc00::3e", "unreachable fdff::/16 dev lo",]
        );
        let v4 = UdpSocket::bind("0.0.0.0:0").unwrap();
        v4.connect((REMOTE, 7)).unwrap();
        assert_eq!(v4.local_addr().unwrap().ip(), IpAddr::from([10, 18, 30, 126]));
        let v6 = UdpSocket::bind("[::]:0").unwrap();
        v6.connect((REMOTE_V6, 7)).unwrap();
        assert_eq!(v6.local_addr().unwrap().ip(), addressing().host_ip_v6);
    });
}

#[test]
fn the_tun_goes_when_it_is_dropped_and_only_the_fence_stays() {
    on_a_private_host(async || {
        let before = snapshot(None);
        let mut journal = SysctlJournal::default();
        let host = Host::open(&mut journal).unwrap();
        drop(open_tun(&host).await);
        assert_eq!(routes("", None), ["unreachable 10.30.0.0/16"]);
        assert_eq!(routes("-6", None), ["unreachable fdff::/16 dev lo"]);

        let removed = teardown::remove_all(&host, &prefix(), &mut journal).await.unwrap();
        assert_eq!(removed.fences.len(), 2);
        assert_eq!(snapshot(None), before);
    });
}

#[test]
fn another_subnet_replaces_the_addresses_and_routes_of_the_tun() {
    on_a_private_host(async || {
        let host = open_host();
        let tun = open_tun(&host).await;
        let moved = TunAddressing {
            host_ip: "10.18.7.62".parse().unwrap(),
            worker_subnet: "10.18.7.0/26".parse().unwrap(),
            host_ip_v6: "fc00::13e".parse().unwrap(),
            worker_subnet_v6: "fc00::100/120".parse().unwrap(),
            ..addressing()
        };
        tun::configure(&host, tun.name(), &moved).await.unwrap();
        assert_eq!(addresses("acorn0", None), ["10.18.7.62/32", "fc00::13e/128"]);
        let v4 = routes("", None);
        assert_eq!(v4[0], "10.18.7.0/26 dev acorn0 src 10.18.7.62");
        assert_eq!(v4.len(), 3, "{v4:?}");
        let v6 = routes("-6", None);
        assert_eq!(v6[0], "fc00::100/120 dev acorn0 src fc00::13e");
        assert_eq!(v6.len(), 3, "{v6:?}");

        tun::set_mtu(&host, tun.name(), InterfaceMtu::MIN).await.unwrap();
        assert_eq!(ip("link show acorn0")[0]["mtu"], 1280);
        assert_eq!(routes("-6", None), v6);
    });
}

#[test]
fn a_tun_name_that_is_taken_is_refused() {
    on_a_private_host(async || {
        let host = open_host();
        ip_do("tuntap add dev acorn0 mode tun", None);
        let refused = Tun::open(&host, &ifname("acorn0"), mtu()).await;
        assert!(matches!(refused, Err(TunError::NameTaken(_))));
        let gone = tun::configure(&host, &ifname("acorn9"), &addressing()).await;
        assert!(matches!(gone, Err(TunError::Gone(_))));
    });
}

#[test]
fn a_route_of_the_hosts_own_is_respected_and_the_tun_left_empty() {
    on_a_private_host(async || {
        let host = open_host();
        add_underlay();
        ip_do("route add 10.18.30.64/26 dev underlay", None);
        let before = (routes("", None), routes("-6", None));
        let tun = Tun::open(&host, &ifname("acorn0"), mtu()).await.unwrap();
        let refused = tun::configure(&host, tun.name(), &addressing()).await.unwrap_err();
        assert!(matches!(refused, TunError::RouteTaken(_)), "{refused}");
        assert_eq!((routes("", None), routes("-6", None)), before);
        assert_eq!(addresses("acorn0", None), [""; 0]);
    });
}

#[test]
fn an_idle_tun_is_silent_and_does_not_block() {
    on_a_private_host(async || {
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let error = tun.recv(&mut [0; 2048]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(tun.send(&[0; 40]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}
