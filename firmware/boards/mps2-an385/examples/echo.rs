//! Plain `embassy-net` on the board: TCP echo on port 7, TCP sink on port 9, UDP echo on port 7, and answers to ping.
//!
//! Arguments: `ip=A.B.C.D/P`. Logs once a second while packets come what the board has counted.
#![no_std]
#![no_main]

use core::net::Ipv4Addr;

use embassy_executor::Spawner;
use embassy_net::tcp::TcpSocket;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use embassy_time::{Duration, Instant};
use mps2_an385::executor::{Executor, wakeups};
use mps2_an385::lan9118::{self, Lan9118};
use mps2_an385::leds::Led;
use mps2_an385::{entry, host, panic, stack};
use static_cell::{ConstStaticCell, StaticCell};

/// Bytes of each direction of a TCP socket.
const TCP_BUFFER: usize = 8192;
/// Bytes and datagrams of each direction of the UDP socket.
const UDP_BUFFER: usize = 8192;
const UDP_DATAGRAMS: usize = 16;
/// The longest datagram that is answered.
const UDP_LONGEST: usize = 1472;
const ECHO_PORT: u16 = 7;
const SINK_PORT: u16 = 9;
const SOCKETS: usize = 3;

#[entry]
fn main() -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    mps2_an385::init();
    EXECUTOR.init_with(Executor::new).run(|spawner| spawner.spawn(start(spawner).expect("spawned once")))
}

#[embassy_executor::task]
async fn start(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    if let Some(message) = panic::last_panic() {
        defmt::warn!("the last run ended: {=str}", message);
    }
    let address = host::arg("ip").and_then(cidr).unwrap_or(Ipv4Cidr::new(Ipv4Addr::new(192, 168, 78, 2), 24));
    let mut seed = [0; 8];
    host::entropy(&mut seed).expect("the host has random bytes");
    let config = StaticConfigV4 { address, gateway: None, dns_servers: Default::default() };
    let driver = Lan9118::new().expect("the board has Ethernet");
    let (stack, runner) = embassy_net::new(
        driver,
        Config::ipv4_static(config),
        RESOURCES.init_with(StackResources::new),
        u64::from_le_bytes(seed),
    );
    spawner.spawn(network(runner).expect("spawned once"));
    spawner.spawn(tcp_echo(stack).expect("spawned once"));
    spawner.spawn(tcp_sink(stack).expect("spawned once"));
    spawner.spawn(udp_echo(stack).expect("spawned once"));
    spawner.spawn(report(stack).expect("spawned once"));
    defmt::info!("echo on {}", address);
}

/// `A.B.C.D/P` as an address with its prefix.
fn cidr(text: &str) -> Option<Ipv4Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse().ok().filter(|&prefix| prefix <= 32)?;
    Some(Ipv4Cidr::new(address.parse().ok()?, prefix))
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

/// Tells of the link, and what the board has counted, whenever the link changes.
#[embassy_executor::task]
async fn report(stack: Stack<'static>) -> ! {
    loop {
        stack.wait_link_up().await;
        Led::User0.set(true);
        defmt::info!("link up");
        stack.wait_link_down().await;
        Led::User0.set(false);
        defmt::info!(
            "link down; {}, {} wake-ups in {} ms, stack {} of {} bytes",
            lan9118::counters(),
            wakeups(),
            Instant::now().as_millis(),
            stack::high_water(),
            stack::size()
        );
    }
}

#[embassy_executor::task]
async fn tcp_echo(stack: Stack<'static>) -> ! {
    static RX: ConstStaticCell<[u8; TCP_BUFFER]> = ConstStaticCell::new([0; TCP_BUFFER]);
    static TX: ConstStaticCell<[u8; TCP_BUFFER]> = ConstStaticCell::new([0; TCP_BUFFER]);
    static PIECE: ConstStaticCell<[u8; 2048]> = ConstStaticCell::new([0; 2048]);
    let piece = PIECE.take();
    let mut socket = TcpSocket::new(stack, RX.take(), TX.take());
    loop {
        if socket.accept(ECHO_PORT).await.is_ok() {
            while let Ok(length @ 1..) = socket.read(piece).await {
                let mut rest = &piece[..length];
                while let Ok(sent @ 1..) = socket.write(rest).await {
                    rest = &rest[sent..];
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
        close(&mut socket).await;
    }
}

#[embassy_executor::task]
async fn tcp_sink(stack: Stack<'static>) -> ! {
    static RX: ConstStaticCell<[u8; TCP_BUFFER]> = ConstStaticCell::new([0; TCP_BUFFER]);
    static TX: ConstStaticCell<[u8; 64]> = ConstStaticCell::new([0; 64]);
    let mut socket = TcpSocket::new(stack, RX.take(), TX.take());
    loop {
        if socket.accept(SINK_PORT).await.is_ok() {
            while let Ok(1..) = socket.read_with(|bytes| (bytes.len(), bytes.len())).await {}
        }
        close(&mut socket).await;
    }
}

/// Ends a connection so that the other side has got everything, and frees the socket for the next.
async fn close(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = embassy_time::with_timeout(Duration::from_secs(5), socket.flush()).await;
    socket.abort();
    let _ = socket.flush().await;
}

#[embassy_executor::task]
async fn udp_echo(stack: Stack<'static>) -> ! {
    static RX_META: ConstStaticCell<[PacketMetadata; UDP_DATAGRAMS]> =
        ConstStaticCell::new([PacketMetadata::EMPTY; UDP_DATAGRAMS]);
    static TX_META: ConstStaticCell<[PacketMetadata; UDP_DATAGRAMS]> =
        ConstStaticCell::new([PacketMetadata::EMPTY; UDP_DATAGRAMS]);
    static RX: ConstStaticCell<[u8; UDP_BUFFER]> = ConstStaticCell::new([0; UDP_BUFFER]);
    static TX: ConstStaticCell<[u8; UDP_BUFFER]> = ConstStaticCell::new([0; UDP_BUFFER]);
    static DATAGRAM: ConstStaticCell<[u8; UDP_LONGEST]> = ConstStaticCell::new([0; UDP_LONGEST]);
    let datagram = DATAGRAM.take();
    let mut socket = UdpSocket::new(stack, RX_META.take(), RX.take(), TX_META.take(), TX.take());
    socket.bind(ECHO_PORT).expect("the port is free");
    loop {
        if let Ok((length, from)) = socket.recv_from(datagram).await {
            // A datagram that has no way back is lost, as datagrams may be.
            let _ = socket.send_to(&datagram[..length], from.endpoint).await;
        }
    }
}
