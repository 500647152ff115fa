//! Where a store is that is not a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The servers of an etcd cluster and what the keys of one network begin with: `etcd://HOST:PORT[,HOST:PORT...]/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StoreUrl {
    servers: Vec<String>,
    prefix: String,
}

/// Why a text names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write it like etcd://10.0.0.1:2379,10.0.0.2:2379/acorn")]
pub struct StoreUrlError(String);

impl StoreUrl {
    /// The servers as etcd's client takes them.
    pub(super) fn servers(&self) -> &[String] {
        &self.servers
    }

    /// What all keys begin with, with its slash.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.prefix)
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;
    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let wrong = |why: &str| StoreUrlError(format!("`{text}`: {why}"));
        let rest = text.strip_prefix("etcd://").ok_or_else(|| wrong("a store begins with etcd://"))?;
        let (servers, prefix) = rest.split_once('/').ok_or_else(|| wrong("the prefix is missing"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if prefix.is_empty() || prefix.ends_with('/') || !prefix.bytes().all(is_plain) {
            return Err(wrong("the prefix is made of letters, digits and -_./ and does not end with a slash"));
        }
        let is_server = |server: &str| {
            let parts = server.rsplit_once(':');
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
        };
        if let Some(bad) = servers.split(',').find(|server| !is_server(server)) {
            return Err(wrong(&format!("`{bad}` is not a host and a port")));
        }
        Ok(Self { servers: servers.split(',').map(str::to_owned).collect(), prefix: prefix.to_owned() })
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;
    fn try_from(text: String) -> Result<Self, StoreUrlError> {
        text.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}/{}", self.servers.join(","), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_servers_and_a_prefix() {
        for good in ["etcd://127.0.0.1:2379/acorn", "etcd://a:1,[::1]:2379/networks/edge-1"] {
            assert_eq!(good.parse::<StoreUrl>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "redb:///x",
            "etcd://",
            "etcd://a:1",
            "etcd://a:1/",
            "etcd://a:1/x/",
            "etcd:///x",
            "etcd://a/x",
            "etcd://a:0/x",
            "etcd://a:1,/x",
            "etcd://a:1/x y",
        ] {
            assert!(bad.parse::<StoreUrl>().is_err(), "{bad}");
        }
    }
}
