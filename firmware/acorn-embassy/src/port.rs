//! Where an overlay stack is joined to the node: the state of its instance, shared by the application's handle and the runner.

use core::cell::RefCell;
use core::task::{Context, Poll};

use acorn_core::ServiceName;
use acorn_core::router::Attachment;
use acorn_core::sync::client::RequestId;
use acorn_core::sync::message::Refusal;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::waitqueue::WakerRegistration;

/// How far the instance of an overlay stack is.
#[derive(Clone, Debug)]
pub(crate) enum PortState {
    /// There is none.
    Free,
    /// The application wants one: of this service, or without a service.
    Wanted(Option<ServiceName>),
    /// The manager has been asked.
    Asked(RequestId),
    /// The application does not want it any more before the manager has answered.
    GivenUp(RequestId),
    /// It is attached.
    Attached(Attachment),
    /// The application takes it out.
    Leaving(Attachment),
    /// The manager refuses it.
    Refused(Refusal),
    /// It was attached, and is no more.
    Lost,
}

struct Inner {
    /// Empty when free: that is all zero bytes, which [`PortState`] is not.
    state: heapless::Vec<PortState, 1>,
    waiter: WakerRegistration,
}

impl Inner {
    fn state(&self) -> &PortState {
        self.state.first().unwrap_or(&PortState::Free)
    }
}

pub(crate) struct PortCell(Mutex<NoopRawMutex, RefCell<Inner>>);

impl PortCell {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(RefCell::new(Inner { state: heapless::Vec::new(), waiter: WakerRegistration::new() })))
    }

    pub(crate) fn state(&self) -> PortState {
        self.0.lock(|inner| inner.borrow().state().clone())
    }

    /// Looks at the state without copying it.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&PortState) -> R) -> R {
        self.0.lock(|inner| look(inner.borrow().state()))
    }

    pub(crate) fn set(&self, state: PortState) {
        self.0.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            inner.state.clear();
            let _ = inner.state.push(state);
            inner.waiter.wake();
        });
    }

    /// Ready with what `look` makes of the state; registers the waker when that is none.
    pub(crate) fn poll<R>(&self, cx: &mut Context<'_>, look: impl FnOnce(&PortState) -> Option<R>) -> Poll<R> {
        self.0.lock(|inner| {
            let inner = &mut *inner.borrow_mut();
            match look(inner.state()) {
                Some(result) => Poll::Ready(result),
                None => {
                    inner.waiter.register(cx.waker());
                    Poll::Pending
                }
            }
        })
    }
}
