//! The chip below the driver: bring-up, link, and frames through its FIFOs.

use super::registers::*;
use super::{FCS, FRAME, InitError};
use crate::mmio::Block;

/// The LAN9118 at 0x4020_0000.
// SAFETY: AN385 has the Ethernet controller there.
pub(super) const CHIP: Block<BLOCK> = unsafe { Block::new(0x4020_0000) };

/// A frame as the FIFOs move it, in whole words.
pub(super) type Buffer = [u8; FRAME.next_multiple_of(4)];

/// Polls before a wait is given up: more than 100 ms on the 25 MHz machine.
const PATIENCE: u32 = 500_000;

/// Polls that take longer than a frame takes on the wire, 123 µs.
const ONE_FRAME: u32 = 1_000;

/// What the receiver holds.
pub(super) enum Received {
    /// Nothing.
    Empty,
    /// A frame of so many bytes, now in the buffer.
    Frame(usize),
    /// A frame that came in with an error; it is gone.
    Broken,
    /// A frame longer than Ethernet has them; it is gone.
    Oversize,
    /// A status that does not fit the data: the receiver must be started anew.
    OutOfStep,
}

/// Brings the chip up, from whatever state it is in, and returns its MAC address. Its interrupts stay off.
pub(super) fn start() -> Result<[u8; 6], InitError> {
    wait(|| CHIP.read(BYTE_TEST) == BYTE_TEST_VALUE && CHIP.read(PMT_CTRL) & READY != 0)?;
    CHIP.write(INT_EN, 0);
    CHIP.write(HW_CFG, SOFT_RESET);
    wait(|| CHIP.read(HW_CFG) & SOFT_RESET == 0)?;
    CHIP.write(HW_CFG, HW_DEFAULT);
    wait(|| CHIP.read(E2P_CMD) & EEPROM_BUSY == 0)?;
    let address = mac_address()?;

    CHIP.write(FIFO_INT, TX_AVAILABLE_LEVEL << 24);
    CHIP.write(INT_STS, u32::MAX);
    CHIP.write(IRQ_CFG, IRQ_ENABLED_HIGH_PUSH_PULL);

    phy_write(BMCR, PHY_RESET)?;
    wait(|| phy_read(BMCR).is_ok_and(|control| control & PHY_RESET == 0))?;
    phy_write(PHY_MASK, PHY_EVENTS)?;
    phy_write(BMCR, NEGOTIATE)?;

    CHIP.write(RX_CFG, 0);
    CHIP.write(TX_CFG, TX_ON);
    mac_write(MAC_CR, MAC_ON | FULL_DUPLEX)?;
    Ok(address)
}

fn mac_address() -> Result<[u8; 6], InitError> {
    let [a, b, c, d] = mac_read(MAC_ADDRL)?.to_le_bytes();
    let [e, f, ..] = mac_read(MAC_ADDRH)?.to_le_bytes();
    let address = [a, b, c, d, e, f];
    // The lowest bit marks groups (IEEE 802, 8.2.2): no station's own address has it.
    if a & 1 == 1 || address == [0; 6] { Err(InitError::NoAddress) } else { Ok(address) }
}

/// Whether the link is up. Takes back the PHY's interrupt, and sets the MAC to the duplex that was negotiated.
pub(super) fn link() -> Result<bool, InitError> {
    phy_read(PHY_SOURCE)?;
    // The first read tells of a loss since the last time, the second how things are.
    phy_read(BMSR)?;
    let up = phy_read(BMSR)? & LINK_UP != 0;
    if up {
        let common = phy_read(ADVERTISED)? & phy_read(PARTNER)?;
        let full = common & FULL_100 != 0 || common & (HALF_100 | FULL_10) == FULL_10;
        mac_write(MAC_CR, MAC_ON | if full { FULL_DUPLEX } else { 0 })?;
    }
    Ok(up)
}

/// Takes the next frame out of the FIFO.
///
/// Frames that are not wanted are read out too: the chip's fast-forward would be quicker, but QEMU's forgets to give their
/// room back.
pub(super) fn receive(buffer: &mut Buffer) -> Received {
    let (statuses, held) = held();
    if statuses == 0 {
        return if held == 0 || !data_without_status() { Received::Empty } else { Received::OutOfStep };
    }
    let status = CHIP.read(RX_STATUS);
    let length = (status >> RX_LENGTH_SHIFT & RX_LENGTH_MASK) as usize;
    if length < FCS || length > held as usize {
        return Received::OutOfStep;
    }
    let words = length.div_ceil(4);
    if status & RX_ERROR != 0 || length - FCS > FRAME {
        for _ in 0..words {
            CHIP.read(RX_DATA);
        }
        return if status & RX_ERROR != 0 { Received::Broken } else { Received::Oversize };
    }
    let (kept, _) = buffer.as_chunks_mut::<4>();
    let kept_words = words.min(kept.len());
    for chunk in kept.iter_mut().take(kept_words) {
        *chunk = CHIP.read(RX_DATA).to_le_bytes();
    }
    // What the buffer has no room for belongs to the frame check sequence.
    for _ in kept_words..words {
        CHIP.read(RX_DATA);
    }
    Received::Frame(length - FCS)
}

/// The frames and the bytes that the receiver holds.
fn held() -> (u32, u32) {
    let info = CHIP.read(RX_FIFO_INF);
    (info >> 16 & 0xFF, info & 0xFFFF)
}

/// Whether the receiver holds data that no status belongs to, for longer than the arrival of a frame takes. Every frame that
/// comes would then be read as the one before it.
fn data_without_status() -> bool {
    (0..ONE_FRAME).all(|_| matches!(held(), (0, 1..)))
}

/// Whether the longest frame, with its command words, fits into the TX FIFO.
pub(super) fn room_to_send() -> bool {
    CHIP.read(TX_FIFO_INF) & 0xFFFF > TX_AVAILABLE_LEVEL * 64
}

/// Hands the first `length` bytes of the buffer over as one frame. There must be [`room_to_send`]; the chip pads what is too
/// short.
pub(super) fn send(buffer: &Buffer, length: usize) {
    CHIP.write(TX_DATA, WHOLE_FRAME | length as u32);
    CHIP.write(TX_DATA, length as u32);
    let (words, _) = buffer.as_chunks::<4>();
    for word in words.iter().take(length.div_ceil(4)) {
        CHIP.write(TX_DATA, u32::from_le_bytes(*word));
    }
}

/// Takes the reports on sent frames out of their FIFO, so that it never fills up. Returns how many tell of an error.
pub(super) fn sent_with_errors() -> u32 {
    let reports = CHIP.read(TX_FIFO_INF) >> 16 & 0xFF;
    (0..reports).map(|_| u32::from(CHIP.read(TX_STATUS) & TX_ERROR != 0)).sum()
}

fn mac_read(register: u32) -> Result<u32, InitError> {
    wait(|| CHIP.read(MAC_CSR_CMD) & MAC_BUSY == 0)?;
    CHIP.write(MAC_CSR_CMD, MAC_BUSY | MAC_READ | register);
    wait(|| CHIP.read(MAC_CSR_CMD) & MAC_BUSY == 0)?;
    Ok(CHIP.read(MAC_CSR_DATA))
}

fn mac_write(register: u32, value: u32) -> Result<(), InitError> {
    wait(|| CHIP.read(MAC_CSR_CMD) & MAC_BUSY == 0)?;
    CHIP.write(MAC_CSR_DATA, value);
    CHIP.write(MAC_CSR_CMD, MAC_BUSY | register);
    wait(|| CHIP.read(MAC_CSR_CMD) & MAC_BUSY == 0)
}

fn phy_read(register: u32) -> Result<u32, InitError> {
    wait(|| mac_read(MII_ACC).is_ok_and(|access| access & MII_BUSY == 0))?;
    mac_write(MII_ACC, PHY_ADDRESS | register << 6 | MII_BUSY)?;
    wait(|| mac_read(MII_ACC).is_ok_and(|access| access & MII_BUSY == 0))?;
    Ok(mac_read(MII_DATA)? & 0xFFFF)
}

fn phy_write(register: u32, value: u32) -> Result<(), InitError> {
    wait(|| mac_read(MII_ACC).is_ok_and(|access| access & MII_BUSY == 0))?;
    mac_write(MII_DATA, value)?;
    mac_write(MII_ACC, PHY_ADDRESS | register << 6 | MII_WRITE | MII_BUSY)?;
    wait(|| mac_read(MII_ACC).is_ok_and(|access| access & MII_BUSY == 0))
}

/// Waits until the chip is so far, but not for ever.
fn wait(done: impl Fn() -> bool) -> Result<(), InitError> {
    if (0..PATIENCE).any(|_| done()) { Ok(()) } else { Err(InitError::NoAnswer) }
}
