//! The cryptography of the boards.

use wireguard_sans_io::crypto::{aead, chacha20, poly1305, x25519};

use super::Primitives;

/// The cryptography of `wireguard-sans-io`.
#[derive(Clone, Copy, Debug)]
pub struct WireGuardSansIo;

impl Primitives for WireGuardSansIo {
    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        x25519::x25519(scalar, point)
    }

    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
        x25519::shared_secret(scalar, point).ok()
    }

    /// Handshakes seal in one way and data in another, so both have to give the same.
    fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        let len = aead::seal(key, nonce, aad, text, out).ok()?;
        let mut in_place = [0; super::LONGEST];
        in_place.get_mut(..text.len())?.copy_from_slice(text);
        let again = aead::seal_in_place(key, nonce, aad, text.len(), &mut in_place).ok()?;
        (again == len && in_place.get(..len) == out.get(..len)).then_some(len)
    }

    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        aead::open(key, nonce, aad, sealed, out).ok()
    }

    fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        aead::xseal(key, nonce, aad, text, out).ok()
    }

    fn xopen(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        aead::xopen(key, nonce, aad, sealed, out).ok()
    }

    fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32] {
        chacha20::hchacha20(key, nonce)
    }

    fn chacha20(key: &[u8; 32], nonce: &[u8; 12], counter: u32, text: &mut [u8]) -> Option<()> {
        chacha20::xor_in_place(key, counter, nonce, text);
        Some(())
    }

    fn poly1305(key: &[u8; 32], text: &[u8]) -> Option<[u8; 16]> {
        Some(poly1305::poly1305(key, text))
    }
}
