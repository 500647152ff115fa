//! What the node serves: its readings.
//!
//! - TCP, port [`PORT`]: one reading and a line end, then the connection is closed.
//! - UDP, port [`PORT`]: a reading for every datagram of at most 64 bytes, whatever is in it.
//! - HTTP/1.1 (RFC 9112), port 80: `GET /` is a page for people, `GET /reading` a reading.

use core::fmt::Write;

use embassy_net::Stack;
use embassy_net::tcp::TcpSocket;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_time::{Duration, with_timeout};

use crate::reading::{READING_MAX, Source};

/// Where readings are served over TCP and UDP.
pub const PORT: u16 = 7000;
/// Where pages are served.
pub const HTTP_PORT: u16 = 80;
/// Pages that are served at once.
pub(crate) const PAGES: usize = 1;

/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for a request's head in bytes.
const REQUEST_MAX: usize = 512;
/// Header lines of a request that are read.
const HEADERS_MAX: usize = 16;

#[embassy_executor::task]
pub(crate) async fn tcp(stack: Stack<'static>, source: Source) {
    let (mut rx, mut tx) = ([0; 64], [0; 536]);
    loop {
        let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
        socket.set_timeout(Some(PATIENCE));
        if socket.accept(PORT).await.is_ok() {
            let mut reading = [0; READING_MAX];
            let line = source.read(&mut reading);
            if write_all(&mut socket, line).await.is_ok() && write_all(&mut socket, b"\n").await.is_ok() {
                finish(&mut socket).await;
            }
        }
        socket.abort();
        let _ = with_timeout(PATIENCE, socket.flush()).await;
    }
}

#[embassy_executor::task]
pub(crate) async fn udp(stack: Stack<'static>, source: Source) {
    let (mut rx, mut tx) = ([0; 64], [0; READING_MAX]);
    let (mut rx_meta, mut tx_meta) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 1]);
    let mut socket = UdpSocket::new(stack, &mut rx_meta, &mut rx, &mut tx_meta, &mut tx);
    // The socket is new and the port is not 0.
    defmt::assert!(socket.bind(PORT).is_ok());
    loop {
        // Only who asks is of interest.
        let from = socket.recv_from_with(|_, from| from.endpoint).await;
        let mut reading = [0; READING_MAX];
        let _ = with_timeout(PATIENCE, socket.send_to(source.read(&mut reading), from)).await;
    }
}

#[embassy_executor::task(pool_size = PAGES)]
pub(crate) async fn http(stack: Stack<'static>, source: Source) {
    let (mut rx, mut tx) = ([0; 256], [0; 536]);
    loop {
        let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
        socket.set_timeout(Some(PATIENCE));
        if socket.accept(HTTP_PORT).await.is_ok() && serve(&mut socket, &source).await.is_ok() {
            finish(&mut socket).await;
        }
        socket.abort();
        let _ = with_timeout(PATIENCE, socket.flush()).await;
    }
}

/// What a client wants.
enum Request {
    Page,
    Reading,
    /// The status line of a refusal.
    Refused(&'static str),
}

async fn serve(socket: &mut TcpSocket<'_>, source: &Source) -> Result<(), embassy_net::tcp::Error> {
    let request = match with_timeout(PATIENCE, read_request(socket)).await {
        Ok(request) => request?,
        Err(_) => Request::Refused("408 Request Timeout"),
    };
    let mut reading = [0; READING_MAX];
    let json = source.read(&mut reading);
    match request {
        Request::Reading => {
            head(socket, "200 OK", "application/json", json.len() + 1).await?;
            write_all(socket, json).await?;
            write_all(socket, b"\n").await
        }
        Request::Page => {
            let mut top = heapless::String::<512>::new();
            // The name has at most 63 bytes and the standing is one of a few sentences: it fits.
            let _ = write!(
                top,
                "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{0}</title>\
                 <body style=\"font:16px/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em\"><h1>{0}</h1><p>{1}</p>\
                 <pre style=\"white-space:pre-wrap;overflow-wrap:anywhere\">",
                Escaped(source.name.as_str()),
                Escaped(source.standing().meaning()),
            );
            const BOTTOM: &[u8] = b"</pre><p><a href=/reading>the same for programs</a></p>\n";
            head(socket, "200 OK", "text/html; charset=utf-8", top.len() + json.len() + BOTTOM.len()).await?;
            write_all(socket, top.as_bytes()).await?;
            write_all(socket, json).await?;
            write_all(socket, BOTTOM).await
        }
        Request::Refused(status) => {
            head(socket, status, "text/plain", status.len() + 1).await?;
            write_all(socket, status.as_bytes()).await?;
            write_all(socket, b"\n").await
        }
    }
}

async fn read_request(socket: &mut TcpSocket<'_>) -> Result<Request, embassy_net::tcp::Error> {
    let mut head = [0; REQUEST_MAX];
    let mut len = 0;
    loop {
        let Some(room) = head.get_mut(len..).filter(|room| !room.is_empty()) else {
            return Ok(Request::Refused("431 Request Header Fields Too Large"));
        };
        let read = socket.read(room).await?;
        if read == 0 {
            return Ok(Request::Refused("400 Bad Request"));
        }
        len += read;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head.get(..len).unwrap_or(&[])) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                return Ok(match (request.method, request.path) {
                    (Some("GET"), Some("/")) => Request::Page,
                    (Some("GET"), Some("/reading")) => Request::Reading,
                    (Some("GET"), _) => Request::Refused("404 Not Found"),
                    _ => Request::Refused("405 Method Not Allowed"),
                });
            }
            Err(httparse::Error::TooManyHeaders) => {
                return Ok(Request::Refused("431 Request Header Fields Too Large"));
            }
            Err(_) => return Ok(Request::Refused("400 Bad Request")),
        }
    }
}

async fn head(
    socket: &mut TcpSocket<'_>,
    status: &str,
    content: &str,
    length: usize,
) -> Result<(), embassy_net::tcp::Error> {
    let mut text = heapless::String::<192>::new();
    // Status and type are two of a few short texts: it fits.
    let _ = write!(
        text,
        "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    write_all(socket, text.as_bytes()).await
}

pub(crate) async fn write_all(socket: &mut TcpSocket<'_>, mut bytes: &[u8]) -> Result<(), embassy_net::tcp::Error> {
    while !bytes.is_empty() {
        let written = socket.write(bytes).await?;
        bytes = bytes.get(written..).unwrap_or(&[]);
    }
    Ok(())
}

/// Closes a connection and waits until the other side has too, so that nothing it has not read yet is lost.
async fn finish(socket: &mut TcpSocket<'_>) {
    socket.close();
    let _ = with_timeout(PATIENCE, async {
        let _ = socket.flush().await;
        let mut rest = [0; 32];
        while socket.read(&mut rest).await.is_ok_and(|len| len > 0) {}
    })
    .await;
}

/// Text in a page.
struct Escaped<'a>(&'a str);

impl core::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            letter => f.write_char(letter),
        })
    }
}
