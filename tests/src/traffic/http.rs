//! Just enough HTTP/1.1 (RFC 9112) to ask a server for its name: one request per connection, `Connection: close`.

use super::MARKER;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Where the server listens.
pub const PORT: u16 = 80;

/// How long a client waits to connect, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server on all IPv6 and IPv4 addresses.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Opens the port (0: any).
    ///
    /// # Errors
    /// When it is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Server> {
        // Linux lets an IPv6 socket accept IPv4 as well.
        TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).map(|listener| Server { listener })
    }

    /// The port that it listens on.
    ///
    /// # Errors
    /// As [`TcpListener::local_addr`].
    pub fn port(&self) -> io::Result<u16> {
        self.listener.local_addr().map(|address| address.port())
    }

    /// Answers every request with `name` on the first line and [`MARKER`] on the second, for ever.
    pub fn run(self, name: &str) {
        for connection in self.listener.incoming().flatten() {
            let name = name.to_owned();
            // A client that breaks off is no business of the server's.
            thread::spawn(move || answer(connection, &name));
        }
    }
}

/// Sends one request and returns the body of the answer.
///
/// # Errors
/// When the address can't be reached within 5 s, or what answers is not HTTP with status 200 and a complete body.
pub fn get(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(connection, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    body(&answer).map(str::to_owned).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not a complete HTTP answer with status 200: {answer:?}"))
    })
}

fn answer(mut connection: TcpStream, name: &str) -> io::Result<()> {
    let mut request = BufReader::new(connection.try_clone()?).take(8192);
    let mut line = String::new();
    let mut body_len = 0;
    while request.read_line(&mut line)? > 2 {
        let header = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        body_len = header.and_then(|(_, value)| value.trim().parse().ok()).unwrap_or(body_len);
        line.clear();
    }
    // What is left unread when the connection is closed resets it.
    io::copy(&mut request.take(body_len), &mut io::sink())?;
    let body = format!("{name}\n{MARKER}\n");
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn body(answer: &str) -> Option<&str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    lines.next()?.strip_prefix("HTTP/1.1 200")?;
    let length: usize = lines.find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()?;
    (body.len() == length).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_learns_the_name_over_ipv4_and_ipv6() {
        let server = Server::bind(0).unwrap();
        let port = server.port().unwrap();
        thread::spawn(move || server.run("S1"));
        for host in ["127.0.0.1", "[::1]"] {
            let answer = get(format!("{host}:{port}").parse().unwrap()).unwrap();
            assert_eq!(answer, format!("S1\n{MARKER}\n"));
        }
    }

    #[test]
    fn a_truncated_or_refused_answer_is_an_error() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), Some("abc"));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), None);
        assert_eq!(body("HTTP/1.1 503 Busy\r\nContent-Length: 3\r\n\r\nabc"), None);
    }
}
