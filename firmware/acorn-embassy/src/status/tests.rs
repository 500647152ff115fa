//! What handles see of what the runner writes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::*;

/// Counts how often it is woken.
#[derive(Default)]
pub(crate) struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    pub(crate) fn rings(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[test]
fn who_waits_for_a_change_is_woken_by_a_new_standing_and_by_nothing_else() {
    let cell = NodeCell::new();
    let handle = NodeStatus { cell: &cell };
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    let mut change = pin!(handle.changed_since(handle.changes()));
    assert!(change.as_mut().poll(&mut cx).is_pending());
    cell.update(|status| status.flows = 7);
    assert_eq!(bell.rings(), 0);
    assert!(change.as_mut().poll(&mut cx).is_pending());
    assert_eq!(handle.get().flows, 7, "the snapshot is there all the same");

    cell.update(|status| status.standing = Standing::Member);
    assert_eq!((bell.rings(), handle.changes()), (1, 1));
    let Poll::Ready(status) = change.as_mut().poll(&mut cx) else {
        panic!("it has changed");
    };
    assert_eq!((status.standing, status.flows), (Standing::Member, 7));
    cell.update(|status| status.has_joined = true);
    assert_eq!(handle.changes(), 2, "that the own key is known now is news");
    assert!(pin!(handle.changed_since(1)).poll(&mut cx).is_ready(), "what was missed is seen at once");
}

#[test]
fn the_runner_is_asked_once_however_often_it_was() {
    let cell = NodeCell::new();
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut cx = Context::from_waker(&waker);
    assert!(cell.poll_asked(&mut cx).is_pending());
    cell.ask();
    cell.ask();
    assert_eq!(bell.rings(), 1);
    assert!(cell.poll_asked(&mut cx).is_ready());
    assert!(cell.poll_asked(&mut cx).is_pending());
    cell.ask();
    assert_eq!(bell.rings(), 2);
}

#[test]
fn drops_are_listed_by_reason_and_added_up() {
    let mut status = Status::new();
    assert_eq!(status.drops().count(), 0);
    let counted = [(DropReason::ALL[0], 3), (DropReason::ALL[2], 4)];
    status.set_drops(|reason| counted.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count));
    assert!(status.drops().eq(counted.map(|(reason, count)| (reason, count as u32))));
    assert_eq!(status.counters.dropped, 7);
}

#[test]
fn every_standing_says_what_it_means_and_no_two_the_same() {
    let refused = [Refusal::JoinKey, Refusal::Full].map(Standing::Refused);
    let others = [
        Standing::NoUnderlay,
        Standing::Joining,
        Standing::ManagerSilent,
        Standing::ManagerVersion(9),
        Standing::Member,
        Standing::Alone,
    ];
    let mut meanings: Vec<_> = others.iter().chain(&refused).map(Standing::meaning).collect();
    assert!(meanings.iter().all(|meaning| !meaning.is_empty()));
    meanings.sort_unstable();
    meanings.dedup();
    assert_eq!(meanings.len(), others.len() + refused.len());
}
