//! Address clashes on the underlay: another node that uses this node's IPv4 address (RFC 5227). Without the watch, a clash looks like a
//! link that loses packets for no reason.
//!
//! [`ClashWatch`] goes around an Ethernet driver. It passes every frame on unchanged, reads the ARP frames (RFC 826) among those received,
//! and sends a few of its own. [`Clashes`] is the handle for the rest of the firmware: it tells the watch the address, and is told of
//! clashes.
//!
//! Where this departs from RFC 5227, and why:
//! - *Section 2.1.1 asks for three probes, one or two seconds apart, after up to a second of waiting, before the address is used.* A board
//!   has to have joined by then. One probe goes out at once and the first announcement right behind it; the second announcement follows
//!   after [`ANNOUNCE_INTERVAL`], as section 2.3 asks. So a clash is found after the address has come into use, not before.
//! - *Section 2.1.1 forbids an address that is found in use.* The watch only reports: whether to take another address is for the
//!   firmware, which may have none. But it is the other node that was here before, so the watch says nothing more about the address and
//!   does not defend it, until it is set anew or the link comes up again.
//! - *Section 2.4:* once the second announcement is out, the address is defended as in case (c), for nodes that need a stable address: one
//!   announcement per [`DEFEND_INTERVAL`] at most, and never given up.
//! - *A node answers probes* (section 2.1.1), and smoltcp does not: it discards whatever has no sender address. The watch answers.

mod arp;
mod claim;

use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::net::Ipv4Addr;
use core::pin::pin;
use core::task::{Context, Poll};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::blocking_mutex::{Mutex, raw::NoopRawMutex};
use embassy_sync::waitqueue::WakerRegistration;
use embassy_time::{Duration, Instant, Timer};

use arp::Heard;
use claim::Claim;

/// How long after its first announcement an address is announced again (RFC 5227 section 1.1).
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(2);
/// The least time between two announcements in defence of an address (RFC 5227 section 1.1), and between two notices of a clash.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Another node uses this node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The address, this node's own.
    pub address: Ipv4Addr,
    /// The other node's hardware address, as its ARP packet tells it.
    pub other: [u8; 6],
    /// When the packet was received.
    pub at: Instant,
}

/// What a [`ClashWatch`] and the rest of the firmware share. Both must run on the same executor: the handle is not [`Sync`].
pub struct Clashes(Mutex<NoopRawMutex, RefCell<Shared>>);

struct Shared {
    claim: Claim,
    clashes: u32,
    last: Option<Clash>,
    /// The clash that [`Clashes::wait`] has yet to hand out.
    notice: Option<Clash>,
    /// No other notice before.
    quiet_until: Instant,
    waiter: WakerRegistration,
    /// The task of the network stack, which polls the driver.
    stack: WakerRegistration,
}

impl Clashes {
    /// A handle without an address: nothing is a clash, and nothing is sent.
    pub const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Shared {
            claim: Claim::new(),
            clashes: 0,
            last: None,
            notice: None,
            quiet_until: Instant::MIN,
            waiter: WakerRegistration::new(),
            stack: WakerRegistration::new(),
        })))
    }

    /// Tells the watch this node's own address on the underlay; call it when the stack's configuration changes. The address is probed for
    /// and announced as soon as the link is up. The same address again changes nothing, `None` ends the watch, and so does an address
    /// that no node can have: an unspecified, a multicast or the broadcast one.
    pub fn set_address(&self, address: Option<Ipv4Addr>) {
        self.with(|shared| {
            if shared.claim.set_address(address) {
                shared.notice = None;
                shared.quiet_until = Instant::MIN;
                shared.stack.wake();
            }
        });
    }

    /// How many ARP packets from other nodes with this node's address have been received since the start; it stops at the maximum.
    pub fn clashes(&self) -> u32 {
        self.with(|shared| shared.clashes)
    }

    /// The clash seen last, of whichever address was this node's at that time.
    pub fn last(&self) -> Option<Clash> {
        self.with(|shared| shared.last)
    }

    /// Waits for the next notice of a clash. The first clash of an address gives a notice, and then one every [`DEFEND_INTERVAL`] at most
    /// while the clash goes on, so that what reports it isn't flooded (RFC 5227 section 2.4 c). A notice that came when nobody waited
    /// is handed out at once. One task may wait at a time.
    pub async fn wait(&self) -> Clash {
        poll_fn(|cx| {
            self.with(|shared| match shared.notice.take() {
                Some(clash) => Poll::Ready(clash),
                None => {
                    shared.waiter.register(cx.waker());
                    Poll::Pending
                }
            })
        })
        .await
    }

    /// Looks at a frame that the node with hardware address `own` has received.
    fn hear(&self, own: [u8; 6], frame: &[u8]) {
        let Some(heard) = Heard::in_frame(frame) else {
            return;
        };
        let now = Instant::now();
        self.with(|shared| {
            let Some(clash) = shared.claim.hear(now, own, &heard) else {
                return;
            };
            shared.clashes = shared.clashes.saturating_add(1);
            shared.last = Some(clash);
            if shared.quiet_until <= now {
                shared.quiet_until = now.saturating_add(DEFEND_INTERVAL);
                shared.notice = Some(clash);
                shared.waiter.wake();
            }
        });
    }

    fn with<R>(&self, f: impl FnOnce(&mut Shared) -> R) -> R {
        self.0.lock(|shared| f(&mut shared.borrow_mut()))
    }
}

impl Default for Clashes {
    fn default() -> Self {
        Self::new()
    }
}

/// An Ethernet driver that watches for address clashes. Around a driver without Ethernet addresses it does nothing.
///
/// No received frame makes it panic, and its own work on one is bounded: at most two frames of 42 octets are sent per call.
pub struct ClashWatch<'c, D: Driver> {
    inner: D,
    clashes: &'c Clashes,
}

impl<'c, D: Driver> ClashWatch<'c, D> {
    /// Puts a watch around a driver; give the result to the network stack in its place. One handle serves one watch.
    pub const fn new(inner: D, clashes: &'c Clashes) -> Self {
        Self { inner, clashes }
    }

    /// The driver's own hardware address, if it has one that ARP can be about.
    fn own(&self) -> Option<[u8; 6]> {
        match self.inner.hardware_address() {
            HardwareAddress::Ethernet(own) => Some(own),
            _ => None,
        }
    }

    /// Sends what is due, and has the stack's task woken for what will be.
    fn serve(&mut self, cx: &mut Context) {
        let Some(own) = self.own() else {
            return;
        };
        let now = Instant::now();
        self.clashes.with(|shared| shared.stack.register(cx.waker()));
        while let Some((message, address)) = self.clashes.with(|shared| shared.claim.due(now)) {
            // Without room the driver wakes the task when there is some.
            let Some(token) = self.inner.transmit(cx) else {
                break;
            };
            let frame = message.frame(own, address);
            token.consume(frame.len(), |buffer| {
                if let Some(buffer) = buffer.get_mut(..frame.len()) {
                    buffer.copy_from_slice(&frame);
                }
            });
            self.clashes.with(|shared| shared.claim.sent(now, message));
        }
        if let Some(at) = self.clashes.with(|shared| shared.claim.next(now)) {
            // Polled once, a timer leaves a wake-up behind that outlives it; the next call sets it again if it is still wanted.
            let _ = pin!(Timer::at(at)).poll(cx);
        }
    }
}

impl<D: Driver> Driver for ClashWatch<'_, D> {
    type RxToken<'a>
        = WatchedToken<'a, D::RxToken<'a>>
    where
        Self: 'a;
    type TxToken<'a>
        = D::TxToken<'a>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        self.serve(cx);
        let (own, clashes) = (self.own(), self.clashes);
        self.inner.receive(cx).map(|(rx, tx)| (WatchedToken { inner: rx, clashes, own }, tx))
    }

    fn transmit(&mut self, cx: &mut Context) -> Option<Self::TxToken<'_>> {
        self.serve(cx);
        self.inner.transmit(cx)
    }

    fn link_state(&mut self, cx: &mut Context) -> LinkState {
        let state = self.inner.link_state(cx);
        self.clashes.with(|shared| shared.claim.set_link(state == LinkState::Up));
        self.serve(cx);
        state
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.inner.hardware_address()
    }
}

/// A received frame, looked at when it is taken.
pub struct WatchedToken<'a, T> {
    inner: T,
    clashes: &'a Clashes,
    own: Option<[u8; 6]>,
}

impl<T: RxToken> RxToken for WatchedToken<'_, T> {
    fn consume<R, F>(self, f: F) -> R
    where
        F: FnOnce(&mut [u8]) -> R,
    {
        let Self { inner, clashes, own } = self;
        inner.consume(|frame| {
            if let Some(own) = own {
                clashes.hear(own, frame);
            }
            f(frame)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
