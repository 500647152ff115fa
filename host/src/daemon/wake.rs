//! Waking a thread that sleeps in poll(2).

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// An eventfd(2): readable from the first [`wake`](Self::wake) to the next [`clear`](Self::clear).
pub struct Waker(EventFd);

impl Waker {
    /// A new one, not readable.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new() -> nix::Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map(Self)
    }

    /// Makes the sleeper look.
    pub fn wake(&self) {
        // It fails only when the counter is at its maximum, and then it is readable.
        let _ = self.0.write(1);
    }

    /// Takes the wake-ups back, before looking.
    pub fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
