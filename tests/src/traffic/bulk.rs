//! A bulk transfer over TCP: the sink counts what it gets and says so at the end; the sender compares and computes the rate.

use super::MARKER;
use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Where the sink listens.
pub const PORT: u16 = 5001;

/// How long the sender waits to connect, and without progress.
const PATIENCE: Duration = Duration::from_secs(10);

const MEBIBYTE: usize = 1024 * 1024;

/// A server that swallows bytes and answers with their number.
#[derive(Debug)]
pub struct Sink {
    listener: TcpListener,
}

impl Sink {
    /// Opens the port (0: any) on all IPv6 and IPv4 addresses.
    ///
    /// # Errors
    /// When it is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Sink> {
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).map(|listener| Sink { listener })
    }

    /// The port that it listens on.
    ///
    /// # Errors
    /// As [`TcpListener::local_addr`].
    pub fn port(&self) -> io::Result<u16> {
        self.listener.local_addr().map(|address| address.port())
    }

    /// Serves connections for ever.
    pub fn run(self) {
        for connection in self.listener.incoming().flatten() {
            thread::spawn(move || swallow(connection));
        }
    }
}

/// Sends `mebibytes` MiB made of [`MARKER`] and waits until the sink has counted them. Returns the rate in Mbit/s of
/// payload.
///
/// # Errors
/// When the sink can't be reached, makes no progress for 10 s, or counts something else.
pub fn send(address: SocketAddr, mebibytes: u32) -> io::Result<f64> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_write_timeout(Some(PATIENCE))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut chunk = MARKER.repeat(MEBIBYTE / MARKER.len() + 1).into_bytes();
    chunk.truncate(MEBIBYTE);

    let started = Instant::now();
    for _ in 0..mebibytes {
        connection.write_all(&chunk)?;
    }
    connection.shutdown(Shutdown::Write)?;
    let mut counted = String::new();
    connection.read_to_string(&mut counted)?;
    let elapsed = started.elapsed();

    let sent = u64::from(mebibytes) * MEBIBYTE as u64;
    if counted.trim().parse() != Ok(sent) {
        let message = format!("{sent} bytes sent, but the sink counted {:?}", counted.trim());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(sent as f64 * 8.0 / 1e6 / elapsed.as_secs_f64())
}

fn swallow(mut connection: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut count: u64 = 0;
    loop {
        match connection.read(&mut buffer)? {
            0 => return writeln!(connection, "{count}"),
            read => count += read as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_counted() {
        let sink = Sink::bind(0).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], sink.port().unwrap()));
        thread::spawn(move || sink.run());
        assert!(send(address, 3).unwrap() > 0.0);
    }

    #[test]
    fn a_sink_that_counts_wrong_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            io::copy(&mut connection, &mut io::sink()).unwrap();
            write!(connection, "17").unwrap();
        });
        let error = send(address, 1).unwrap_err().to_string();
        assert!(error.contains("17"), "{error}");
    }
}
