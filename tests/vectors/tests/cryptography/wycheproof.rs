//! Wycheproof's cases, as far as they fit the types: nonces of other lengths do not.

use acorn_vectors::cryptography::{Case, Origin, What};
use wycheproof::aead::{TestName, TestSet};
use wycheproof::{TestResult, xdh};

use super::Bytes;

/// How many cases of X25519 have a shared secret that is zero.
pub const ZERO_SHARED_SECRETS: usize = 31;
/// How many sealed texts of each cipher are forged, and how many cases of it have a nonce of a wrong length.
pub const FORGED: usize = 60;
const OTHER_NONCES: usize = 9;

pub fn x25519() -> Bytes {
    let set = xdh::TestSet::load(xdh::TestName::X25519).expect("readable vectors");
    let mut made = Bytes(Vec::new());
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let array = |bytes: &[u8]| bytes.try_into().expect("32 bytes");
        // "Acceptable" are those that an implementation may refuse. WireGuard refuses only the ones whose result is zero.
        assert_ne!(test.result, TestResult::Invalid);
        let what = What::Exchange {
            scalar: array(&test.private_key),
            point: array(&test.public_key),
            shared: array(&test.shared_secret),
        };
        made.push(&Case { origin: Origin::Wycheproof(test.tc_id as u32), what });
    }
    made
}

pub fn chacha20_poly1305() -> Bytes {
    sealed(TestName::ChaCha20Poly1305, 12)
}

pub fn xchacha20_poly1305() -> Bytes {
    sealed(TestName::XChaCha20Poly1305, 24)
}

fn sealed(name: TestName, nonce_len: usize) -> Bytes {
    let set = TestSet::load(name).expect("readable vectors");
    let (mut made, mut others) = (Bytes(Vec::new()), 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.nonce.len() != nonce_len {
            assert_eq!(test.result, TestResult::Invalid);
            others += 1;
            continue;
        }
        let is_genuine = test.result == TestResult::Valid;
        let sealed = [&test.ct[..], &test.tag[..]].concat();
        let what = What::Sealed {
            key: test.key[..].try_into().expect("32 bytes"),
            nonce: &test.nonce,
            aad: &test.aad,
            text: if is_genuine { &test.pt } else { &[] },
            sealed: &sealed,
            is_genuine,
        };
        made.push(&Case { origin: Origin::Wycheproof(test.tc_id as u32), what });
    }
    assert_eq!(others, OTHER_NONCES);
    made
}
