//! A hardware address for a board that comes without one.

use blake2::{Blake2s256, Digest};

/// The Ethernet address of the chip with the serial number `serial`: always the same one, unicast and locally administered (IEEE 802,
/// section 8.2), which leaves 46 bits to tell boards apart.
pub fn address(serial: &[u8]) -> [u8; 6] {
    let digest: [u8; 32] = Blake2s256::digest(serial).into();
    let [first, b, c, d, e, f, ..] = digest;
    [first & !0b01 | 0b10, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_of_one_wafer_get_addresses_of_their_own() {
        for serial in 0..1000u16 {
            let address = address(&serial.to_le_bytes());
            assert_eq!(address[0] & 0b11, 0b10, "unicast and locally administered");
            assert_eq!(address, super::address(&serial.to_le_bytes()));
            assert_ne!(address, super::address(&(serial + 1).to_le_bytes()));
        }
    }
}
