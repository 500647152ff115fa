//! What a daemon does with the attachments that its predecessor left.

use acorn::net::NamespaceId;
use acorn::net::veth::{self, AdoptError, Adoption, AttachSpec};

use crate::packet::echo;
use crate::stage::{Container, on_a_private_host, open_host, open_tun, spec, until};
use crate::view::{ip_do, set_sysctl, snapshot};

#[test]
fn an_attachment_is_adopted_whole_after_a_crash() {
    on_a_private_host(async || {
        let crashed = open_host();
        let tun = open_tun(&crashed).await;
        let container = Container::start();
        let id = veth::attach(&crashed, container.netns(), &spec(1)).await.unwrap();
        drop((tun, crashed));

        let (id, spec) = through_json(id, &spec(1));
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let before = (snapshot(None), snapshot(Some(&container)));
        assert_eq!(veth::adopt(&host, id, &spec).await.unwrap(), Adoption::Whole);
        assert_eq!((snapshot(None), snapshot(Some(&container))), before);
        echo(&mut tun, &spec);
    });
}

#[test]
fn what_an_adopted_attachment_lacks_is_repaired() {
    on_a_private_host(async || {
        let host = open_host();
        let mut tun = open_tun(&host).await;
        let container = Container::start();
        let id = veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        let whole = (snapshot(None), snapshot(Some(&container)));
        let damages = [
            ("route del 10.18.30.65", false),
            ("-6 route del fc00::1", false),
            ("route del 10.30.0.0/16", true),
            ("route change 10.30.0.0/16 dev acorn", true),
            ("-6 route del fdff::/16", true),
            ("neigh flush dev acv1 nud permanent", false),
            ("neigh flush dev acorn nud permanent", true),
            ("addr flush dev acorn", true),
            ("link set acv1 down", false),
            ("link set acorn down", true),
            ("link set acorn mtu 1280", true),
            ("link set acv1 mtu 1300", false),
        ];
        for (damage, inside) in damages {
            ip_do(damage, inside.then_some(&container));
            assert_ne!((snapshot(None), snapshot(Some(&container))), whole, "{damage}");
            veth::adopt(&host, id, &spec(1)).await.unwrap();
            until(|| (snapshot(None), snapshot(Some(&container))) == whole).await;
            echo(&mut tun, &spec(1));
        }
        set_sysctl("net/ipv4/conf/acv1/forwarding", "0");
        ip_do("route del 10.18.30.65", None);
        let repaired = veth::adopt(&host, id, &spec(1)).await.unwrap();
        let missing = vec!["route to 10.18.30.65/32 in the host".to_owned()];
        assert_eq!(repaired, Adoption::Repaired(missing));
        echo(&mut tun, &spec(1));
    });
}

#[test]
fn interfaces_that_only_look_alike_are_not_adopted() {
    on_a_private_host(async || {
        let host = open_host();
        let [first, second] = [Container::start(), Container::start()];
        let id = veth::attach(&host, first.netns(), &spec(1)).await.unwrap();
        let other = veth::attach(&host, second.netns(), &spec(2)).await.unwrap();
        // The inode of a dead namespace has come again for another container.
        let error = veth::adopt(&host, other, &spec(1)).await.unwrap_err();
        assert!(matches!(error, AdoptError::NotOurs(_)), "{error}");

        ip_do("link del acv1", None);
        let error = veth::adopt(&host, id, &spec(1)).await.unwrap_err();
        assert!(matches!(error, AdoptError::InterfaceGone(_)), "{error}");
        assert_eq!(veth::adopt(&host, other, &spec(2)).await.unwrap(), Adoption::Whole);
    });
}

/// What a daemon keeps on disk, read again.
fn through_json(id: NamespaceId, spec: &AttachSpec) -> (NamespaceId, AttachSpec) {
    let kept = serde_json::to_string(&(id, spec)).unwrap();
    serde_json::from_str(&kept).unwrap()
}
