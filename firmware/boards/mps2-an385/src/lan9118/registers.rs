//! The registers of the LAN9118 that the driver uses, and their bits. Section numbers are those of the data sheet (SMSC LAN9118,
//! revision 1.1). QEMU stops with an error at any register that the chip does not have.

/// RX data FIFO port (3.13): each read takes one word of the frame at the head.
pub(super) const RX_DATA: usize = 0x00;
/// TX data FIFO port (3.12): two command words, then the frame.
pub(super) const TX_DATA: usize = 0x20;
/// RX status FIFO port: one word a frame, in the order of the frames.
pub(super) const RX_STATUS: usize = 0x40;
/// TX status FIFO port.
pub(super) const TX_STATUS: usize = 0x48;
pub(super) const IRQ_CFG: usize = 0x54;
pub(super) const INT_STS: usize = 0x58;
pub(super) const INT_EN: usize = 0x5C;
/// Always reads [`BYTE_TEST_VALUE`] once the chip answers.
pub(super) const BYTE_TEST: usize = 0x64;
pub(super) const FIFO_INT: usize = 0x68;
pub(super) const RX_CFG: usize = 0x6C;
pub(super) const TX_CFG: usize = 0x70;
pub(super) const HW_CFG: usize = 0x74;
pub(super) const RX_FIFO_INF: usize = 0x7C;
pub(super) const TX_FIFO_INF: usize = 0x80;
pub(super) const PMT_CTRL: usize = 0x84;
/// Frames that the chip dropped for want of room since the last read.
pub(super) const RX_DROP: usize = 0xA0;
pub(super) const MAC_CSR_CMD: usize = 0xA4;
pub(super) const MAC_CSR_DATA: usize = 0xA8;
pub(super) const E2P_CMD: usize = 0xB0;
/// Bytes of the block.
pub(super) const BLOCK: usize = 0x100;

pub(super) const BYTE_TEST_VALUE: u32 = 0x8765_4321;

/// IRQ_CFG (5.3.1): the line enabled, active high, push-pull. Without the latter two the line idles asserted.
pub(super) const IRQ_ENABLED_HIGH_PUSH_PULL: u32 = 0x111;

/// INT_STS and INT_EN (5.3.2): the PHY has something to say; stays until the PHY's interrupt source register is read.
pub(super) const PHY_INT: u32 = 1 << 18;
/// Receiver error: status and data FIFO disagree, or the FIFO was read empty.
pub(super) const RXE_INT: u32 = 1 << 14;
/// Transmitter error: a frame was not as its command words said.
pub(super) const TXE_INT: u32 = 1 << 13;
/// The TX data FIFO has more room than FIFO_INT says.
pub(super) const TDFA_INT: u32 = 1 << 9;
/// The RX status FIFO holds more words than FIFO_INT says.
pub(super) const RSFL_INT: u32 = 1 << 3;

/// FIFO_INT (5.3.5): position of the TX level, in units of 64 bytes. The RX status level is 0: one frame is enough.
pub(super) const TX_AVAILABLE_LEVEL: u32 = 24;

/// HW_CFG (5.3.9): soft reset, clears itself.
pub(super) const SOFT_RESET: u32 = 1 << 0;
/// A bit that must be one, and 5 KiB of the FIFO memory for sending.
pub(super) const HW_DEFAULT: u32 = 1 << 20 | 5 << 16;
/// PMT_CTRL (5.3.13): the chip is awake.
pub(super) const READY: u32 = 1 << 0;
/// TX_CFG (5.3.8): transmitter on.
pub(super) const TX_ON: u32 = 1 << 1;
/// E2P_CMD (5.3.23): the EEPROM, which the MAC address comes from, is being read.
pub(super) const EEPROM_BUSY: u32 = 1 << 31;

/// MAC_CSR_CMD (5.3.19): under way; a read instead of a write.
pub(super) const MAC_BUSY: u32 = 1 << 31;
pub(super) const MAC_READ: u32 = 1 << 30;

/// Registers of the MAC (5.4), reached through MAC_CSR_CMD.
pub(super) const MAC_CR: u32 = 1;
pub(super) const MAC_ADDRH: u32 = 2;
pub(super) const MAC_ADDRL: u32 = 3;
pub(super) const MII_ACC: u32 = 6;
pub(super) const MII_DATA: u32 = 7;

/// MAC_CR (5.4.1): transmitter and receiver on. No bit for multicast or promiscuous: frames to the chip's own address and
/// broadcasts come in, nothing else does.
pub(super) const MAC_ON: u32 = 1 << 3 | 1 << 2;
pub(super) const FULL_DUPLEX: u32 = 1 << 20;

/// MII_ACC (5.4.6): the internal PHY's address; a write; under way.
pub(super) const PHY_ADDRESS: u32 = 1 << 11;
pub(super) const MII_WRITE: u32 = 1 << 1;
pub(super) const MII_BUSY: u32 = 1 << 0;

/// Registers of the PHY (5.5, IEEE 802.3 clause 22).
pub(super) const BMCR: u32 = 0;
pub(super) const BMSR: u32 = 1;
pub(super) const ADVERTISED: u32 = 4;
pub(super) const PARTNER: u32 = 5;
/// Interrupt source; a read clears it.
pub(super) const PHY_SOURCE: u32 = 29;
pub(super) const PHY_MASK: u32 = 30;

/// BMCR: reset, clears itself.
pub(super) const PHY_RESET: u32 = 1 << 15;
/// BMCR: negotiate, and begin now.
pub(super) const NEGOTIATE: u32 = 1 << 12 | 1 << 9;
/// BMSR: the link is up. Latches a loss until it is read.
pub(super) const LINK_UP: u32 = 1 << 2;
/// ADVERTISED and PARTNER: 100BASE-TX full, 100BASE-TX half, 10BASE-T full duplex.
pub(super) const FULL_100: u32 = 1 << 8;
pub(super) const HALF_100: u32 = 1 << 7;
pub(super) const FULL_10: u32 = 1 << 6;
/// PHY interrupts: negotiation complete, link down.
pub(super) const PHY_EVENTS: u32 = 1 << 6 | 1 << 4;

/// A word of the RX status FIFO (3.13.3): error summary, and the length in its upper half, frame check sequence included.
pub(super) const RX_ERROR: u32 = 1 << 15;
pub(super) const RX_LENGTH_SHIFT: u32 = 16;
pub(super) const RX_LENGTH_MASK: u32 = 0x3FFF;

/// A word of the TX status FIFO (3.12.6): error summary.
pub(super) const TX_ERROR: u32 = 1 << 15;

/// TX command word A (3.12.2): first and last segment in one.
pub(super) const WHOLE_FRAME: u32 = 1 << 13 | 1 << 12;
