//! The W5500 as an Ethernet driver for embassy-net: socket 0 in MACRAW mode, everything else of the chip unused (W5500 datasheet, version
//! 1.1.0). embassy-net-wiznet 0.3.0 does the same, but reads one frame per interrupt, so that a burst leaves frames behind until the chip
//! takes no more, and panics at a length that can't be.

mod chip;

use chip::{Chip, Received};
use embassy_futures::select::{Either3, select3};
use embassy_net_driver_channel::driver::{HardwareAddress, LinkState};
use embassy_net_driver_channel::{self as channel, RxRunner, StateRunner, TxRunner};
use embassy_time::{Duration, Ticker, Timer};
use embedded_hal::digital::OutputPin;
use embedded_hal_async::digital::Wait;
use embedded_hal_async::spi::SpiDevice;

pub use chip::StartError;

/// The longest frame in either direction, in bytes: an Ethernet header and 1,500 bytes, without the checksum, which the chip does.
pub const FRAME: usize = 1514;
/// How often the link is looked at: the chip has no interrupt for it.
const LINK_INTERVAL: Duration = Duration::from_secs(1);
/// The reset pin is held low for 500 µs at least, and the PLL locks within 1 ms (datasheet section 5.5.1).
const RESET: Duration = Duration::from_millis(2);

/// The driver's end for embassy-net.
pub type Device = channel::Device<'static, FRAME>;
/// The memory of the driver: so many frames that were received and are to be sent.
pub type Queues<const RX: usize, const TX: usize> = channel::State<FRAME, RX, TX>;

/// The task of the driver. [`Runner::run`] must run for frames to go.
pub struct Runner<SPI, INT> {
    chip: Chip<SPI>,
    interrupt: INT,
    state: StateRunner<'static>,
    received: RxRunner<'static, FRAME>,
    to_send: TxRunner<'static, FRAME>,
}

/// Resets the chip by its pin and sets it up with the Ethernet address `address`.
///
/// # Errors
/// No W5500 answers on `spi`, or the bus fails.
pub async fn start<const RX: usize, const TX: usize, SPI: SpiDevice, INT: Wait>(
    address: [u8; 6],
    queues: &'static mut Queues<RX, TX>,
    spi: SPI,
    interrupt: INT,
    reset: &mut impl OutputPin,
) -> Result<(Device, Runner<SPI, INT>), StartError<SPI::Error>> {
    // A pin that can't be driven leaves the chip as it is, and the reset by command in `Chip::start` has to do.
    let _ = reset.set_low();
    Timer::after(RESET).await;
    let _ = reset.set_high();
    Timer::after(RESET).await;
    let chip = Chip::start(spi, address).await?;
    let (runner, device) = channel::new(queues, HardwareAddress::Ethernet(address));
    let (state, received, to_send) = runner.split();
    Ok((device, Runner { chip, interrupt, state, received, to_send }))
}

impl<SPI: SpiDevice, INT: Wait> Runner<SPI, INT> {
    /// Runs the driver. Errors of the bus cost frames, never the driver.
    pub async fn run(mut self) -> ! {
        let mut tick = Ticker::every(LINK_INTERVAL);
        // Whether the chip may hold more frames than its interrupt tells of: the interrupt is one bit, however many frames have come.
        let mut more = true;
        loop {
            let room = async {
                if !more {
                    // A pin that can't be waited for becomes a poll of the chip.
                    let _ = self.interrupt.wait_for_low().await;
                }
                self.received.rx_buf().await
            };
            // What is to be sent comes first: it is bounded by what was received, and not the other way round.
            match select3(self.to_send.tx_buf(), room, tick.next()).await {
                Either3::First(frame) => {
                    let _ = self.chip.send(frame).await;
                    self.to_send.tx_done();
                }
                Either3::Second(frame) => match self.chip.receive(frame).await {
                    Ok(Received::Frame(length)) => {
                        self.received.rx_done(length);
                        more = true;
                    }
                    Ok(Received::Refused) => more = true,
                    Ok(Received::Nothing) | Err(_) => more = false,
                },
                Either3::Third(()) => {
                    // Looked at too, in case an interrupt was missed: a chip that is full says nothing more.
                    more = true;
                    let up = self.chip.link_is_up().await.unwrap_or(false);
                    self.state.set_link_state(if up { LinkState::Up } else { LinkState::Down });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
