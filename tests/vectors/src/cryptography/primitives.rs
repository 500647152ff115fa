//! What can be asked of an implementation.

/// An implementation of the cryptography under WireGuard, for known answers only.
pub trait Primitives {
    /// X25519, whatever comes out.
    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32];

    /// The shared secret, as a handshake takes it: `None` when the other side has chosen a point that makes it zero.
    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]>;

    /// Writes the sealed text to the start of `out` and returns its length in bytes, its tag included. `None` when it can't be sealed.
    fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize>;

    /// Writes the text to the start of `out` and returns its length in bytes. `None`, and nothing written, when it is not genuine.
    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize>;

    /// As [`seal`](Self::seal), with XChaCha20-Poly1305.
    fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize>;

    /// As [`open`](Self::open), with XChaCha20-Poly1305.
    fn xopen(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize>;

    /// HChaCha20.
    fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32];

    /// Encrypts with ChaCha20 in place, from block `counter` on. `None` when the implementation does not offer it.
    fn chacha20(key: &[u8; 32], nonce: &[u8; 12], counter: u32, text: &mut [u8]) -> Option<()>;

    /// Poly1305. `None` when the implementation does not offer it.
    fn poly1305(key: &[u8; 32], text: &[u8]) -> Option<[u8; 16]>;
}
