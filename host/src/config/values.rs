//! The values of a configuration that carry a rule of their own: a node's name, the MTU, a secret.

use std::fmt;
use std::fs;
use std::str::FromStr;

use acorn_core::mtu;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// The longest name of a node in bytes: one DNS label (RFC 1035 section 2.3.4).
const NODE_NAME_MAX: usize = 63;
/// Why a text is not a value; written for the person who wrote the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(String);

/// The name of a node: one DNS label, 1 to 63 letters, digits and inner hyphens (RFC 1035 section 2.3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

impl NodeName {
    /// The first label of the host's name, with a hyphen for every character that a label can't have.
    pub fn of_this_host() -> Self {
        Self::from_hostname(&fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_hostname(hostname: &str) -> Self {
        let label = hostname.trim().split('.').next().unwrap_or_default();
        let fitted: String =
            label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(NODE_NAME_MAX).collect();
        match fitted.trim_matches('-') {
            "" => Self("node".to_owned()),
            name => Self(name.to_owned()),
        }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for NodeName {
    type Error = ValueError;
    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl FromStr for NodeName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let ends = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > NODE_NAME_MAX || ends || !text.bytes().all(fits) {
            let rule = "1 to 63 letters, digits and hyphens, with no hyphen at its ends";
            return Err(ValueError(format!("`{text}` is not a node name; it has {rule}")));
        }
        Ok(Self(text.to_owned()))
    }
}

/// [The MTU of the underlay](mtu::UnderlayMtu), as it is written in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct UnderlayMtu(pub mtu::UnderlayMtu);

impl TryFrom<u32> for UnderlayMtu {
    type Error = ValueError;
    fn try_from(bytes: u32) -> Result<Self, ValueError> {
        let mtu = u16::try_from(bytes).ok().and_then(mtu::UnderlayMtu::new);
        mtu.map(Self).ok_or_else(|| ValueError(format!("{bytes} bytes is not between 576 and 65535")))
    }
}

impl From<UnderlayMtu> for u32 {
    fn from(mtu: UnderlayMtu) -> Self {
        Self::from(mtu.0.get())
    }
}

/// A text that is never printed: it is wiped from memory when dropped, and shown and serialised as `<hidden>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() {
            return Err(ValueError("the token is empty; make one with `acorn token create` on the root".to_owned()));
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<hidden>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Zeroizing::new(String::deserialize(deserializer)?).parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_dns_label() {
        for bad in ["", "-a", "a-", "a.b", "a_b", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad}");
        }
        assert!("a".repeat(63).parse::<NodeName>().is_ok());
    }

    #[test]
    fn every_hostname_becomes_a_valid_node_name() {
        for (hostname, name) in
            [("edge-1.example.com\n", "edge-1"), ("my_host", "my-host"), ("", "node"), ("___", "node")]
        {
            assert_eq!(NodeName::from_hostname(hostname).as_str(), name);
        }
        let long = "b".repeat(62) + "_c";
        for hostname in [long.as_str(), "edge.x", "-\u{e9}-", "(none)"] {
            let name = NodeName::from_hostname(hostname);
            assert_eq!(name.as_str().parse::<NodeName>().as_ref(), Ok(&name), "{hostname}");
        }
    }

    #[test]
    fn an_underlay_mtu_is_within_its_range() {
        for (bytes, good) in [(575, false), (576, true), (65_535, true), (65_536, false)] {
            assert_eq!(UnderlayMtu::try_from(bytes).is_ok(), good, "{bytes}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret: Secret = "abc".parse().unwrap();
        assert_eq!(secret.reveal(), "abc");
        assert_eq!(format!("{secret:?}"), "<hidden>");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"<hidden>\"");
        assert!("".parse::<Secret>().is_err());
    }
}
