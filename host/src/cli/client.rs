//! A client of the control API: one HTTP request on one connection to the daemon's unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::api::error::ErrorBody;
use crate::api::idempotency;

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait before each repeat of a request whose answer was lost.
const REPEATS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
];

/// Why a request to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no acorn daemon answers on {}; start it with `acorn up` or pass --socket", .0.display())]
    NoDaemon(PathBuf),
    /// The user may not talk to the daemon.
    #[error("you may not use the control socket {}; run this as the user that runs the daemon (root)", .0.display())]
    Forbidden(PathBuf),
    /// The daemon refused the request; its message says why and what to do.
    #[error("{message}")]
    Refused {
        /// What programs tell errors apart by.
        code: String,
        /// What people read.
        message: String,
    },
    /// The daemon took longer than a minute.
    #[error("the daemon on {} did not answer within 60 s; look at its log", .0.display())]
    Silent(PathBuf),
    /// The connection broke, or whoever listens does not speak this API.
    #[error("the request on {} failed: {reason}; look at the daemon's log", .socket.display())]
    Broken {
        /// The control socket.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// A daemon to talk to.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon on `socket`. Connects with each request.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends a request; gives the body of the answer, which may be empty.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer or it is an error.
    pub async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(PATIENCE, self.persist(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Silent(self.socket.clone())),
        }
    }

    /// Repeats a request whose answer was lost, as when the daemon has died in the middle, under the same key: so it is done once.
    async fn persist(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes, ClientError> {
        if !is_repeatable(&method, path) {
            return self.exchange(method, path, body, None).await;
        }
        let key = getrandom::u64().and_then(|high| Ok(format!("{high:016x}{:016x}", getrandom::u64()?)));
        let key = key.map_err(|error| self.broken(&error))?;
        let mut outcome = self.exchange(method.clone(), path, body.clone(), Some(&key)).await;
        for wait in REPEATS {
            let is_lost = matches!(outcome, Err(ClientError::Broken { .. }));
            if !is_lost {
                break;
            }
            tokio::time::sleep(wait).await;
            let again = self.exchange(method.clone(), path, body.clone(), Some(&key)).await;
            // A daemon that is away after it broke the connection is about to come back.
            if !matches!(again, Err(ClientError::NoDaemon(_))) {
                outcome = again;
            }
        }
        outcome
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        key: Option<&str>,
    ) -> Result<Bytes, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.not_connected(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        let connection = tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, "acorn").header(CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            request = request.header(idempotency::HEADER, key);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.broken(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| self.broken(&error))?.to_bytes();
        connection.abort();
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    fn not_connected(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon(self.socket.clone()),
            io::ErrorKind::PermissionDenied => ClientError::Forbidden(self.socket.clone()),
            _ => self.broken(error),
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ErrorBody>(body) {
            Ok(ErrorBody { error }) => ClientError::Refused { code: error.code, message: error.message },
            Err(_) => self.broken(&format!("HTTP {status} without an acorn error")),
        }
    }

    pub(super) fn broken(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

/// Whether the daemon knows a repeat of a request from a new one.
fn is_repeatable(method: &Method, path: &str) -> bool {
    let is_kept = path.starts_with("/v1/services") || path.starts_with("/v1/instances");
    is_kept && (method == Method::POST || method == Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    #[tokio::test]
    async fn without_a_daemon_it_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        let client = Client::new(&path);
        let says = format!("no acorn daemon answers on {}; start it with `acorn up` or pass --socket", path.display());
        let error = client.request(Method::GET, "/v1/status", Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), says);

        drop(UnixListener::bind(&path).unwrap());
        let error = client.request(Method::GET, "/v1/status", Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), says, "a dead daemon's socket");
    }

    #[tokio::test]
    async fn whoever_does_not_speak_the_api_is_an_error() {
        for answer in ["", "garbage\n\n", "HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nhm"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("acorn.sock");
            let listener = UnixListener::bind(&path).unwrap();
            let stranger = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = Client::new(&path).request(Method::GET, "/v1/status", Vec::new()).await.unwrap_err();
            stranger.join().unwrap();
            assert!(matches!(error, ClientError::Broken { .. }), "{answer:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_request_whose_answer_is_lost_is_repeated_under_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = thread::spawn(move || {
            let answers = ["", "", "HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}"];
            answers.map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut text, mut part) = (String::new(), [0; 4096]);
                while !text.ends_with("sla") {
                    let length = stream.read(&mut part).unwrap();
                    text.push_str(std::str::from_utf8(&part[..length]).unwrap());
                }
                stream.write_all(answer.as_bytes()).unwrap();
                text
            })
        });
        let answer = Client::new(&path).request(Method::POST, "/v1/services", b"sla".to_vec()).await.unwrap();
        assert_eq!(&answer[..], b"{}");
        let asked = daemon.join().unwrap();
        assert!(asked[0].contains("idempotency-key: ") && asked.iter().all(|text| *text == asked[0]), "{asked:?}");
    }
}
