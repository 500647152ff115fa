//! Join tokens: everything a new node needs to reach its manager and to be answered by it, as one line of text.
//!
//! Text: `acorn1.` and base64url without padding (RFC 4648 §5) of, in this order and in network byte order:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | public key of the manager |
//! | 32 | private key to join with; secret |
//! | 8 | expiry, seconds since 1970 |
//! | 1 | number of endpoints, 1 to 4 |
//! | 7 or 19 each | endpoint: 4 and 4 bytes, or 6 and 16 bytes, and the port in 2 |
//! | 4 | CRC-32 (ISO-HDLC) of the prefix and all bytes above |
//!
//! The checksum is against damage in copying, not against malice: whoever holds a token may make another one up,
//! but only a key that the manager has registered gets an answer.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crc::{CRC_32_ISO_HDLC, Crc};
use zeroize::Zeroizing;

use super::{Identity, NodeKey, PrivateKey};

const FAMILY: &str = "acorn";
const VERSION: u32 = 1;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A token that lets one new node join. Holds a private key: whoever reads the token can use it.
#[derive(Clone)]
pub struct JoinToken {
    manager: NodeKey,
    endpoints: Vec<SocketAddr>,
    join: Identity,
    expires: u64,
}

/// Why a token could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenCreateError {
    /// There must be 1 to 4 endpoints.
    #[error("a token holds 1 to 4 endpoints of its manager, not {0}")]
    EndpointCount(usize),
    /// Nobody can reach this endpoint.
    #[error(
        "{0} is not an address a node can dial: give the address and port under which nodes reach the manager, \
         for example with `--endpoint 192.0.2.1:50103`"
    )]
    Endpoint(SocketAddr),
    /// The system gave no randomness for the join key.
    #[error("no randomness for a join key: {0}")]
    Entropy(getrandom::Error),
}

/// Why a text is not a usable token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenDecodeError {
    /// It does not look like a token at all.
    #[error("not a join token: a token starts with `acorn1.`. `acorn token create` at the manager prints one")]
    NotAToken,
    /// A token, but of another version.
    #[error(
        "this join token has version {found}, this program knows version {VERSION}: use the same release at both ends"
    )]
    WrongVersion {
        /// The version the token states.
        found: u32,
    },
    /// A token of this version that lost or changed characters.
    #[error("the join token is damaged: some characters are missing or changed. Copy it again")]
    Damaged,
}

impl JoinToken {
    /// The most endpoints a token can hold.
    pub const MAX_ENDPOINTS: usize = 4;

    /// Makes a token with a fresh join key. The public half of that key comes with it, for the manager to register.
    ///
    /// `expires` is in seconds since 1970. Scope and flow label of an IPv6 endpoint are not kept.
    ///
    /// # Errors
    /// When the endpoints are none, too many or not addresses to dial, or without randomness.
    pub fn generate(
        manager: NodeKey,
        endpoints: &[SocketAddr],
        expires: u64,
    ) -> Result<(Self, NodeKey), TokenCreateError> {
        if endpoints.is_empty() || endpoints.len() > Self::MAX_ENDPOINTS {
            return Err(TokenCreateError::EndpointCount(endpoints.len()));
        }
        if let Some(bad) = endpoints.iter().find(|endpoint| !can_be_dialled(endpoint)) {
            return Err(TokenCreateError::Endpoint(*bad));
        }
        let join = Identity::generate().map_err(TokenCreateError::Entropy)?;
        let public = join.public();
        let token = Self {
            manager,
            endpoints: endpoints.iter().map(|endpoint| SocketAddr::new(endpoint.ip(), endpoint.port())).collect(),
            join,
            expires,
        };
        Ok((token, public))
    }

    /// The token as text. It contains the private join key.
    pub fn encode(&self) -> String {
        let mut bytes = Zeroizing::new(Vec::with_capacity(160));
        bytes.extend_from_slice(self.manager.as_bytes());
        bytes.extend_from_slice(self.join.private().as_bytes());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.push(self.endpoints.len() as u8);
        for endpoint in &self.endpoints {
            match endpoint.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&ip.octets());
                }
            }
            bytes.extend_from_slice(&endpoint.port().to_be_bytes());
        }
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_be_bytes());
        let mut text = format!("{FAMILY}{VERSION}.");
        URL_SAFE_NO_PAD.encode_string(&bytes[..], &mut text);
        text
    }

    /// Reads a token; white space around it is ignored. Whether it has expired is for the caller to ask, with
    /// [`JoinToken::is_expired`].
    ///
    /// # Errors
    /// See [`TokenDecodeError`].
    pub fn decode(text: &str) -> Result<Self, TokenDecodeError> {
        let (version, body) = text
            .trim()
            .strip_prefix(FAMILY)
            .and_then(|rest| rest.split_once('.'))
            .ok_or(TokenDecodeError::NotAToken)?;
        // `parse` alone would take `+1` and `01` too.
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TokenDecodeError::NotAToken);
        }
        if version != VERSION.to_string() {
            let found = version.parse().map_err(|_| TokenDecodeError::NotAToken)?;
            return match found {
                VERSION => Err(TokenDecodeError::NotAToken),
                found => Err(TokenDecodeError::WrongVersion { found }),
            };
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenDecodeError::Damaged)?);
        Self::parse(&bytes).ok_or(TokenDecodeError::Damaged)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk::<4>()?;
        if checksum(content) != u32::from_be_bytes(*sum) {
            return None;
        }
        let (manager, rest) = content.split_first_chunk::<32>()?;
        let (private, rest) = rest.split_first_chunk::<32>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (count, mut rest) = rest.split_first()?;
        if *count == 0 || usize::from(*count) > Self::MAX_ENDPOINTS {
            return None;
        }
        let mut endpoints = Vec::with_capacity(Self::MAX_ENDPOINTS);
        for _ in 0..*count {
            let (endpoint, after) = parse_endpoint(rest)?;
            endpoints.push(endpoint);
            rest = after;
        }
        rest.is_empty().then(|| Self {
            manager: NodeKey::from(*manager),
            endpoints,
            join: Identity::from(PrivateKey::from(Zeroizing::new(*private))),
            expires: u64::from_be_bytes(*expires),
        })
    }

    /// The public key of the manager.
    pub fn manager(&self) -> NodeKey {
        self.manager
    }

    /// Where the manager is reached: 1 to 4 addresses, the preferred one first.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    /// The key pair to join with.
    pub fn join(&self) -> &Identity {
        &self.join
    }

    /// When the token ends, in seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether the token has ended at `now`, in seconds since 1970.
    pub fn is_expired(&self, now: u64) -> bool {
        now >= self.expires
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("manager", &self.manager)
            .field("endpoints", &self.endpoints)
            .field("join", &self.join.public())
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

fn can_be_dialled(endpoint: &SocketAddr) -> bool {
    endpoint.port() != 0 && !endpoint.ip().is_unspecified() && !endpoint.ip().is_multicast()
}

fn parse_endpoint(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (ip, rest) = match bytes.split_first()? {
        (4, rest) => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
        }
        (6, rest) => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let endpoint = SocketAddr::new(ip, u16::from_be_bytes(*port));
    can_be_dialled(&endpoint).then_some((endpoint, rest))
}

/// CRC-32/ISO-HDLC over the prefix and `content`: finds every change within 32 neighbouring bits, and so every
/// changed character. The prefix is in it so that the text of another version can't become one of this.
fn checksum(content: &[u8]) -> u32 {
    let prefix = format!("{FAMILY}{VERSION}.");
    let mut digest = CRC.digest();
    digest.update(prefix.as_bytes());
    digest.update(content);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(endpoints: &[&str]) -> JoinToken {
        let endpoints: Vec<SocketAddr> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
        JoinToken::generate(NodeKey::from([9; 32]), &endpoints, 1_900_000_000).unwrap().0
    }

    fn same(a: &JoinToken, b: &JoinToken) -> bool {
        a.manager == b.manager
            && a.endpoints == b.endpoints
            && a.join.private().as_bytes() == b.join.private().as_bytes()
            && a.expires == b.expires
    }

    #[test]
    fn a_token_survives_its_text_form() {
        for endpoints in [
            &["192.0.2.1:50103"][..],
            &["[2001:db8::1]:50103"],
            &["192.0.2.1:1", "[2001:db8::1]:65535", "10.0.0.1:50103", "[::1]:2"],
        ] {
            let token = token(endpoints);
            let text = token.encode();
            assert!(text.starts_with("acorn1."));
            assert!(text.len() < 256, "fits one line: {}", text.len());
            let back = JoinToken::decode(&format!("  {text}\n")).unwrap();
            assert!(same(&token, &back));
            assert_eq!(back.join().public(), token.join().public());
        }
    }

    #[test]
    fn the_registered_key_is_the_public_half_of_the_join_key() {
        let endpoint = "192.0.2.1:50103".parse().unwrap();
        let (token, public) = JoinToken::generate(NodeKey::from([1; 32]), &[endpoint], 5).unwrap();
        assert_eq!(token.join().public(), public);
        let (other, other_public) = JoinToken::generate(NodeKey::from([1; 32]), &[endpoint], 5).unwrap();
        assert_ne!(public, other_public, "a join key admits one node");
        assert!(!same(&token, &other));
    }

    #[test]
    fn no_change_of_one_character_gives_another_token() {
        let token = token(&["192.0.2.1:50103", "[2001:db8::1]:50103"]);
        let text = token.encode();
        for position in 0..text.len() {
            for byte in 0x20..0x7f_u8 {
                let mut changed = text.clone().into_bytes();
                if changed[position] == byte {
                    continue;
                }
                changed[position] = byte;
                let changed = String::from_utf8(changed).unwrap();
                let Ok(decoded) = JoinToken::decode(&changed) else {
                    continue;
                };
                // Only a blank in place of nothing could be forgiven, and there is none.
                panic!("{changed} decoded to {decoded:?}");
            }
        }
    }

    #[test]
    fn no_missing_doubled_or_swapped_character_gives_a_token() {
        let text = token(&["192.0.2.1:50103"]).encode();
        for position in 0..text.len() {
            let mut missing = text.clone();
            let removed = missing.remove(position);
            assert!(JoinToken::decode(&missing).is_err(), "{missing}");
            let mut doubled = text.clone();
            doubled.insert(position, removed);
            assert!(JoinToken::decode(&doubled).is_err(), "{doubled}");
            assert!(JoinToken::decode(&text[..position]).is_err());
            let mut swapped = text.clone().into_bytes();
            if position + 1 < swapped.len() && swapped[position] != swapped[position + 1] {
                swapped.swap(position, position + 1);
                assert!(JoinToken::decode(std::str::from_utf8(&swapped).unwrap()).is_err());
            }
        }
    }

    #[test]
    fn errors_tell_what_is_wrong() {
        let text = token(&["192.0.2.1:50103"]).encode();
        let body = text.strip_prefix("acorn1.").unwrap();
        for nonsense in ["", "acorn", "acorn1", "acorn.", "hello", "oak1.abc", body, "acorn+1.x", "acorn01.x"] {
            assert_eq!(JoinToken::decode(nonsense).unwrap_err(), TokenDecodeError::NotAToken, "{nonsense:?}");
        }
        assert_eq!(
            JoinToken::decode(&format!("acorn2.{body}")).unwrap_err(),
            TokenDecodeError::WrongVersion { found: 2 }
        );
        for damaged in ["acorn1.", "acorn1.AAAA", "acorn1.####", &format!("{text}="), &format!("{text}AAAA")] {
            assert_eq!(JoinToken::decode(damaged).unwrap_err(), TokenDecodeError::Damaged);
        }
    }

    #[test]
    fn a_sound_checksum_does_not_excuse_bad_content() {
        let good = token(&["192.0.2.1:50103"]);
        let encoded = good.encode();
        let bytes = URL_SAFE_NO_PAD.decode(&encoded["acorn1.".len()..]).unwrap();
        let content = &bytes[..bytes.len() - 4];
        let reseal = |content: &[u8]| {
            let mut bytes = content.to_vec();
            bytes.extend_from_slice(&checksum(content).to_be_bytes());
            format!("acorn1.{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        assert!(same(&JoinToken::decode(&reseal(content)).unwrap(), &good));
        for (position, value) in [(72, 0), (72, 2), (72, 5), (72, 255), (73, 5), (73, 6)] {
            let mut content = content.to_vec();
            content[position] = value;
            assert_eq!(JoinToken::decode(&reseal(&content)).unwrap_err(), TokenDecodeError::Damaged);
        }
        let mut no_port = content.to_vec();
        let len = no_port.len();
        no_port[len - 2..].fill(0);
        assert_eq!(JoinToken::decode(&reseal(&no_port)).unwrap_err(), TokenDecodeError::Damaged);
        let mut longer = content.to_vec();
        longer.push(0);
        assert_eq!(JoinToken::decode(&reseal(&longer)).unwrap_err(), TokenDecodeError::Damaged);
    }

    #[test]
    fn endpoints_nobody_can_dial_are_refused_when_the_token_is_made() {
        let manager = NodeKey::from([9; 32]);
        for bad in ["0.0.0.0:50103", "[::]:50103", "192.0.2.1:0", "224.0.0.1:50103"] {
            let endpoint = bad.parse().unwrap();
            assert_eq!(JoinToken::generate(manager, &[endpoint], 1).unwrap_err(), TokenCreateError::Endpoint(endpoint));
        }
        assert_eq!(JoinToken::generate(manager, &[], 1).unwrap_err(), TokenCreateError::EndpointCount(0));
        let five = ["192.0.2.1:1".parse().unwrap(); 5];
        assert_eq!(JoinToken::generate(manager, &five, 1).unwrap_err(), TokenCreateError::EndpointCount(5));
    }

    #[test]
    fn a_token_ends_at_its_expiry() {
        let token = token(&["192.0.2.1:50103"]);
        assert!(!token.is_expired(1_899_999_999));
        assert!(token.is_expired(1_900_000_000));
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token(&["192.0.2.1:50103"]);
        let shown = format!("{token:?}");
        let secret = token.join().private().as_bytes();
        for encoded in [
            base64::engine::general_purpose::STANDARD.encode(secret),
            URL_SAFE_NO_PAD.encode(secret),
            format!("{secret:?}"),
            format!("{:?}", &secret[..]),
        ] {
            assert!(!shown.contains(&encoded[..20]), "{shown}");
        }
        assert!(shown.contains(&token.join().public().to_string()));
    }

    #[test]
    fn checksum_is_the_well_known_crc_32() {
        // "123456789" continued from the prefix has no published value, so check against zlib's for the whole.
        // python3 -c "import zlib; print(hex(zlib.crc32(b'acorn1.123456789')))"
        assert_eq!(checksum(b"123456789"), 0x7cde_bfe8);
    }
}
