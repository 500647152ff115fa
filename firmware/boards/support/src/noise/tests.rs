use super::health::{Health, PROPORTION, REPETITIONS, WINDOW};
use super::*;

/// A source whose n-th byte since its restart is `byte(n)`, and which says by itself that it is broken at `None`.
struct Source<F> {
    byte: F,
    given: usize,
    restarts: usize,
}

impl<F: FnMut(usize, usize) -> Option<u8>> NoiseSource for Source<F> {
    fn restart(&mut self) {
        self.given = 0;
        self.restarts += 1;
    }

    fn read(&mut self, noise: &mut [u8; NOISE]) -> Result<(), NoiseFault> {
        for slot in noise {
            *slot = (self.byte)(self.restarts, self.given).ok_or(NoiseFault)?;
            self.given += 1;
        }
        Ok(())
    }
}

fn random<F: FnMut(usize, usize) -> Option<u8>>(byte: F) -> Random<Source<F>> {
    Random::new(Source { byte, given: 0, restarts: 0 })
}

/// A byte that looks random (splitmix64).
fn good(n: usize) -> u8 {
    let mut z = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u8
}

#[test]
fn a_good_source_gives_numbers_and_passes_for_long() {
    let mut random = random(|_, n| Some(good(n)));
    let (mut first, mut second) = ([0; 50], [0; 50]);
    random.fill(&mut first).unwrap();
    random.fill(&mut second).unwrap();
    assert_ne!(first, second);
    assert_ne!(first[..32], first[18..], "the end of an output is not a repetition");
    for _ in 0..20_000 {
        random.fill(&mut [0; 32]).unwrap();
    }
    assert_eq!(random.source.restarts, 1);
}

#[test]
fn numbers_do_not_come_from_the_noise_of_the_start_up_tests() {
    let mut output = [0; 32];
    random(|_, n| Some(good(n))).fill(&mut output).unwrap();
    let used: std::vec::Vec<u8> = (0..NOISE).map(|n| good(START_UP.div_ceil(NOISE) * NOISE + n)).collect();
    assert_eq!(output, <[u8; 32]>::from(Blake2s256::digest(&used)));
}

#[test]
fn a_dead_source_gives_nothing() {
    for byte in [0x00, 0xff, 0x55] {
        let mut output = [0xaa; 32];
        assert!(random(|_, _| Some(byte)).fill(&mut output).is_err());
        assert_eq!(output, [0; 32]);
    }
}

#[test]
fn a_source_that_gets_stuck_is_noticed_before_its_bytes_are_used() {
    let mut random = random(|restarts, n| Some(if restarts == 1 && n >= 2000 { 7 } else { good(n) }));
    let mut given = 0;
    while random.fill(&mut [0; 32]).is_ok() {
        given += 1;
    }
    assert_eq!(given, (2000 - 11 * NOISE) / NOISE);
    assert_eq!(random.source.restarts, 1);
    // It is asked again: started anew, tested anew, and good now.
    assert!(random.fill(&mut [0; 32]).is_ok());
    assert_eq!(random.source.restarts, 2);
}

#[test]
fn a_source_that_prefers_a_byte_is_noticed() {
    // Every fourth byte is the same: far from 4 bits of entropy, but never twice in a row.
    let mut random = random(|_, n| Some(if n % 4 == 0 { 0 } else { good(n) | 1 }));
    assert!(random.fill(&mut [0; 32]).is_err());
}

#[test]
fn the_chips_own_checks_are_believed() {
    let mut random = random(|restarts, n| (restarts > 2 || n < 1500).then(|| good(n)));
    assert!(random.fill(&mut [0; 32]).is_ok());
    assert!(random.fill(&mut [0; 1000]).is_err());
    assert!(random.fill(&mut [0; 1000]).is_err());
    assert!(random.fill(&mut [0; 1000]).is_ok());
}

#[test]
fn the_tests_fail_at_their_limits_and_not_before() {
    let mut health = Health::new();
    assert!((1..REPETITIONS).all(|_| health.passes(9)));
    assert!(!health.passes(9));

    let fails_at = |equal: u32| {
        let mut health = Health::new();
        (0..WINDOW).any(|n| !health.passes(if n % 5 == 0 && n / 5 < equal { 0 } else { 1 + (n % 200) as u8 }))
    };
    assert!(!fails_at(PROPORTION - 1));
    assert!(fails_at(PROPORTION));
}
