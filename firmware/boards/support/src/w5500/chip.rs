//! The registers of the W5500 (datasheet section 4), and frames through its buffers.

use embedded_hal_async::spi::{Operation, SpiDevice};

/// Blocks of the address space (datasheet section 2.2.2): common registers, and registers, transmit and receive buffer of socket 0.
const COMMON: u8 = 0;
const SOCKET: u8 = 1;
const TX_BUFFER: u8 = 2;
const RX_BUFFER: u8 = 3;

/// A register: its block and its offset.
type Register = (u8, u16);

/// MR: mode.
const MODE: Register = (COMMON, 0x00);
/// SHAR: source hardware address.
const ADDRESS: Register = (COMMON, 0x09);
/// SIMR: which sockets may interrupt.
const INTERRUPT_MASK: Register = (COMMON, 0x18);
/// PHYCFGR: state of the PHY.
const PHY: Register = (COMMON, 0x2e);
/// VERSIONR.
const VERSION: Register = (COMMON, 0x39);
/// Sn_MR: mode.
const SOCKET_MODE: Register = (SOCKET, 0x00);
/// Sn_CR: command. Reads as 0 once the command is taken.
const COMMAND: Register = (SOCKET, 0x01);
/// Sn_IR: interrupts. A 1 that is written clears its bit.
const INTERRUPT: Register = (SOCKET, 0x02);
/// Offset of Sn_RXBUF_SIZE, in KiB. Sn_TXBUF_SIZE follows it.
const BUFFER_SIZES: u16 = 0x1e;
/// Sn_TX_FSR: free bytes of the transmit buffer.
const TX_FREE: Register = (SOCKET, 0x20);
/// Sn_TX_WR: where the next byte to send goes.
const TX_WRITE: Register = (SOCKET, 0x24);
/// Sn_RX_RSR: bytes in the receive buffer.
const RX_SIZE: Register = (SOCKET, 0x26);
/// Sn_RX_RD: where the next byte received is.
const RX_READ: Register = (SOCKET, 0x28);

/// MR: reset by command.
const RESET: u8 = 0x80;
/// Sn_MR: MACRAW, for this node's address and broadcasts only. Multicast is blocked (MMB, MIP6B): the underlay is IPv4 and joins no group.
const MACRAW: u8 = 0x80 | 0x20 | 0x10 | 0x04;
/// Sn_IR: a frame was received.
const RECEIVED: u8 = 0x04;

const OPEN: u8 = 0x01;
const CLOSE: u8 = 0x10;
const SEND: u8 = 0x20;
const RECEIVE: u8 = 0x40;

/// How often a register is read until it says what it has to. Each time takes a few microseconds.
const PATIENCE: usize = 1000;
/// A frame in the receive buffer comes after its length, which counts these two bytes too (datasheet section 4.2, MACRAW).
const LENGTH: usize = 2;
/// An Ethernet header.
const SHORTEST: usize = 14;

/// Why the chip can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartError<E> {
    /// The bus failed.
    Bus(E),
    /// Another chip answers, or none: the version register reads so instead of 4.
    NotW5500(u8),
}

/// What came of looking for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame of so many bytes.
    Frame(usize),
    /// The receive buffer made no sense, and was emptied.
    Refused,
    /// There is none.
    Nothing,
}

/// A W5500 on the bus `SPI`.
pub struct Chip<SPI>(SPI);

impl<SPI: SpiDevice> Chip<SPI> {
    /// Resets and sets up the chip.
    pub async fn start(spi: SPI, address: [u8; 6]) -> Result<Self, StartError<SPI::Error>> {
        let mut chip = Self(spi);
        match chip.set_up(address).await.map_err(StartError::Bus)? {
            4 => Ok(chip),
            other => Err(StartError::NotW5500(other)),
        }
    }

    async fn set_up(&mut self, address: [u8; 6]) -> Result<u8, SPI::Error> {
        self.write(MODE, &[RESET]).await?;
        for _ in 0..PATIENCE {
            if self.byte(MODE).await? & RESET == 0 {
                break;
            }
        }
        self.write(ADDRESS, &address).await?;
        // All 16 KiB of each direction to socket 0: what all sockets have together must not be more.
        for socket in 1..8 {
            self.write((SOCKET + 4 * socket, BUFFER_SIZES), &[0, 0]).await?;
        }
        self.write((SOCKET, BUFFER_SIZES), &[16, 16]).await?;
        self.write(INTERRUPT_MASK, &[1]).await?;
        self.open().await?;
        self.byte(VERSION).await
    }

    async fn open(&mut self) -> Result<(), SPI::Error> {
        self.write(SOCKET_MODE, &[MACRAW]).await?;
        self.command(OPEN).await
    }

    /// Whether there is a link.
    pub async fn link_is_up(&mut self) -> Result<bool, SPI::Error> {
        Ok(self.byte(PHY).await? & 1 == 1)
    }

    /// Takes the next frame out of the receive buffer.
    pub async fn receive(&mut self, frame: &mut [u8]) -> Result<Received, SPI::Error> {
        // Before the size is read: a frame that comes in between interrupts again.
        self.write(INTERRUPT, &[RECEIVED]).await?;
        let waiting = usize::from(self.settled(RX_SIZE).await?);
        if waiting == 0 {
            return Ok(Received::Nothing);
        }
        let start = self.word(RX_READ).await?;
        let mut length = [0; LENGTH];
        self.read((RX_BUFFER, start), &mut length).await?;
        let total = usize::from(u16::from_be_bytes(length));
        let length = total.saturating_sub(LENGTH);
        let Some(frame) = frame.get_mut(..length).filter(|_| length >= SHORTEST && total <= waiting) else {
            // Where the next frame begins is not known any more.
            self.command(CLOSE).await?;
            self.open().await?;
            return Ok(Received::Refused);
        };
        self.read((RX_BUFFER, start.wrapping_add(LENGTH as u16)), frame).await?;
        self.write(RX_READ, &start.wrapping_add(total as u16).to_be_bytes()).await?;
        self.command(RECEIVE).await?;
        Ok(Received::Frame(length))
    }

    /// Sends a frame, or drops it when the transmit buffer does not empty.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), SPI::Error> {
        for _ in 0..PATIENCE {
            if usize::from(self.settled(TX_FREE).await?) < frame.len() {
                continue;
            }
            let start = self.word(TX_WRITE).await?;
            self.write((TX_BUFFER, start), frame).await?;
            self.write(TX_WRITE, &start.wrapping_add(frame.len() as u16).to_be_bytes()).await?;
            return self.command(SEND).await;
        }
        Ok(())
    }

    /// Gives a command and waits until the chip has taken it.
    async fn command(&mut self, command: u8) -> Result<(), SPI::Error> {
        self.write(COMMAND, &[command]).await?;
        for _ in 0..PATIENCE {
            if self.byte(COMMAND).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// A size that the chip changes by itself: read until it reads the same twice, since its two bytes are not read at once (datasheet
    /// section 4.2, Sn_TX_FSR).
    async fn settled(&mut self, register: Register) -> Result<u16, SPI::Error> {
        let mut size = self.word(register).await?;
        for _ in 0..PATIENCE {
            let again = self.word(register).await?;
            if again == size {
                break;
            }
            size = again;
        }
        Ok(size)
    }

    async fn byte(&mut self, register: Register) -> Result<u8, SPI::Error> {
        let mut byte = [0];
        self.read(register, &mut byte).await?;
        let [byte] = byte;
        Ok(byte)
    }

    async fn word(&mut self, register: Register) -> Result<u16, SPI::Error> {
        let mut word = [0; 2];
        self.read(register, &mut word).await?;
        Ok(u16::from_be_bytes(word))
    }

    async fn read(&mut self, (block, offset): Register, data: &mut [u8]) -> Result<(), SPI::Error> {
        let [high, low] = offset.to_be_bytes();
        let header = [high, low, block << 3];
        self.0.transaction(&mut [Operation::Write(&header), Operation::Read(data)]).await
    }

    async fn write(&mut self, (block, offset): Register, data: &[u8]) -> Result<(), SPI::Error> {
        let [high, low] = offset.to_be_bytes();
        let header = [high, low, block << 3 | 0b100];
        self.0.transaction(&mut [Operation::Write(&header), Operation::Write(data)]).await
    }
}
