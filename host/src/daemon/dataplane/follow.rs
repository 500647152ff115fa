//! Engine and tunnels kept in step: whoever the one talks to is a peer of the other's, and what the other finds out the one is told.

use std::time::Instant;

use acorn_core::node::PeerNews;
use tracing::{debug, info, warn};

use super::{Dataplane, LINGER};
use crate::tunnel::{Local, TunnelEvent};

impl Dataplane {
    /// Keeps the tunnels' peers those that the engine knows.
    pub(super) fn follow_peers(&mut self, now: Instant) {
        while let Some(news) = self.node.as_mut().and_then(|node| node.engine.poll_peer()) {
            match news {
                PeerNews::Known { peer, key, endpoint, restarted } => {
                    let is_manager = self.node.as_ref().is_some_and(|n| n.engine.client().is_manager(&key));
                    let via = if is_manager && self.is_joining() { Local::Join } else { Local::Own };
                    match self.tunnels.add_peer(key, endpoint.get(), via, now) {
                        Ok(handle) => {
                            self.peers.bind(handle, peer);
                            self.lingering.retain(|(_, lingering)| *lingering != handle);
                            // Its sessions are gone with it; waiting for them to time out would take 15 s.
                            if restarted && self.tunnels.restart_handshake(handle, now).is_err() {
                                debug!(%key, "restarted, but its endpoint is not known");
                            }
                        }
                        Err(error) => warn!(%key, %error, "a node cannot be reached"),
                    }
                }
                PeerNews::Gone { peer, .. } => {
                    if let Some(handle) = self.peers.unbind(peer) {
                        self.lingering.push_back((now + LINGER, handle));
                    }
                }
            }
        }
    }

    pub(super) fn is_joining(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.token.is_some())
    }

    /// Goes over from the join key to the node's own once the manager knows it.
    pub(super) fn end_joining(&mut self, now: Instant) {
        let Some(node) = &mut self.node else { return };
        if node.token.is_none() || node.engine.client().is_joining() {
            return;
        }
        node.token = None;
        self.tunnels.clear_join();
        for manager in node.engine.client().managers() {
            let (key, endpoint) = (manager.key, manager.endpoint.get());
            match (self.tunnels.add_peer(key, endpoint, Local::Own, now), node.engine.find_peer(&key)) {
                (Ok(handle), Some(row)) => self.peers.bind(handle, row),
                (Ok(_), None) => {}
                (Err(error), _) => warn!(%key, %error, "the manager cannot be reached"),
            }
        }
        info!("joined: the manager knows this node by its own key now");
    }

    /// Tells the engine what the tunnels have found out about peers.
    pub(super) fn follow_tunnels(&mut self, now: Instant) {
        let at = self.engine_time(now);
        while let Some(event) = self.tunnels.poll_event() {
            debug!(?event, "tunnel");
            if let (Some(cluster), TunnelEvent::UnknownInitiation { key, .. }) = (&self.cluster, &event) {
                cluster.unknown_key(*key);
            }
            let Some(node) = &mut self.node else { continue };
            match event {
                TunnelEvent::Established { peer } => {
                    if let Some(row) = self.peers.row_of(peer) {
                        node.engine.peer_established(at, row);
                    }
                }
                TunnelEvent::Unreachable { peer } => {
                    if let Some(row) = self.peers.row_of(peer) {
                        node.engine.peer_unreachable(row);
                    }
                }
                TunnelEvent::UnknownInitiation { key, .. } => node.engine.unknown_key(at, key),
                TunnelEvent::EndpointChanged { .. } => {}
            }
        }
    }
}
