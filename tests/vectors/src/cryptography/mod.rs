//! Known answers of the cryptography under WireGuard: from the RFCs, and from Wycheproof what attacks implementations.
//!
//! [`Case`]: a known answer; [`Primitives`]: what can be asked, and [`WireGuardSansIo`] whose answers a board relies on; [`judge`]: all
//! cases of a file.

mod case;
mod judge;
mod primitives;
mod wireguard_sans_io;

pub use case::{Case, Origin, What};
pub use judge::{Failure, Flaw, LONGEST, judge};
pub use primitives::Primitives;
pub use wireguard_sans_io::WireGuardSansIo;

/// X25519: RFC 7748 and Wycheproof.
pub const X25519: &[u8] = include_bytes!("../../x25519.bin");
/// ChaCha20, Poly1305 and ChaCha20-Poly1305: RFC 8439 and Wycheproof.
pub const CHACHA20_POLY1305: &[u8] = include_bytes!("../../chacha20poly1305.bin");
/// HChaCha20 and XChaCha20-Poly1305: draft-irtf-cfrg-xchacha-03 and Wycheproof.
pub const XCHACHA20_POLY1305: &[u8] = include_bytes!("../../xchacha20poly1305.bin");
