//! Handshakes: answering and beginning them, and what the library's timers ask for.

use std::net::SocketAddr;
use std::time::Instant;

use sanstun::{
    CookieReply, Error, Event, HandshakeInitiation, HandshakeResponse, Received, ReceivedMessage, TunnelConfig,
    TunnelId,
};

use super::peer::{Local, PeerHandle, Reach};
use super::unknown::{Cost, INITIATION_LEN};
use super::{Opened, TunnelDrop, Tunnels};
use crate::identity::NodeKey;

const RESPONSE_LEN: usize = 92;
const COOKIE_LEN: usize = 64;

impl Tunnels {
    /// Handles an initiation, a response or a cookie reply.
    pub(super) fn open_handshake(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Opened, TunnelDrop> {
        let expected = match datagram.first() {
            Some(1) => INITIATION_LEN,
            Some(2) => RESPONSE_LEN,
            _ => COOKIE_LEN,
        };
        if datagram.len() < expected {
            return Err(TunnelDrop::Short);
        }
        if datagram.len() > expected {
            return Err(TunnelDrop::Malformed);
        }
        if !self.gate.admit(from, now) {
            return Err(TunnelDrop::SourceLimited);
        }
        let mut via = Local::Own;
        let mut received = self.own.receive(from, datagram, now);
        // The first MAC of a handshake message says which key it is for.
        if let (Err(Error::InvalidMac), Some(join)) = (&received, &mut self.join) {
            via = Local::Join;
            received = join.receive(from, datagram, now);
        }
        match received.map_err(handshake_drop)? {
            Received::SendCookieReply(reply) => {
                self.transmit(from, reply);
                Err(TunnelDrop::CookieDemanded)
            }
            Received::Message(ReceivedMessage::HandshakeInitiation(initiation)) => {
                let key = NodeKey(initiation.peer_static_public().to_bytes());
                match self.peers.find(&key, via) {
                    Some(peer) => self.answer(peer, initiation, from, now),
                    None if via == Local::Own => self.keep(key, from, datagram, initiation, now),
                    None => Err(TunnelDrop::UnknownKey),
                }
            }
            Received::Message(ReceivedMessage::HandshakeResponse(response)) => self.complete(response, from, now),
            Received::Message(ReceivedMessage::CookieReply(cookie)) => self.take_cookie(cookie, now),
            Received::Message(ReceivedMessage::TransportData(_)) => Err(TunnelDrop::Malformed),
        }
    }

    /// Answers the kept initiation of `key`, which has just become a peer.
    pub(super) fn answer_kept(&mut self, key: &NodeKey, now: Instant) {
        self.drop_stale_kept(now);
        let Some(kept) = self.kept.take(key) else {
            return;
        };
        // From the start again, because only now the library knows the key and checks for replays.
        let answered = match self.own.receive(kept.from, &kept.datagram, now) {
            Ok(Received::Message(ReceivedMessage::HandshakeInitiation(initiation))) => {
                match self.peers.find(key, Local::Own) {
                    Some(peer) => {
                        let mut answered = self.answer(peer, initiation, kept.from, now);
                        // The key was a peer before: this very initiation was noted when it came.
                        if let (Err(TunnelDrop::ReplayedInitiation), Some(first)) = (&answered, kept.parsed) {
                            answered = self.answer(peer, first, kept.from, now);
                        }
                        answered.map(|_| ())
                    }
                    None => Err(TunnelDrop::UnknownKey),
                }
            }
            Ok(Received::SendCookieReply(reply)) => {
                self.transmit(kept.from, reply);
                Err(TunnelDrop::CookieDemanded)
            }
            Ok(Received::Message(_)) => Err(TunnelDrop::Malformed),
            Err(error) => Err(handshake_drop(error)),
        };
        if let Err(reason) = answered {
            self.counters.count(reason);
        }
    }

    /// Takes a new configured endpoint of a peer. A handshake that is under way goes to the new one at once.
    pub(super) fn move_configured(&mut self, peer: PeerHandle, endpoint: Option<SocketAddr>, now: Instant) {
        if let Some(state) = self.peers.get_mut(peer)
            && state.configure(endpoint)
            && state.attempt.is_some()
        {
            state.attempt = None;
            self.initiate(peer, true, now);
        }
    }

    /// Begins a handshake, if the peer has an endpoint. One that is under way goes on, or is replaced when `anew`.
    pub(super) fn initiate(&mut self, peer: PeerHandle, anew: bool, now: Instant) {
        if !self.ensure_tunnel(peer, now) {
            return;
        }
        self.deadlines.touch(peer.slot);
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        let (Some(tunnel), Some(to)) = (&mut state.tunnel, state.endpoint) else {
            return;
        };
        let initiation = if anew { tunnel.restart_handshake(now) } else { tunnel.initiate_handshake(now) };
        if let Some(initiation) = initiation {
            state.attempted(now);
            self.counters.initiations_sent += 1;
            self.transmit(to, initiation);
        }
    }

    /// Does what the library's state for `peer` asks for.
    pub(super) fn handle_tunnel_events(&mut self, peer: PeerHandle, now: Instant) {
        while let Some(state) = self.peers.get_mut(peer)
            && let Some(event) = state.tunnel.as_mut().and_then(|tunnel| tunnel.poll_event())
        {
            match event {
                Event::SendHandshakeInitiation(_) if state.is_idle(now) => self.expire(peer, now),
                Event::SendHandshakeInitiation(initiation) => {
                    state.attempted(now);
                    if let Some(to) = state.endpoint {
                        self.counters.initiations_sent += 1;
                        self.transmit(to, initiation);
                    }
                }
                Event::SendKeepalive(keepalive) => {
                    if let Some(to) = state.endpoint {
                        self.transmit(to, keepalive);
                    }
                }
                Event::Established { .. } => {
                    state.silent = false;
                    self.tell_reach(peer, Reach::Established);
                }
                Event::ConnectionExpired => self.expire(peer, now),
            }
        }
    }

    fn answer(
        &mut self,
        peer: PeerHandle,
        initiation: HandshakeInitiation,
        from: SocketAddr,
        now: Instant,
    ) -> Result<Opened, TunnelDrop> {
        if !self.ensure_tunnel(peer, now) {
            return Err(TunnelDrop::UnknownKey);
        }
        let tunnel = self.peers.get_mut(peer).and_then(|state| state.tunnel.as_mut()).ok_or(TunnelDrop::UnknownKey)?;
        let response = tunnel.handle_handshake_initiation(initiation, now).map_err(handshake_drop)?;
        self.deadlines.touch(peer.slot);
        self.counters.initiations_answered += 1;
        if let Some(state) = self.peers.get_mut(peer) {
            state.answered = Some(now);
        }
        self.moved(peer, from);
        self.transmit(from, response);
        Ok(Opened::Handshake { peer })
    }

    fn complete(&mut self, response: HandshakeResponse, from: SocketAddr, now: Instant) -> Result<Opened, TunnelDrop> {
        let peer = self.peer_of(response.tunnel_id())?;
        let state = self.peers.get_mut(peer).ok_or(TunnelDrop::Unasked)?;
        let tunnel = state.tunnel.as_mut().ok_or(TunnelDrop::Unasked)?;
        let keepalive = tunnel.handle_handshake_response(response, now).map_err(handshake_drop)?;
        state.attempt = None;
        state.hold = None;
        self.counters.handshakes_completed += 1;
        self.deadlines.touch(peer.slot);
        self.heard(peer, from, now);
        self.transmit(from, keepalive);
        Ok(Opened::Handshake { peer })
    }

    fn take_cookie(&mut self, cookie: CookieReply, now: Instant) -> Result<Opened, TunnelDrop> {
        let peer = self.peer_of(cookie.tunnel_id())?;
        let state = self.peers.get_mut(peer).ok_or(TunnelDrop::Unasked)?;
        let tunnel = state.tunnel.as_mut().ok_or(TunnelDrop::Unasked)?;
        tunnel.handle_cookie_reply(cookie, now).map_err(handshake_drop)?;
        self.deadlines.touch(peer.slot);
        Ok(Opened::Handshake { peer })
    }

    fn keep(
        &mut self,
        key: NodeKey,
        from: SocketAddr,
        datagram: &[u8],
        parsed: HandshakeInitiation,
        now: Instant,
    ) -> Result<Opened, TunnelDrop> {
        self.drop_stale_kept(now);
        let datagram = datagram.try_into().map_err(|_| TunnelDrop::Malformed)?;
        if self.kept.keep(key, from, datagram, Some(parsed), now) == Cost::Displaced {
            self.counters.count(TunnelDrop::UnknownKeyDisplaced);
        }
        self.counters.unknown_keys_kept += 1;
        Ok(Opened::Kept)
    }

    fn drop_stale_kept(&mut self, now: Instant) {
        let stale = self.kept.drop_stale(now);
        self.counters.count_many(TunnelDrop::UnknownKeyStale, stale);
    }

    fn peer_of(&self, id: TunnelId) -> Result<PeerHandle, TunnelDrop> {
        let slot = *self.ids.get(&id).ok_or(TunnelDrop::Unasked)?;
        self.peers.at(slot).ok_or(TunnelDrop::Unasked)
    }

    /// Makes the library's state for `peer` if there is none.
    fn ensure_tunnel(&mut self, peer: PeerHandle, now: Instant) -> bool {
        let Some(state) = self.peers.get(peer) else {
            return false;
        };
        if state.tunnel.is_some() {
            return true;
        }
        let (key, via) = (state.key, state.via);
        // The two interfaces choose their ids on their own, so one may be taken: 1 in 2^24 per peer.
        let tunnel = loop {
            let Some(interface) = self.interface_mut(via) else {
                return false;
            };
            match interface.new_tunnel(key.0.into(), TunnelConfig::default(), now) {
                Ok(tunnel) if self.ids.contains_key(&tunnel.id()) => {}
                Ok(tunnel) => break tunnel,
                Err(_) => return false,
            }
        };
        self.ids.insert(tunnel.id(), peer.slot);
        if let Some(state) = self.peers.get_mut(peer) {
            state.tunnel = Some(Box::new(tunnel));
        }
        true
    }

    /// The connection ended. The next use makes it again, and if there is something to send, that is now.
    fn expire(&mut self, peer: PeerHandle, now: Instant) {
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        if let Some(tunnel) = state.tunnel.take() {
            self.ids.remove(&tunnel.id());
        }
        let unanswered = state.attempt.take().is_some_and(|attempt| !attempt.reported);
        state.hold = None;
        state.silent |= unanswered;
        let before = state.queue.bytes();
        let stale = state.queue.drop_stale(now);
        state.queue.shrink();
        let waiting = !state.queue.is_empty();
        self.queued_bytes -= before - state.queue.bytes();
        self.counters.count_many(TunnelDrop::QueueStale, stale);
        if unanswered {
            self.tell_reach(peer, Reach::Unreachable);
        }
        if waiting {
            self.initiate(peer, false, now);
        }
    }
}

fn handshake_drop(error: Error) -> TunnelDrop {
    match error {
        Error::InvalidMac => TunnelDrop::BadMac,
        Error::RateLimited => TunnelDrop::RateLimited,
        Error::ReplayedHandshakeInitiation => TunnelDrop::ReplayedInitiation,
        Error::InvalidPacket => TunnelDrop::Malformed,
        Error::UnexpectedPacket | Error::WrongIndex | Error::ConnectionExpired => TunnelDrop::Unasked,
        _ => TunnelDrop::BadHandshake,
    }
}
