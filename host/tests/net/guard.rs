//! What an attached container can send under, and what it can't.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use acorn::net::tun::Tun;
use acorn::net::veth::{self, AdoptError, Adoption, AttachError};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket};

use crate::packet::{REMOTE, REMOTE_V6, endpoints, next_packet, udp};
use crate::stage::{Container, addressing, on_a_private_host, open_host, open_tun, spec};
use crate::view::{ip_do, tc_do};

#[test]
fn a_container_sends_under_its_own_addresses_and_no_others() {
    on_a_private_host(async || {
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let containers = [Container::start(), Container::start()];
        for (container, n) in containers.iter().zip([1, 2]) {
            veth::attach(&host, container.netns(), &spec(n)).await.unwrap();
        }
        for (container, own) in containers.iter().zip([1, 2]) {
            let neighbour = spec(3 - own);
            let others_v4 = [neighbour.namespace_ip, addressing().host_ip, REMOTE, Ipv4Addr::new(192, 0, 2, 9)];
            let others_v6: [Ipv6Addr; 5] = [
                neighbour.namespace_ip_v6,
                addressing().host_ip_v6,
                REMOTE_V6,
                "2001:db8::9".parse().unwrap(),
                // The same but for the first word.
                Ipv6Addr::from_bits(spec(own).namespace_ip_v6.to_bits() ^ 1 << 96),
            ];
            for source in others_v4.map(IpAddr::from).into_iter().chain(others_v6.map(IpAddr::from)) {
                only_its_own_passes(&mut tun, container, own, source).await;
            }
        }
    });
}

#[test]
fn processes_of_the_host_hear_no_container_under_the_address_of_another() {
    on_a_private_host(async || {
        let host = open_host();
        let _tun = open_tun(&host).await;
        let containers = [Container::start(), Container::start()];
        for (container, n) in containers.iter().zip([1, 2]) {
            veth::attach(&host, container.netns(), &spec(n)).await.unwrap();
        }
        let inside = Some(&containers[0]);
        let (v4, v6) = (addressing().host_ip, addressing().host_ip_v6);
        ip_do(&format!("route add {v4}/32 via {} dev acorn onlink", veth::GATEWAY), inside);
        ip_do(&format!("-6 route add {v6}/128 via {} dev acorn onlink", veth::GATEWAY_V6), inside);
        let cases: [(IpAddr, IpAddr, IpAddr); 2] = [
            (v4.into(), spec(2).namespace_ip.into(), spec(1).namespace_ip.into()),
            (v6.into(), spec(2).namespace_ip_v6.into(), spec(1).namespace_ip_v6.into()),
        ];
        for (to, neighbour, own) in cases {
            let hearing = UdpSocket::bind((to, 0)).unwrap();
            hearing.set_read_timeout(Some(crate::stage::DEADLINE)).unwrap();
            let to = hearing.local_addr().unwrap();
            send(&containers[0], udp((neighbour, 7).into(), to)).await;
            send(&containers[0], udp((own, 7).into(), to)).await;
            let (_, from) = hearing.recv_from(&mut [0; 64]).unwrap();
            assert_eq!(from.ip(), own);
        }
    });
}

#[test]
fn a_guard_that_was_taken_away_or_weakened_is_there_again_after_adoption() {
    on_a_private_host(async || {
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let container = Container::start();
        let id = veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        let gone = Adoption::Repaired(vec!["guard of interface acv1 in the host".to_owned()]);
        let damages: [(&[&str], Adoption); 4] = [
            (&["qdisc del dev acv1 ingress"], gone.clone()),
            (&["filter del dev acv1 ingress"], gone.clone()),
            (&["qdisc del dev acv1 ingress", "qdisc add dev acv1 clsact"], gone),
            // Every packet may pass.
            (&["filter replace dev acv1 ingress pref 1 handle 1 bpf da bytecode '1,6 0 0 0'"], Adoption::Whole),
        ];
        for (damage, adoption) in damages {
            damage.iter().for_each(|command| tc_do(command));
            for (source, to) in neighbours() {
                send(&container, udp((source, 7).into(), (to, 7).into())).await;
                assert_eq!(endpoints(&next_packet(&mut tun)), (source, to), "no damage: {damage:?}");
            }
            assert_eq!(veth::adopt(&host, id, &spec(1)).await.unwrap(), adoption, "{damage:?}");
            for (source, _) in neighbours() {
                only_its_own_passes(&mut tun, &container, 1, source).await;
            }
            assert_eq!(veth::adopt(&host, id, &spec(1)).await.unwrap(), Adoption::Whole, "{damage:?}");
        }
    });
}

#[test]
fn an_attachment_that_cannot_be_guarded_is_not_adopted() {
    on_a_private_host(async || {
        let host = open_host();
        let container = Container::start();
        let id = veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        tc_do("filter del dev acv1 ingress");
        tc_do("filter add dev acv1 ingress pref 1 u32 match u32 0 0 flowid 1:1");
        let error = veth::adopt(&host, id, &spec(1)).await.unwrap_err();
        assert!(matches!(error, AdoptError::Repair(AttachError::Unguarded(_))), "{error}");
    });
}

/// The second container's addresses, and where to.
fn neighbours() -> [(IpAddr, IpAddr); 2] {
    [(spec(2).namespace_ip.into(), REMOTE.into()), (spec(2).namespace_ip_v6.into(), REMOTE_V6.into())]
}

/// Sends under `source`, then under the container's own address: that is the next packet out of the TUN.
async fn only_its_own_passes(tun: &mut Tun, container: &Container, own: u8, source: IpAddr) {
    let (own, to): (IpAddr, IpAddr) = match source {
        IpAddr::V4(_) => (spec(own).namespace_ip.into(), REMOTE.into()),
        IpAddr::V6(_) => (spec(own).namespace_ip_v6.into(), REMOTE_V6.into()),
    };
    send(container, udp((source, 7).into(), (to, 7).into())).await;
    send(container, udp((own, 7).into(), (to, 7).into())).await;
    assert_eq!(endpoints(&next_packet(tun)), (own, to), "after {source}");
}

/// Sends a whole packet from inside.
async fn send(container: &Container, packet: Vec<u8>) {
    let inside = async move |_| {
        let (_, to) = endpoints(&packet);
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        let to = SockaddrStorage::from(SocketAddr::from((to, 0)));
        sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
    };
    container.netns().run(inside).await.unwrap();
}
