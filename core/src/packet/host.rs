//! Which addresses name one host.

use core::net::IpAddr;

/// Whether `addr` is that of one host, as a packet on a wire may have it. It is not, when it is
/// - in IPv4 "this network" (`0.0.0.0/8`), loopback (`127.0.0.0/8`), multicast, reserved or broadcast (`224.0.0.0` and up);
/// - in IPv6 unspecified, loopback, multicast, or an IPv4 address in its mapped form (`::ffff:0:0/96`), which never appears on a wire
///   (RFC 4291 §2.5.5.2) and which tables would take for the IPv4 address.
#[inline]
#[must_use]
pub fn is_one_host(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(v4) => !matches!(v4.octets(), [0 | 127 | 224.., ..]),
        IpAddr::V6(v6) => {
            !(v6.is_unspecified() || v6.is_loopback() || v6.is_multicast() || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_of_every_block_are_told_from_their_neighbours() {
        for (text, expected) in [
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("126.255.255.255", true),
            ("127.0.0.0", false),
            ("127.255.255.255", false),
            ("128.0.0.0", true),
            ("223.255.255.255", true),
            ("224.0.0.0", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("10.30.0.255", true),
            ("::", false),
            ("::1", false),
            ("::2", true),
            ("::fffe:ffff:ffff", true),
            ("::ffff:0.0.0.0", false),
            ("::ffff:10.30.0.1", false),
            ("::ffff:255.255.255.255", false),
            ("::1:0:0:0", true),
            ("feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
            ("ff00::", false),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
            ("fdff:2000::1", true),
            ("fe80::1", true),
        ] {
            assert_eq!(is_one_host(text.parse().unwrap()), expected, "{text}");
        }
    }
}
