//! The libraries that `sanstun` is made of, used as it uses them: it keeps its own functions to itself. `Cargo.lock` has one version of
//! each, so these are the same.

use acorn_vectors::cryptography;
use chacha20::R20;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

const LIBRARIES: [&str; 3] = ["chacha20", "ring", "x25519-dalek"];
const TAG: usize = 16;

pub struct Primitives;

impl cryptography::Primitives for Primitives {
    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        exchange(scalar, point).to_bytes()
    }

    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
        let shared = exchange(scalar, point);
        shared.was_contributory().then(|| shared.to_bytes())
    }

    fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        let (cipher, rest) = out.split_at_mut_checked(text.len())?;
        cipher.copy_from_slice(text);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = aead(key).seal_in_place_separate_tag(nonce, Aad::from(aad), cipher).ok()?;
        rest.get_mut(..TAG)?.copy_from_slice(tag.as_ref());
        Some(text.len() + TAG)
    }

    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        // A forged text is wiped in its buffer, which is why there are two.
        let mut buffer = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = aead(key).open_in_place(nonce, Aad::from(aad), &mut buffer).ok()?;
        out.get_mut(..text.len())?.copy_from_slice(text);
        Some(text.len())
    }

    fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        let (subkey, nonce) = shortened(key, nonce);
        Self::seal(&subkey, &nonce, aad, text, out)
    }

    fn xopen(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let (subkey, nonce) = shortened(key, nonce);
        Self::open(&subkey, &nonce, aad, sealed, out)
    }

    fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32] {
        chacha20::hchacha::<R20>(key.into(), nonce.into()).into()
    }

    fn chacha20(_: &[u8; 32], _: &[u8; 12], _: u32, _: &mut [u8]) -> Option<()> {
        None
    }

    fn poly1305(_: &[u8; 32], _: &[u8]) -> Option<[u8; 16]> {
        None
    }
}

fn exchange(scalar: &[u8; 32], point: &[u8; 32]) -> SharedSecret {
    StaticSecret::from(*scalar).diffie_hellman(&PublicKey::from(*point))
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"))
}

/// The key and the nonce for ChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 section 2.3).
fn shortened(key: &[u8; 32], nonce: &[u8; 24]) -> ([u8; 32], [u8; 12]) {
    let (first, last) = nonce.split_first_chunk().expect("more than 16 bytes");
    let mut short = [0; 12];
    short[4..].copy_from_slice(last);
    (<Primitives as cryptography::Primitives>::hchacha20(key, first), short)
}

#[test]
fn the_libraries_are_those_of_sanstun() {
    let lock = include_str!("../../../../Cargo.lock");
    for library in LIBRARIES {
        assert_eq!(lock.matches(&format!("name = \"{library}\"\n")).count(), 1, "there are two versions of {library}");
    }
    let sanstun = lock.split("[[package]]").find(|package| package.contains("name = \"sanstun\"\n")).expect("sanstun");
    for library in LIBRARIES {
        assert!(sanstun.contains(&format!(" \"{library}\",\n")), "sanstun does not use {library} any more");
    }
}

/// The one result of a primitive that `sanstun` itself shows: the public key (RFC 7748 section 6.1).
#[test]
fn sanstun_derives_the_public_key_of_the_rfc() {
    for (private, public) in super::documents::KEY_PAIRS {
        let private: [u8; 32] = hex::decode(private).expect("hex").try_into().expect("32 bytes");
        let secret = sanstun::StaticSecret::from(Zeroizing::new(private));
        assert_eq!(hex::encode(sanstun::PublicKey::from(&secret).as_bytes()), public);
    }
}
