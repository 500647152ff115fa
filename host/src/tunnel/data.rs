//! Payloads on their way: opening data messages, what an authenticated one tells about its peer, and the queues of
//! peers without a session.

use std::net::SocketAddr;
use std::time::Instant;

use sanstun::{Committed, Datagram, Error, Interface, Received, ReceivedMessage};

use super::peer::{Peer, Reach};
use super::{
    DATA_OVERHEAD, HEADER_LEN, Local, MAX_TRANSMITS, Opened, PeerHandle, QUEUES_BYTES, Sealed, SendError, Transmit,
    TunnelDrop, Tunnels, sealed_len,
};

/// What became of the attempt to send a peer's oldest queued payload.
pub(super) enum Flush {
    Sent(Transmit),
    More,
    Done,
    NoSession,
}

impl Tunnels {
    /// The library demands a clock that never goes back.
    #[inline]
    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    #[cold]
    pub(super) fn refuse(&mut self, reason: TunnelDrop, error: SendError) -> SendError {
        self.counters.count(reason);
        error
    }

    pub(super) fn interface_mut(&mut self, via: Local) -> Option<&mut Interface> {
        match via {
            Local::Own => Some(&mut self.own),
            Local::Join => self.join.as_mut(),
        }
    }

    pub(super) fn open_data(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut [u8],
        now: Instant,
    ) -> Result<Opened, TunnelDrop> {
        if datagram.len() < DATA_OVERHEAD {
            return Err(TunnelDrop::Short);
        }
        // A data message is only parsed here, so it does not matter which interface does it.
        let Ok(Received::Message(ReceivedMessage::TransportData(message))) = self.own.receive(from, datagram, now)
        else {
            return Err(TunnelDrop::Malformed);
        };
        let slot = *self.ids.get(&message.tunnel_id()).ok_or(TunnelDrop::NoSession)?;
        let peer = self.peers.at(slot).ok_or(TunnelDrop::NoSession)?;
        let state = self.peers.get_mut(peer).ok_or(TunnelDrop::NoSession)?;
        let tunnel = state.tunnel.as_mut().ok_or(TunnelDrop::NoSession)?;
        let pending = tunnel.begin_decapsulate(message, now).map_err(data_drop)?;
        if out.len() < datagram.len() - HEADER_LEN {
            return Err(TunnelDrop::BufferTooSmall);
        }
        let decrypted = pending.decrypt(datagram, out);
        let committed = tunnel.commit_decapsulate(decrypted, now).map_err(data_drop)?;
        self.deadlines.touch(slot);
        let via = state.via;
        let opened = match committed {
            Committed::Data { len, .. } => {
                self.counters.opened += 1;
                Opened::Data { peer, len, via }
            }
            Committed::Keepalive => {
                self.counters.keepalives_received += 1;
                Opened::Keepalive { peer }
            }
        };
        self.heard(peer, from, now);
        Ok(opened)
    }

    /// After an authenticated data message. The common case does nothing but compare.
    pub(super) fn heard(&mut self, peer: PeerHandle, from: SocketAddr, now: Instant) {
        self.handle_tunnel_events(peer, now);
        let Some(state) = self.peers.get_mut(peer) else {
            return;
        };
        if let Some(attempt) = &mut state.attempt {
            attempt.since = now;
            attempt.reported = false;
        }
        if let (Some(since), Some(tunnel)) = (state.hold, &state.tunnel) {
            let age = tunnel.time_since_last_handshake(now);
            if age.is_some_and(|age| age < now.duration_since(since)) {
                state.hold = None;
            }
        }
        let back = std::mem::take(&mut state.silent);
        if back {
            self.tell_reach(peer, Reach::Established);
        }
        self.moved(peer, from);
        self.release(peer);
    }

    /// Puts a peer whose queue may be sent on the list.
    pub(super) fn release(&mut self, peer: PeerHandle) {
        if let Some(state) = self.peers.get_mut(peer)
            && state.hold.is_none()
            && !state.queue.is_empty()
            && !std::mem::replace(&mut state.ready, true)
        {
            self.ready.push_back(peer);
        }
    }

    /// An authenticated message of `peer` came from `from`.
    pub(super) fn moved(&mut self, peer: PeerHandle, from: SocketAddr) {
        if let Some(state) = self.peers.get_mut(peer)
            && state.endpoint != Some(from)
        {
            state.endpoint = Some(from);
            state.news.endpoint = true;
            self.list_news(peer);
        }
    }

    pub(super) fn tell_reach(&mut self, peer: PeerHandle, reach: Reach) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.news.reach = Some(reach);
            self.list_news(peer);
        }
    }

    pub(super) fn list_news(&mut self, peer: PeerHandle) {
        if let Some(state) = self.peers.get_mut(peer)
            && !std::mem::replace(&mut state.news.listed, true)
        {
            self.news.push_back(peer);
        }
    }

    #[cold]
    pub(super) fn enqueue(&mut self, peer: PeerHandle, payload: &[u8], now: Instant) -> Result<Sealed, SendError> {
        let Some(state) = self.peers.get_mut(peer) else {
            return Err(self.refuse(TunnelDrop::UnknownPeer, SendError::UnknownPeer));
        };
        if state.endpoint.is_none() {
            return Err(self.refuse(TunnelDrop::NoEndpoint, SendError::NoEndpoint));
        }
        let before = state.queue.bytes();
        let stale = state.queue.drop_stale(now);
        let after_stale = state.queue.bytes();
        self.queued_bytes -= before - after_stale;
        self.counters.count_many(TunnelDrop::QueueStale, stale);
        if self.queued_bytes + payload.len() > QUEUES_BYTES {
            return Err(self.refuse(TunnelDrop::QueuesFull, SendError::QueuesFull));
        }
        let displaced = state.queue.push(payload, now);
        self.queued_bytes = self.queued_bytes - after_stale + state.queue.bytes();
        self.counters.count_many(TunnelDrop::QueueFull, displaced);
        self.counters.queued += 1;
        if !state.ready {
            self.initiate(peer, false, now);
        }
        Ok(Sealed::Queued { displaced })
    }

    pub(super) fn seal_queued(&mut self, peer: PeerHandle, out: &mut [u8], now: Instant) -> Flush {
        let Some(state) = self.peers.get_mut(peer) else {
            return Flush::Done;
        };
        let before = state.queue.bytes();
        let stale = state.queue.drop_stale(now);
        self.counters.count_many(TunnelDrop::QueueStale, stale);
        let flush = flush_one(state, out, now);
        match &flush {
            Flush::Sent(_) => {
                self.counters.sealed += 1;
                self.deadlines.touch(peer.slot);
            }
            Flush::More => self.counters.count(TunnelDrop::BufferTooSmall),
            Flush::Done | Flush::NoSession => {
                state.ready = false;
                state.queue.shrink();
            }
        }
        self.queued_bytes -= before - state.queue.bytes();
        flush
    }

    pub(super) fn transmit(&mut self, to: SocketAddr, datagram: Datagram) {
        if self.transmits.len() >= MAX_TRANSMITS {
            self.transmits.pop_front();
            self.counters.count(TunnelDrop::NotFetched);
        }
        self.transmits.push_back((to, datagram));
    }
}

/// Seals the oldest payload of a peer's queue.
fn flush_one(state: &mut Peer, out: &mut [u8], now: Instant) -> Flush {
    if state.hold.is_some() {
        return Flush::Done;
    }
    let Some(payload) = state.queue.front() else {
        return Flush::Done;
    };
    let (Some(tunnel), Some(to)) = (&mut state.tunnel, state.endpoint) else {
        return Flush::NoSession;
    };
    if out.len() < sealed_len(payload.len()) {
        state.queue.pop();
        return Flush::More;
    }
    let Ok(pending) = tunnel.begin_encapsulate(now) else {
        return Flush::NoSession;
    };
    let sealed = pending.encrypt(payload, out).map(|message| message.len());
    state.queue.pop();
    match sealed {
        Ok(len) => Flush::Sent(Transmit { to, len }),
        Err(_) => Flush::More,
    }
}

fn data_drop(error: Error) -> TunnelDrop {
    match error {
        Error::InvalidAeadTag => TunnelDrop::BadData,
        Error::DuplicateCounter | Error::InvalidCounter => TunnelDrop::ReplayedData,
        Error::DestinationBufferTooSmall { .. } => TunnelDrop::BufferTooSmall,
        _ => TunnelDrop::NoSession,
    }
}
