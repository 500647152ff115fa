//! A known answer.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A known answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case<'a> {
    /// Who says so.
    #[serde(borrow)]
    pub origin: Origin<'a>,
    /// What has to come of what.
    #[serde(borrow)]
    pub what: What<'a>,
}

/// Where an answer is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin<'a> {
    /// A section of an RFC or a draft.
    Document(&'a str),
    /// The case of this number (`tcId`) in Wycheproof's file for the algorithm.
    Wycheproof(u32),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(section) => f.write_str(section),
            Self::Wycheproof(number) => write!(f, "Wycheproof {number}"),
        }
    }
}

/// What has to come of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What<'a> {
    /// X25519 (RFC 7748 section 5). When all of `shared` is zero the two sides must not go on (section 6.1).
    Exchange {
        /// The private key, not clamped.
        scalar: [u8; 32],
        /// The public key.
        point: [u8; 32],
        /// The shared secret.
        shared: [u8; 32],
    },
    /// X25519 again and again from the base point on, each result the next scalar, each scalar the next point (RFC 7748 section 5.2).
    Iterated {
        /// How often.
        times: u32,
        /// The last result.
        end: [u8; 32],
    },
    /// ChaCha20-Poly1305 (RFC 8439 section 2.8), or with a nonce of 24 bytes XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 section 2).
    Sealed {
        /// The key.
        key: [u8; 32],
        /// 12 or 24 bytes.
        nonce: &'a [u8],
        /// What is authenticated beside the text.
        aad: &'a [u8],
        /// The text. Empty when the seal is broken.
        text: &'a [u8],
        /// The sealed text with its tag.
        sealed: &'a [u8],
        /// Whether it may be opened.
        is_genuine: bool,
    },
    /// ChaCha20 (RFC 8439 section 2.4).
    Encrypted {
        /// The key.
        key: [u8; 32],
        /// The nonce.
        nonce: [u8; 12],
        /// The number of the first block.
        counter: u32,
        /// The text. Empty for zeros: `cipher` is the key stream.
        text: &'a [u8],
        /// The encrypted text.
        cipher: &'a [u8],
    },
    /// HChaCha20 (draft-irtf-cfrg-xchacha-03 section 2.2).
    Subkey {
        /// The key.
        key: [u8; 32],
        /// The first 16 bytes of a nonce.
        nonce: [u8; 16],
        /// The key for the rest of it.
        subkey: [u8; 32],
    },
    /// Poly1305 (RFC 8439 section 2.5).
    Tag {
        /// The one-time key.
        key: [u8; 32],
        /// The text.
        text: &'a [u8],
        /// Its tag.
        tag: [u8; 16],
    },
}
