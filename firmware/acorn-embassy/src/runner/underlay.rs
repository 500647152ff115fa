//! The node's UDP port on the underlay.
//!
//! A stack that looks for a neighbour holds everything back that its socket has to send. So one peer that is switched off would hold
//! up all others behind its unanswered ARP requests. Therefore there are several sockets on the one port: one receives, and sends to
//! peers that were heard lately; a small one for each other peer, for handshakes; and one for answers to whoever claims an address, and for what is too long for the small ones.

use core::future::Future;
use core::net::{IpAddr, SocketAddrV4};
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embassy_net::Stack;
use embassy_net::udp::UdpSocket;
use embassy_time::{Duration, Instant, Timer, with_timeout};

use crate::tunnels::{Transmit, Way};

/// A peer that was heard lately and whose datagrams have not left for this long is not where it was: what waits is dropped.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// What has not left a lane for this long is dropped: its receiver does not answer ARP requests. Otherwise the stack would ask for it every
/// second for ever; and as it sends one request a second in all, for nobody else.
const UNANSWERED_AFTER: Duration = Duration::from_millis(1_500);

/// The time between two looks for the network at the start, at first and at last.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(640);

struct Lane<'a> {
    socket: UdpSocket<'a>,
    /// Which peer it serves; 0 for none yet.
    peer: u32,
    /// When it was last used, in the order of all.
    turn: u32,
    /// Since when something may wait in it.
    since: Option<Instant>,
}

pub(crate) struct Underlay<'a, const PEERS: usize> {
    stack: Stack<'a>,
    port: u16,
    live: UdpSocket<'a>,
    lanes: heapless::Vec<Lane<'a>, PEERS>,
    stray: UdpSocket<'a>,
    stray_since: Option<Instant>,
    turn: u32,
    /// Datagrams that were not sent.
    pub(crate) dropped: u32,
    /// Datagrams that were not taken in.
    pub(crate) strange: u32,
}

impl<'a, const PEERS: usize> Underlay<'a, PEERS> {
    pub(crate) fn new(
        stack: Stack<'a>,
        port: u16,
        live: UdpSocket<'a>,
        lanes: heapless::Vec<UdpSocket<'a>, PEERS>,
        stray: UdpSocket<'a>,
    ) -> Self {
        let lanes = lanes.into_iter().map(|socket| Lane { socket, peer: 0, turn: 0, since: None }).collect();
        let mut underlay = Self { stack, port, live, lanes, stray, stray_since: None, turn: 0, dropped: 0, strange: 0 };
        bind(&mut underlay.live, port);
        underlay.lanes.iter_mut().for_each(|lane| bind(&mut lane.socket, port));
        bind(&mut underlay.stray, port);
        underlay
    }

    /// Whether datagrams can be sent at all.
    pub(crate) fn is_up(&self) -> bool {
        self.stack.is_link_up() && self.stack.config_v4().is_some()
    }

    /// Waits until datagrams can be sent. The stack's own wait has room for one task, which is the application's.
    pub(crate) async fn wait_up(&self) {
        let mut pause = FIRST_LOOK;
        while !self.is_up() {
            Timer::after(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }

    /// Ready when a datagram has come.
    pub(crate) fn poll_received(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.live.poll_recv_ready(cx)
    }

    /// Takes a datagram that has come into `datagram`. None when there is none, or it is none of this network's.
    pub(crate) fn receive(&mut self, datagram: &mut [u8]) -> Option<(usize, SocketAddrV4)> {
        let mut cx = Context::from_waker(Waker::noop());
        match self.live.poll_recv_from(datagram, &mut cx) {
            Poll::Ready(Ok((len, meta))) => match IpAddr::from(meta.endpoint.addr) {
                IpAddr::V4(address) => Some((len, SocketAddrV4::new(address, meta.endpoint.port))),
                IpAddr::V6(_) => {
                    self.strange = self.strange.wrapping_add(1);
                    None
                }
            },
            Poll::Ready(Err(_)) => {
                self.strange = self.strange.wrapping_add(1);
                None
            }
            Poll::Pending => None,
        }
    }

    /// Sends a datagram. Waits for room only on the way to peers that were heard lately.
    pub(crate) async fn send(&mut self, transmit: Transmit, datagram: &[u8]) {
        let datagram = datagram.get(..transmit.len).unwrap_or(datagram);
        if !self.is_up() {
            self.dropped = self.dropped.wrapping_add(1);
            return;
        }
        let port = self.port;
        let sent = match transmit.way {
            Way::Live => match with_timeout(STUCK_AFTER, self.live.send_to(datagram, transmit.to)).await {
                Ok(sent) => sent.is_ok(),
                Err(_) => {
                    bind(&mut self.live, port);
                    false
                }
            },
            Way::Unsure(peer) => self.send_unsure(peer, datagram, transmit.to),
            Way::Stray => self.send_stray(datagram, transmit.to),
        };
        if !sent {
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Drops what has waited longest, when that is too long. One at a time: the others may not have had their turn to ask.
    pub(crate) fn tidy(&mut self, now: Instant) {
        let lanes = self.lanes.iter_mut().map(|lane| (&mut lane.socket, &mut lane.since));
        let mut oldest: Option<(&mut UdpSocket<'_>, &mut Option<Instant>)> = None;
        for (socket, since) in lanes.chain([(&mut self.stray, &mut self.stray_since)]) {
            if since.is_some() && is_empty(socket) {
                *since = None;
            }
            if since.is_some() && oldest.as_ref().is_none_or(|(_, old)| *since < **old) {
                oldest = Some((socket, since));
            }
        }
        let Some((socket, since)) = oldest else {
            return;
        };
        if since.is_none_or(|since| now.saturating_duration_since(since) < UNANSWERED_AFTER) {
            return;
        }
        bind(socket, self.port);
        *since = None;
        for since in self.lanes.iter_mut().map(|lane| &mut lane.since).chain([&mut self.stray_since]) {
            *since = since.map(|_| now);
        }
    }

    /// When [`Self::tidy`] has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().map(|lane| lane.since).chain([self.stray_since]);
        waiting.flatten().min().map(|since| since + UNANSWERED_AFTER)
    }

    fn send_stray(&mut self, datagram: &[u8], to: SocketAddrV4) -> bool {
        self.stray_since = Some(Instant::now());
        send_now(&mut self.stray, self.port, datagram, to)
    }

    /// Sends a datagram to a peer that may not be there.
    fn send_unsure(&mut self, peer: u32, datagram: &[u8], to: SocketAddrV4) -> bool {
        let port = self.port;
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let place = match self.lanes.iter().position(|lane| lane.peer == peer) {
            Some(place) => Some(place),
            None => self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.turn).map(|(place, _)| place),
        };
        let Some(lane) = place.and_then(|place| self.lanes.get_mut(place)) else {
            return false;
        };
        if lane.socket.payload_send_capacity() < datagram.len() {
            // Lanes are for handshakes. A payload is this long only for a peer that was silent for a while.
            return self.send_stray(datagram, to);
        }
        if lane.peer != peer {
            // What waits there is for another peer.
            bind(&mut lane.socket, port);
            lane.peer = peer;
        }
        lane.turn = turn;
        lane.since = Some(Instant::now());
        send_now(&mut lane.socket, port, datagram, to)
    }
}

/// Sends a datagram in place of those that have not left yet.
fn send_now(socket: &mut UdpSocket<'_>, port: u16, datagram: &[u8], to: SocketAddrV4) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    if let Poll::Ready(sent) = socket.poll_send_to(datagram, to, &mut cx) {
        return sent.is_ok();
    }
    bind(socket, port);
    matches!(socket.poll_send_to(datagram, to, &mut cx), Poll::Ready(Ok(())))
}

/// Whether everything has left a socket.
fn is_empty(socket: &mut UdpSocket<'_>) -> bool {
    pin!(socket.flush()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Opens a socket on the port; what waited in it is gone.
fn bind(socket: &mut UdpSocket<'_>, port: u16) {
    socket.close();
    // The port is not 0 and the socket is closed: it can't fail.
    let _ = socket.bind(port);
}

#[cfg(test)]
mod tests;
