//! Addresses in one form for both families, to be hashed, compared and copied without asking which it is.

use core::net::IpAddr;

use super::Family;

/// The bytes of an address; IPv4 in its mapped form (RFC 4291 section 2.5.5.2), which no packet has.
#[inline]
pub(crate) fn key_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4_key(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The bytes of an IPv4 address in its mapped form.
#[inline]
pub(crate) const fn v4_key([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Whether these are the bytes of an IPv4 address.
#[inline]
pub(crate) const fn is_mapped(key: [u8; 16]) -> bool {
    u128::from_be_bytes(key) >> 32 == 0xffff
}

/// The address of this family that has these bytes.
#[inline]
pub(crate) fn address_of(key: [u8; 16], family: Family) -> IpAddr {
    match family {
        Family::V4 => {
            let [.., a, b, c, d] = key;
            IpAddr::from([a, b, c, d])
        }
        Family::V6 => IpAddr::from(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_from_its_bytes() {
        for text in ["10.30.0.1", "255.255.255.255", "0.0.0.0", "fdff:2000::1", "::", "::ffff:10.30.0.1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(key_of(address), Family::of(address)), address, "{text}");
        }
    }
}
