//! The traffic: bulk in each direction over TCP, and round trips over UDP. Every byte that does not arrive is an error.

use acorn_tests::sockets::Sockets;
use anyhow::{Result, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where the board takes bytes and answers with their number; where it gives as many as it is asked for; where it sends datagrams back.
const SINK_PORT: u16 = 9;
const SOURCE_PORT: u16 = 19;
const ECHO_PORT: u16 = 7;

/// Bytes of a transfer.
const BYTES: u32 = 2 << 20;
/// Round trips of which the median is taken, and the bytes of each datagram.
const ECHOES: usize = 200;
const ECHO_BYTES: usize = 32;
/// How long the board may take for what it has in its buffers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way to the board.
pub struct Way {
    /// Where its client is.
    pub sockets: Sockets,
    /// The address of the board on it.
    pub board: IpAddr,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub enum Figure {
    /// The rate at which the board takes bytes, in Mbit/s.
    Sink,
    /// The rate at which it gives them, in Mbit/s.
    Source,
    /// A round trip in milliseconds.
    Echo,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sink, Self::Source, Self::Echo];

    /// What it is, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sink => "TCP to the board, Mbit/s",
            Self::Source => "TCP from the board, Mbit/s",
            Self::Echo => "UDP round trip of 32 bytes, ms",
        }
    }

    /// Measures it once.
    ///
    /// # Errors
    /// When the board does not answer, or a byte is lost.
    pub fn measure(self, way: &Way) -> Result<f64> {
        match self {
            Self::Sink => way.sink(),
            Self::Source => way.source(),
            Self::Echo => way.echo(),
        }
    }
}

impl Way {
    fn sink(&self) -> Result<f64> {
        let mut connection = self.connect(SINK_PORT)?;
        let bytes = vec![b'.'; BYTES as usize];
        let began = Instant::now();
        connection.write_all(&bytes)?;
        connection.shutdown(Shutdown::Write)?;
        let mut counted = String::new();
        connection.read_to_string(&mut counted)?;
        let took = began.elapsed();
        ensure!(counted == BYTES.to_string(), "the board counted {counted:?} of {BYTES} bytes");
        Ok(rate(took))
    }

    fn source(&self) -> Result<f64> {
        let mut connection = self.connect(SOURCE_PORT)?;
        let mut bytes = Vec::with_capacity(BYTES as usize);
        let began = Instant::now();
        connection.write_all(&BYTES.to_be_bytes())?;
        connection.read_to_end(&mut bytes)?;
        let took = began.elapsed();
        ensure!(bytes.len() == BYTES as usize, "{} of {BYTES} bytes came from the board", bytes.len());
        Ok(rate(took))
    }

    /// The median of some round trips.
    fn echo(&self) -> Result<f64> {
        let socket = self.sockets.udp(false, 0)?;
        socket.connect(SocketAddr::new(self.board, ECHO_PORT))?;
        let (sent, mut back) = ([b'.'; ECHO_BYTES], [0; ECHO_BYTES + 1]);
        let mut took = Vec::with_capacity(ECHOES);
        for _ in 0..ECHOES {
            let began = Instant::now();
            socket.send(&sent)?;
            let length = socket.recv(&mut back)?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(back.get(..length) == Some(&sent[..]), "the board sent something else back");
        }
        Ok(super::median(took))
    }

    fn connect(&self, port: u16) -> Result<TcpStream> {
        let connection = self.sockets.connect(SocketAddr::new(self.board, port))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

/// Mbit/s of a transfer.
fn rate(took: Duration) -> f64 {
    f64::from(BYTES) * 8.0 / 1e6 / took.as_secs_f64()
}
