//! Who this process is: its X25519 key pair (RFC 7748), the file the key lives in, the clock that keeps its
//! handshakes valid over restarts, and the join tokens that let a new node in.
//!
//! The public key *is* the identity of a node: tables, peers and managers know it by nothing else.

mod clock;
pub(crate) mod state_file;
mod token;

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sanstun::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

pub use clock::{ClockError, HandshakeClock};
pub use token::{JoinToken, TokenCreateError, TokenDecodeError};

pub use acorn_core::ids::{NodeKey, NotANodeKey};

/// The length of a key in base64 with padding.
const KEY_TEXT_LEN: usize = 44;

/// Permission bits that a key file must not have: everything but read and write by its owner.
const FORBIDDEN_MODE: u32 = 0o7777 & !0o600;

/// An X25519 private key. Overwritten with zeros when dropped, and never printed.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// The 32 secret bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key in the form the tunnel library takes.
    pub(crate) fn to_static_secret(&self) -> StaticSecret {
        StaticSecret::from(self.0.clone())
    }
}

impl From<Zeroizing<[u8; 32]>> for PrivateKey {
    fn from(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A key pair: the node's own, or that of a join token.
#[derive(Debug, Clone)]
pub struct Identity {
    private: PrivateKey,
    public: NodeKey,
}

/// Why an identity could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key file exists but can't be read.
    #[error("cannot read the node key {}: {source}", path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may use the key file.
    #[error(
        "the node key {} has mode {mode:04o}, but only its owner may read or write it: run `chmod 600 {}`, \
         or remove the file to get a new key if others may have read it",
        path.display(), path.display()
    )]
    WideMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file holds something else than a private key.
    #[error(
        "the node key {} is damaged: expected 32 bytes as one line of base64. Restore it from a copy, or remove the \
         file to get a new key (the node then has to join again)",
        path.display()
    )]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The key file could not be created.
    #[error("cannot write the node key {}: {source}", path.display())]
    Write {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no randomness for a new key.
    #[error("no randomness for a new key: {0}")]
    Entropy(getrandom::Error),
}

impl Identity {
    /// A fresh key pair from the system's randomness.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..])?;
        Ok(Self::from(PrivateKey(bytes)))
    }

    /// Loads the key pair whose private key is in the file `path`.
    ///
    /// # Errors
    /// [`IdentityError::Read`] when the file is missing or unreadable, [`IdentityError::WideMode`] when its mode
    /// allows more than 0600, [`IdentityError::Damaged`] when its content is not a key.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let read_error = |source| IdentityError::Read { path: path.to_owned(), source };
        let mut file = std::fs::File::open(path).map_err(read_error)?;
        let meta = file.metadata().map_err(read_error)?;
        let damaged = || IdentityError::Damaged { path: path.to_owned() };
        if !meta.is_file() {
            return Err(damaged());
        }
        let mode = meta.permissions().mode() & 0o7777;
        if mode & FORBIDDEN_MODE != 0 {
            return Err(IdentityError::WideMode { path: path.to_owned(), mode });
        }
        // One byte more than key and newline, so that a longer file is seen to be longer.
        let mut content = Zeroizing::new([0; KEY_TEXT_LEN + 2]);
        let mut len = 0;
        while len < content.len() {
            match file.read(&mut content[len..]).map_err(read_error)? {
                0 => break,
                read => len += read,
            }
        }
        let text = content[..len].strip_suffix(b"\n").unwrap_or(&content[..len]);
        match decode_key(text) {
            Some(key) if *key != [0; 32] => Ok(Self::from(PrivateKey(key))),
            _ => Err(damaged()),
        }
    }

    /// Loads the key pair from the file `path`, or makes a fresh one and stores it there with mode 0600 when there
    /// is no such file. The file appears complete or not at all. Its directory must exist.
    ///
    /// # Errors
    /// Those of [`Identity::load`], [`IdentityError::Write`] when a new key can't be stored, and
    /// [`IdentityError::Entropy`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let identity = Self::generate().map_err(IdentityError::Entropy)?;
                let mut text = Zeroizing::new([b'\n'; KEY_TEXT_LEN + 1]);
                STANDARD
                    .encode_slice(identity.private.as_bytes(), &mut text[..KEY_TEXT_LEN])
                    .map_err(io::Error::other)
                    .and_then(|_| state_file::replace(path, &text[..]))
                    .map_err(|source| IdentityError::Write { path: path.to_owned(), source })?;
                Ok(identity)
            }
            loaded => loaded,
        }
    }

    /// The private half.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The public half.
    pub fn public(&self) -> NodeKey {
        self.public
    }
}

impl From<PrivateKey> for Identity {
    fn from(private: PrivateKey) -> Self {
        let public = NodeKey(PublicKey::from(&private.to_static_secret()).to_bytes());
        Self { private, public }
    }
}

/// Decodes exactly one key in base64 with padding.
fn decode_key(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != KEY_TEXT_LEN {
        return None;
    }
    // The decoder wants room for whole groups of three bytes.
    let mut bytes = Zeroizing::new([0; 33]);
    if STANDARD.decode_slice(text, &mut bytes[..]).ok()? != 32 {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&bytes[..32]);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn key_file() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        (dir, path)
    }

    fn write(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn public_key_is_derived_as_in_rfc_7748_section_6_1() {
        let private = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
            0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let identity = Identity::from(PrivateKey::from(Zeroizing::new(private)));
        assert_eq!(identity.public().as_bytes()[..8], [0x85, 0x20, 0xf0, 0x09, 0x89, 0x30, 0xa7, 0x54]);
        assert_eq!(identity.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn node_key_survives_its_text_form_and_serde() {
        let key = Identity::generate().unwrap().public();
        assert_eq!(key.to_string().parse(), Ok(key));
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<NodeKey>(&json).unwrap(), key);
    }

    #[test]
    fn text_that_is_not_exactly_one_key_is_refused() {
        let good = NodeKey::from([7; 32]).to_string();
        for bad in [
            String::new(),
            good[..43].to_owned(),
            format!("{good}="),
            format!("{}!=", &good[..42]),
            format!("{}A", &good[..43]),
            // Same key bytes, but with bits set behind them: one key must have one text.
            format!("{}d=", &good[..42]),
        ] {
            assert_eq!(bad.parse::<NodeKey>(), Err(NotANodeKey), "{bad:?}");
        }
    }

    #[test]
    fn a_missing_key_file_is_created_with_mode_0600_and_found_again() {
        let (dir, path) = key_file();
        let made = Identity::load_or_create(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file stayed");
        let found = Identity::load_or_create(&path).unwrap();
        assert_eq!(found.public(), made.public());
        assert_eq!(found.private().as_bytes(), made.private().as_bytes());
    }

    #[test]
    fn two_fresh_identities_differ() {
        assert_ne!(Identity::generate().unwrap().public(), Identity::generate().unwrap().public());
    }

    #[test]
    fn a_key_file_that_others_may_use_is_refused_and_left_alone() {
        let (_dir, path) = key_file();
        let made = Identity::load_or_create(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o700, 0o777, 0o4600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::WideMode { mode: m, .. } if m == mode));
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Identity::load(&path).unwrap().public(), made.public());
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_left_alone() {
        let (_dir, path) = key_file();
        let good = NodeKey::from([7; 32]).to_string();
        for bad in [
            String::new(),
            "\n".to_owned(),
            good[..40].to_owned(),
            format!("{good}\n\n"),
            format!("{good}{good}"),
            NodeKey::from([0; 32]).to_string(),
            "\u{fffd}".repeat(20),
        ] {
            write(&path, bad.as_bytes(), 0o600);
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::Damaged { .. }), "{bad:?}: {error}");
            assert_eq!(fs::read(&path).unwrap(), bad.as_bytes());
        }
        write(&path, good.as_bytes(), 0o600);
        Identity::load(&path).expect("a key without a newline is a key");
    }

    #[test]
    fn a_directory_in_place_of_the_key_is_refused() {
        let (dir, _) = key_file();
        let error = Identity::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. } | IdentityError::Read { .. }));
    }

    #[test]
    fn debug_shows_no_private_key() {
        let identity = Identity::generate().unwrap();
        let shown = format!("{identity:?} {:?}", identity.private());
        let secret = STANDARD.encode(identity.private().as_bytes());
        assert!(!shown.contains(&secret[..43]));
        assert!(shown.contains("PrivateKey(..)"));
    }
}
