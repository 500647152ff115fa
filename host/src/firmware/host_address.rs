//! An address with the length of its network's prefix, as it is given on the command line.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use acorn_core::provision::{Flaw, Underlay};

/// The IPv4 address of a host and its network, like `192.168.1.20/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostAddress {
    address: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not a [`HostAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostAddressError {
    /// It does not have the form.
    #[error("write the board's IPv4 address and the length of its network's prefix, like 192.168.1.20/24")]
    Form,
    /// No host can have it.
    #[error("{0}")]
    Flaw(Flaw),
}

impl HostAddress {
    /// The address.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// Whether `other` is in the same network.
    pub fn reaches(self, other: Ipv4Addr) -> bool {
        let host_bits = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (self.address.to_bits() ^ other.to_bits()) & !host_bits == 0
    }

    /// What a board with this address is told.
    pub fn underlay(self, gateway: Option<Ipv4Addr>) -> Underlay {
        Underlay::Static { address: self.address, prefix: self.prefix, gateway }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for HostAddress {
    type Err = HostAddressError;

    fn from_str(text: &str) -> Result<Self, HostAddressError> {
        let (address, prefix) = text.split_once('/').ok_or(HostAddressError::Form)?;
        let form = |_| HostAddressError::Form;
        let address = address.parse().map_err(|_| HostAddressError::Form)?;
        let parsed = Self { address, prefix: prefix.parse().map_err(form)? };
        parsed.underlay(None).check().map_err(HostAddressError::Flaw)?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_as_it_is_shown() {
        for text in ["192.168.1.20/24", "10.0.0.0/31", "10.0.0.1/32"] {
            assert_eq!(text.parse::<HostAddress>().unwrap().to_string(), text);
        }
        for text in ["", "192.168.1.20", "192.168.1.20/", "192.168.1/24", "fd00::1/64", "192.168.1.20/255.255.255.0"] {
            assert_eq!(text.parse::<HostAddress>(), Err(HostAddressError::Form), "{text}");
        }
        for (text, flaw) in
            [("192.168.1.0/24", Flaw::Address), ("192.168.1.20/33", Flaw::Prefix), ("192.168.1.20/0", Flaw::Prefix)]
        {
            assert_eq!(text.parse::<HostAddress>(), Err(HostAddressError::Flaw(flaw)), "{text}");
        }
    }

    #[test]
    fn it_reaches_its_network_and_no_other() {
        let reaches = |from: &str, to: &str| from.parse::<HostAddress>().unwrap().reaches(to.parse().unwrap());
        assert!(reaches("192.168.1.20/24", "192.168.1.254") && !reaches("192.168.1.20/24", "192.168.2.20"));
        assert!(reaches("10.0.1.1/23", "10.0.0.1") && !reaches("10.0.1.1/24", "10.0.0.1"));
        assert!(reaches("10.0.0.1/32", "10.0.0.1") && !reaches("10.0.0.1/32", "10.0.0.0"));
    }
}
