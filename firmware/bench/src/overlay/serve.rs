//! What the board serves on each of its two stacks: bytes in, bytes out, and datagrams back.

use core::fmt::Write;

use embassy_net::Stack;
use embassy_net::tcp::{Error, TcpSocket};
use embassy_net::udp::{PacketMetadata, UdpSocket};

/// Takes bytes until the client has no more, and answers with their number as decimal digits.
const SINK_PORT: u16 = 9;
/// Gives as many bytes as the client asks for with a number of 4 bytes, big endian.
const SOURCE_PORT: u16 = 19;
/// Sends every datagram back.
const ECHO_PORT: u16 = 7;

/// Sockets of one stack.
pub const SOCKETS: usize = 3;
/// Stacks that are served.
const STACKS: usize = 2;

/// Bytes that a TCP socket buffers in the direction in which they are many.
const BULK: usize = 8192;
/// Bytes in the other direction.
const FEW: usize = 64;
/// The longest datagram that is sent back, in bytes.
const LONGEST: usize = 1400;

#[embassy_executor::task(pool_size = STACKS)]
pub async fn sink(stack: Stack<'static>) -> ! {
    let (mut rx, mut tx) = ([0; BULK], [0; FEW]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    loop {
        if socket.accept(SINK_PORT).await.is_ok() {
            let mut count = 0;
            while let Ok(read @ 1..) = socket.read_with(|bytes| (bytes.len(), bytes.len())).await {
                count += read;
            }
            let mut digits = heapless::String::<10>::new();
            // A number of 32 bits has ten digits at most: it fits.
            let _ = write!(digits, "{count}");
            // Whoever goes before the answer does not get it.
            let _ = write_all(&mut socket, digits.as_bytes()).await;
        }
        close(&mut socket).await;
    }
}

#[embassy_executor::task(pool_size = STACKS)]
pub async fn source(stack: Stack<'static>) -> ! {
    let (mut rx, mut tx) = ([0; FEW], [0; BULK]);
    let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
    loop {
        if socket.accept(SOURCE_PORT).await.is_ok() {
            // Whoever goes before the last byte does not get it.
            let _ = give(&mut socket).await;
        }
        close(&mut socket).await;
    }
}

#[embassy_executor::task(pool_size = STACKS)]
pub async fn echo(stack: Stack<'static>) -> ! {
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let (mut rx, mut tx, mut datagram) = ([0; LONGEST], [0; LONGEST], [0; LONGEST]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    defmt::assert!(socket.bind(ECHO_PORT).is_ok(), "the socket is new and the port is not 0");
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut datagram).await {
            // A datagram that has no way back is lost, as datagrams may be.
            let _ = socket.send_to(datagram.get(..length).unwrap_or(&[]), from.endpoint).await;
        }
    }
}

/// Reads how much the client wants, and sends it.
async fn give(socket: &mut TcpSocket<'_>) -> Result<(), Error> {
    let (mut number, mut have) = ([0; 4], 0);
    while let Some(room) = number.get_mut(have..).filter(|room| !room.is_empty()) {
        match socket.read(room).await? {
            0 => return Ok(()),
            read => have += read,
        }
    }
    let mut rest = u32::from_be_bytes(number) as usize;
    while rest > 0 {
        let fill = |room: &mut [u8]| {
            let length = room.len().min(rest);
            // What is in it is of no interest.
            room.iter_mut().take(length).for_each(|byte| *byte = b'.');
            (length, length)
        };
        rest -= socket.write_with(fill).await?;
    }
    Ok(())
}

async fn write_all(socket: &mut TcpSocket<'_>, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        let written = socket.write(bytes).await?;
        bytes = bytes.get(written..).unwrap_or(&[]);
    }
    Ok(())
}

/// Ends a connection so that the other side has got everything, and frees the socket for the next.
async fn close(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = socket.flush().await;
    socket.abort();
    let _ = socket.flush().await;
}
