//! Pools run dry and filled again, and compared with a simple model.

#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

const fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Takes all of a pool, gives all back, takes all again: nothing twice, nothing lost, nothing before its time.
fn exhaust<const N: usize>(pool: &mut Pool<N>) {
    const QUARANTINE: u64 = 60_000;
    let limit = pool.limit();
    let all: Vec<u32> = (pool.first()..=pool.last()).collect();
    assert_eq!(all.len(), limit as usize);

    let given: Vec<u32> = all.iter().map(|_| pool.allocate(at(0)).unwrap()).collect();
    assert_eq!(given, all, "lowest first");
    let dry = PoolError::Exhausted { limit, retry_at: None };
    assert_eq!(pool.allocate(at(0)), Err(dry));
    assert_eq!(pool.allocate_top(at(0)), Err(dry));

    // Released from the highest on, one per millisecond.
    for (millis, &offset) in given.iter().rev().enumerate() {
        pool.release(offset, at(QUARANTINE + millis as u64)).unwrap();
    }
    assert_eq!(pool.counts().released, limit);
    assert_eq!(pool.allocate(at(QUARANTINE - 1)), Err(PoolError::Exhausted { limit, retry_at: Some(at(QUARANTINE)) }));
    for (millis, &expected) in all.iter().rev().enumerate() {
        let now = at(QUARANTINE + millis as u64);
        assert_eq!(pool.allocate(now), Ok(expected), "oldest first");
        if expected != pool.first() {
            assert_eq!(
                pool.allocate(now),
                Err(PoolError::Exhausted {
                    limit,
                    retry_at: Some(now.saturating_add(core::time::Duration::from_millis(1)))
                })
            );
        }
    }
    assert_eq!(pool.allocate(Instant::MAX), Err(dry));
    assert_eq!(pool.counts().taken, limit);
}

#[test]
fn all_65_534_service_addresses_are_given_once_and_again_after_their_quarantine() {
    static POOL: Mutex<Pool<65_536>> = Mutex::new(Pool::new(1, 65_534));
    let mut pool = POOL.lock().unwrap();
    assert_eq!(pool.limit(), 65_534);
    exhaust(&mut pool);
}

#[test]
fn all_1_024_worker_subnets_are_given_once_and_again_after_their_quarantine() {
    let mut pool: Pool<1_024> = Pool::new(0, 1_023);
    assert_eq!(pool.limit(), 1_024);
    exhaust(&mut pool);
}

#[test]
fn all_62_namespace_addresses_are_given_once_and_again_after_their_quarantine() {
    let mut pool: Pool<64> = Pool::new(1, 62);
    assert_eq!(pool.limit(), 62);
    exhaust(&mut pool);
}

#[test]
fn a_custom_offset_ahead_of_the_pointer_is_never_given_twice() {
    let mut pool: Pool<16> = Pool::new(1, 14);
    pool.reserve(2, at(0)).unwrap();
    pool.reserve(14, at(0)).unwrap();
    assert_eq!(pool.reserve(2, at(0)), Err(PoolError::AlreadyTaken));
    let low: Vec<_> = (0..3).map(|_| pool.allocate(at(0)).unwrap()).collect();
    assert_eq!(low, [1, 3, 4]);
    assert_eq!(pool.allocate_top(at(0)), Ok(13));
    // Given back before the pointer gets there: it comes through the queue, once.
    pool.reserve(6, at(0)).unwrap();
    pool.release(6, at(10)).unwrap();
    let rest: Vec<_> = core::iter::from_fn(|| pool.allocate(at(9)).ok()).collect();
    assert_eq!(rest, [5, 7, 8, 9, 10, 11, 12]);
    assert_eq!(pool.allocate(at(10)), Ok(6));
    assert!(matches!(pool.allocate(at(10)), Err(PoolError::Exhausted { retry_at: None, .. })));
}

#[test]
fn a_released_offset_can_be_reserved_only_after_its_quarantine() {
    let mut pool: Pool<16> = Pool::new(1, 14);
    for offset in [3, 4, 5] {
        pool.reserve(offset, at(0)).unwrap();
        pool.release(offset, at(10)).unwrap();
    }
    assert_eq!(pool.reserve(4, at(9)), Err(PoolError::InQuarantine { ready_at: at(10) }));
    assert_eq!(pool.reserve(4, at(10)), Ok(()));
    assert_eq!(pool.allocate(at(10)), Ok(3));
    assert_eq!(pool.allocate(at(10)), Ok(5));
}

#[test]
fn a_later_quarantine_does_not_hold_up_an_earlier_one() {
    let mut pool: Pool<4> = Pool::new(0, 3);
    for _ in 0..4 {
        pool.allocate(at(0)).unwrap();
    }
    for (offset, ready_at) in [(0, 300), (1, 100), (2, 200), (3, 100)] {
        pool.release(offset, at(ready_at)).unwrap();
    }
    let order: Vec<_> = [100, 100, 200, 300].iter().map(|&now| pool.allocate(at(now)).unwrap()).collect();
    assert_eq!(order, [1, 3, 2, 0]);
}

#[test]
fn what_is_not_allocated_cannot_be_released() {
    let mut pool: Pool<8> = Pool::new(1, 6);
    assert_eq!(pool.release(1, at(0)), Err(PoolError::NotAllocated));
    pool.allocate(at(0)).unwrap();
    pool.release(1, at(0)).unwrap();
    assert_eq!(pool.release(1, at(0)), Err(PoolError::NotAllocated));
    for outside in [0, 7, 8, u32::MAX] {
        assert_eq!(pool.release(outside, at(0)), Err(PoolError::OutOfRange));
        assert_eq!(pool.reserve(outside, at(0)), Err(PoolError::OutOfRange));
    }
}

#[test]
fn a_pool_without_offsets_is_exhausted() {
    let dry = Err(PoolError::Exhausted { limit: 0, retry_at: None });
    assert_eq!(Pool::<8>::new(5, 4).allocate(at(0)), dry);
    assert_eq!(Pool::<0>::new(0, 0).allocate_top(at(0)), dry);
    assert_eq!(Pool::<8>::new(9, 12).allocate(at(0)), dry);
    // More than the slots hold: cut off.
    assert_eq!(Pool::<8>::new(2, 100).limit(), 6);
}

/// What a pool is to do, said with a sorted list.
#[derive(Default)]
struct Model {
    first: u32,
    last: u32,
    given_ever: Vec<u32>,
    taken: Vec<u32>,
    /// In the order of release.
    released: Vec<(Instant, u32)>,
}

impl Model {
    fn fresh(&self) -> impl DoubleEndedIterator<Item = u32> {
        (self.first..=self.last).filter(|offset| !self.given_ever.contains(offset))
    }

    fn oldest_ready(&self, now: Instant) -> Option<u32> {
        let ready = self.released.iter().filter(|&&(at, _)| at <= now);
        // The first of those that are ready earliest.
        ready.min_by_key(|&&(at, _)| at).map(|&(_, offset)| offset)
    }

    fn exhausted(&self) -> PoolError {
        PoolError::Exhausted {
            limit: self.last + 1 - self.first,
            retry_at: self.released.iter().map(|&(at, _)| at).min(),
        }
    }

    fn take(&mut self, offset: u32) -> u32 {
        self.given_ever.push(offset);
        self.released.retain(|&(_, other)| other != offset);
        self.taken.push(offset);
        offset
    }

    fn allocate(&mut self, now: Instant) -> Result<u32, PoolError> {
        let choice = self.oldest_ready(now).or_else(|| self.fresh().next());
        choice.map(|offset| self.take(offset)).ok_or(self.exhausted())
    }

    fn allocate_top(&mut self, now: Instant) -> Result<u32, PoolError> {
        let choice = self.fresh().next_back().or_else(|| self.oldest_ready(now));
        choice.map(|offset| self.take(offset)).ok_or(self.exhausted())
    }

    fn reserve(&mut self, offset: u32, now: Instant) -> Result<(), PoolError> {
        if offset < self.first || offset > self.last {
            return Err(PoolError::OutOfRange);
        }
        if self.taken.contains(&offset) {
            return Err(PoolError::AlreadyTaken);
        }
        if let Some(&(ready_at, _)) = self.released.iter().find(|&&(_, other)| other == offset)
            && ready_at > now
        {
            return Err(PoolError::InQuarantine { ready_at });
        }
        self.take(offset);
        Ok(())
    }

    fn release(&mut self, offset: u32, ready_at: Instant) -> Result<(), PoolError> {
        if offset < self.first || offset > self.last {
            return Err(PoolError::OutOfRange);
        }
        if !self.taken.contains(&offset) {
            return Err(PoolError::NotAllocated);
        }
        self.taken.retain(|&other| other != offset);
        self.released.push((ready_at, offset));
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Allocate,
    AllocateTop,
    Reserve(u32),
    Release(u32, u64),
    Wait(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => Just(Operation::Allocate),
        1 => Just(Operation::AllocateTop),
        2 => (0..18_u32).prop_map(Operation::Reserve),
        4 => (0..18_u32, 0..40_u64).prop_map(|(offset, quarantine)| Operation::Release(offset, quarantine)),
        2 => (0..30_u64).prop_map(Operation::Wait),
    ]
}

proptest! {
    #[test]
    fn any_sequence_of_operations_gives_what_the_model_gives(
        first in 0..4_u32,
        last in 10..16_u32,
        operations in prop::collection::vec(operation(), 1..200),
    ) {
        let mut pool: Pool<16> = Pool::new(first, last);
        let mut model = Model { first, last, ..Model::default() };
        let mut now = at(0);
        for operation in operations {
            match operation {
                Operation::Allocate => prop_assert_eq!(pool.allocate(now), model.allocate(now)),
                Operation::AllocateTop => prop_assert_eq!(pool.allocate_top(now), model.allocate_top(now)),
                Operation::Reserve(offset) => prop_assert_eq!(pool.reserve(offset, now), model.reserve(offset, now)),
                Operation::Release(offset, quarantine) => {
                    let ready_at = at(now.as_millis() + quarantine);
                    prop_assert_eq!(pool.release(offset, ready_at), model.release(offset, ready_at));
                }
                Operation::Wait(millis) => now = at(now.as_millis() + millis),
            }
            let counts = pool.counts();
            prop_assert_eq!(counts.taken as usize, model.taken.len());
            prop_assert_eq!(counts.released as usize, model.released.len());
            prop_assert_eq!(counts.fresh as usize, model.fresh().count());
            for offset in 0..18 {
                prop_assert_eq!(pool.is_taken(offset), model.taken.contains(&offset));
            }
        }
    }
}
