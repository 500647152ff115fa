//! Detaching, teardown, and containers that end.

use acorn::net::veth::{self, AdoptError, DetachError};
use acorn::net::{Host, SysctlJournal, teardown};

use crate::stage::{Container, ifname, on_a_private_host, open_host, open_tun, prefix, spec, until};
use crate::view::{ip_do, links, snapshot};

#[test]
fn a_detached_container_and_the_host_are_as_before() {
    on_a_private_host(async || {
        let host = open_host();
        let container = Container::start();
        ip_do("link set lo up", Some(&container));
        let before = (snapshot(None), snapshot(Some(&container)));
        veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        assert_ne!(snapshot(None), before.0);
        assert_ne!(snapshot(Some(&container)), before.1);
        assert!(veth::detach(&host, &ifname("acv1")).await.unwrap());
        assert_eq!((snapshot(None), snapshot(Some(&container))), before);
        assert!(!veth::detach(&host, &ifname("acv1")).await.unwrap());
    });
}

#[test]
fn an_interface_that_is_no_attachment_is_not_detached() {
    on_a_private_host(async || {
        let host = open_host();
        ip_do("link add acv1 type bridge", None);
        let error = veth::detach(&host, &ifname("acv1")).await.unwrap_err();
        assert!(matches!(error, DetachError::NotAnAttachment(_)), "{error}");
        assert!(veth::list_owned(&host, &prefix()).await.unwrap().is_empty());
        assert!(links(None).contains(&"acv1".to_owned()));
    });
}

#[test]
fn an_attachment_ends_with_its_container() {
    on_a_private_host(async || {
        let host = open_host();
        let before = snapshot(None);
        let container = Container::start();
        let id = veth::attach(&host, container.netns(), &spec(1)).await.unwrap();
        drop(container);
        until(|| snapshot(None) == before).await;
        let error = veth::adopt(&host, id, &spec(1)).await.unwrap_err();
        assert!(matches!(error, AdoptError::NamespaceGone), "{error}");
    });
}

#[test]
fn a_full_subnet_is_attached_and_torn_down_and_other_interfaces_stay() {
    on_a_private_host(async || {
        let mut journal = SysctlJournal::default();
        let host = Host::open(&mut journal).unwrap();
        ip_do("link add acvb1 type veth peer name acv", None);
        let before = snapshot(None);
        let tun = open_tun(&host).await;
        let containers: Vec<_> = (1..=62).map(|n| (Container::start(), n)).collect();
        for (container, n) in &containers {
            veth::attach(&host, container.netns(), &spec(*n)).await.unwrap();
        }
        let mut owned = veth::list_owned(&host, &prefix()).await.unwrap();
        owned.sort_by_key(|name| name.as_str()[3..].parse::<u8>().unwrap());
        let all: Vec<_> = (1..=62).map(|n| prefix().host_ifname(n)).collect();
        assert_eq!(owned, all);

        drop(tun);
        let removed = teardown::remove_all(&host, &prefix(), &mut journal).await.unwrap();
        assert_eq!(removed.attachments.len(), 62);
        assert_eq!(snapshot(None), before);
        for (container, _) in &containers {
            assert_eq!(links(Some(container)), ["lo"]);
        }
        let again = teardown::remove_all(&host, &prefix(), &mut journal).await.unwrap();
        assert_eq!(again, teardown::Removed::default());
    });
}
