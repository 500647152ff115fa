//! What the data plane tells people: status, table, drops.

use std::collections::BTreeMap;
use std::time::Instant;

use acorn_core::stats::DropReason;
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::Dataplane;
use crate::api::types::{
    self, Drops, HandshakeState, Instance, ManagerStatus, PeerStatus, ServiceIp, Status, Table, TableService,
};
use crate::tunnel::Local;

impl Dataplane {
    /// What this thread knows of the daemon's status; the rest is filled in by who asked.
    pub(super) fn status(&self, now: Instant) -> Status {
        let mut status = Status { listen: self.udp.local_addr().ok(), ..Status::default() };
        status.peers = self.tunnels.peers().filter_map(|peer| self.peer_status(peer, now)).collect();
        for (reason, count) in self.tunnels.counters().all_drops() {
            status.counters.insert(format!("tunnel_drop_{}", reason.name()), count);
        }
        let kept = self.tunnels.counters().unknown_keys_kept;
        status.counters.insert("tunnel_unknown_keys_kept".to_owned(), kept);
        if let Some(node) = &self.node {
            let router = node.engine.router();
            status.flows = router.flows.len() as u64;
            status.services = router.table.len().0 as u64;
            let client = node.engine.client();
            let connected = client.is_connected(self.engine_time(now));
            status.managers = client
                .managers()
                .iter()
                .map(|manager| ManagerStatus {
                    key: manager.key.to_string(),
                    endpoint: manager.endpoint.get(),
                    connected: connected && client.manager().is_some_and(|current| current.key == manager.key),
                })
                .collect();
            if let Some(membership) = client.membership() {
                let (v4, v6) = (membership.subnet.v4(), membership.subnet.v6());
                status.subnet = Ipv4Network::new(v4.base(), v4.prefix()).ok();
                status.subnet_v6 = Ipv6Network::new(v6.base(), v6.prefix()).ok();
            }
            self.count_engine(&mut status.counters);
        }
        status
    }

    fn peer_status(&self, peer: crate::tunnel::PeerHandle, now: Instant) -> Option<PeerStatus> {
        let age = self.tunnels.session_age(peer, now);
        let (rx_bytes, tx_bytes) = self.peers.traffic(peer);
        let name = match self.tunnels.via(peer)? {
            Local::Join => Some("(joining)".to_owned()),
            Local::Own => None,
        };
        Some(PeerStatus {
            key: self.tunnels.key(peer)?.to_string(),
            name,
            endpoint: self.tunnels.endpoint(peer),
            handshake: if age.is_some() { HandshakeState::Established } else { HandshakeState::None },
            handshake_age_s: age.map(|age| age.as_secs()),
            rx_bytes,
            tx_bytes,
        })
    }

    fn count_engine(&self, counters: &mut BTreeMap<String, u64>) {
        let Some(node) = &self.node else { return };
        let (router, client) = (node.engine.router(), node.engine.client());
        let engine = &router.counters;
        let sync = &client.counters;
        let named = [
            ("packets_forwarded", engine.forwarded),
            ("packets_fragmented", engine.fragmented),
            ("packets_delivered", engine.delivered),
            ("packets_answered", engine.replied),
            ("flows_begun", engine.flows_begun),
            ("flows_evicted", engine.flows_evicted),
            ("flows_evicted_established", engine.established_evicted),
            ("datagrams_evicted", engine.datagrams_evicted),
            ("icmp_errors_limited", engine.errors_limited),
            ("unknown_policies", router.table.unknown_policies()),
            ("table_pages", sync.pages.into()),
            ("table_pages_stale", sync.stale_pages.into()),
            ("table_full", sync.table_full.into()),
            ("interests", client.interests() as u64),
            ("interests_full", sync.interests_full.into()),
            ("resolve_timeouts", sync.resolve_timeouts.into()),
            ("sync_unexpected", sync.unexpected.into()),
            ("packets_waiting", node.engine.waiting() as u64),
        ];
        counters.extend(named.map(|(name, count)| (name.to_owned(), count)));
    }

    /// Why packets were dropped.
    pub(super) fn drops(&self) -> Drops {
        let engine = self.node.iter().flat_map(|node| {
            let counters = &node.engine.router().counters;
            DropReason::ALL.into_iter().map(|reason| types::Drop {
                reason: reason.name().to_owned(),
                count: counters.drops(reason),
                meaning: reason.meaning().trim().to_owned(),
            })
        });
        let tunnels = self.tunnels.counters().all_drops().map(|(reason, count)| types::Drop {
            reason: format!("tunnel_{}", reason.name()),
            count,
            meaning: reason.meaning().to_owned(),
        });
        Drops { drops: engine.chain(tunnels).collect() }
    }

    /// What the table holds.
    pub(super) fn table(&self) -> Table {
        let Some(node) = &self.node else { return Table::default() };
        let (table, registry) = (&node.engine.router().table, node.engine.router().registry());
        let services = table.services().filter_map(|row| {
            let service = table.service(row)?;
            let instances = table.instances_of(row).filter_map(|slot| {
                let instance = table.instance(slot)?;
                Some(Instance {
                    number: instance.number,
                    instance_ip: instance.instance_ip.v4,
                    instance_ip_v6: instance.instance_ip.v6,
                    namespace_ip: Some(instance.namespace_ip.v4),
                    namespace_ip_v6: Some(instance.namespace_ip.v6),
                    node: table.node(instance.node).map(|node| node.key.to_string()),
                    node_name: None,
                    alive: instance.alive,
                    weight: instance.weight,
                    priority: instance.priority,
                    load: instance.load,
                    draining: instance.draining,
                })
            });
            Some(TableService {
                name: service.name.as_str().to_owned(),
                complete: service.complete,
                service_ip_list: service
                    .ips
                    .iter()
                    .map(|ip| ServiceIp {
                        ip_type: registry.policy(ip.policy).ip_type().to_owned(),
                        address: ip.address.v4,
                        address_v6: ip.address.v6,
                    })
                    .collect(),
                instances: instances.collect(),
            })
        });
        Table { services: services.collect() }
    }
}
