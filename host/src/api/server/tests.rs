//! The HTTP shapes of the API, over a real unix socket: statuses, JSON errors, limits, the end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::*;
use crate::api::memory::Memory;
use crate::sla::{OfferedPolicy, WantedAddress};

/// A server on a socket in a directory of its own.
struct Server {
    path: PathBuf,
    backend: Arc<Memory>,
    serving: JoinHandle<io::Result<()>>,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

/// An answer: its status, its head and its body as JSON (null when it has none).
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Server {
    fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acorn.sock");
        let backend = Arc::new(Memory::default());
        let socket = ControlSocket::bind(&path).unwrap();
        let (serving, until) = (backend.clone(), backend.clone());
        let serving =
            runtime.spawn(async move { serve(&socket, serving, async move { until.ended.notified().await }).await });
        Self { path, backend, serving, runtime, _dir: dir }
    }

    /// Sends bytes as they are and reads what comes back.
    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let request = request.to_vec();
        // The server may answer before it has read everything, so writing and reading go side by side.
        let writer = thread::spawn(move || drop(writing.write_all(&request)));
        let mut text = Vec::new();
        // A body that is refused unread resets the connection after the answer.
        let _ = stream.read_to_end(&mut text);
        writer.join().unwrap();
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).expect("a JSON body") };
        Answer { status, head: head.to_lowercase(), body }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        self.raw((head + body).as_bytes())
    }

    /// Asserts the status and code of an error, and that its message says something.
    #[track_caller]
    fn assert_error(&self, (method, path, body): (&str, &str, &str), status: u16, code: &str, says: &str) {
        let answer = self.send(method, path, body);
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (status, Some(code)), "{:?}", answer.body);
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(fields(&answer.body), ["error"]);
        assert_eq!(fields(&answer.body["error"]), ["code", "message"]);
    }
}

const NAME: &str = "app.ns.svc.ns";

fn sla_text() -> String {
    sla::from_flags(&ServiceName::new(NAME).unwrap(), &[]).to_string()
}

#[test]
fn every_operation_has_its_status_and_shape() {
    let server = Server::start();
    let created = server.send("POST", "/v1/services", &sla_text());
    let service = json!({
        "name": NAME,
        "service_ip_list": [{"IpType": "RR", "Address": "10.30.0.1", "Address_v6": "fdff:2000::1"}],
        "instances": [],
    });
    assert_eq!((created.status, created.body), (201, json!({"services": [service]})));

    let attach = json!({"service": NAME, "number": 3, "netns": "web1"}).to_string();
    let attached = server.send("POST", "/v1/instances", &attach);
    let addresses = json!({
        "service": NAME, "number": 3, "instance_ip": "10.30.0.2", "instance_ip_v6": "fdff::1",
        "namespace_ip": "10.18.30.65", "namespace_ip_v6": "fc00::1",
    });
    assert_eq!((attached.status, attached.body), (201, addresses));

    let shown = server.send("GET", &format!("/v1/services/{NAME}"), "");
    let instance = json!({
        "number": 3, "instance_ip": "10.30.0.2", "instance_ip_v6": "fdff::1", "namespace_ip": "10.18.30.65",
        "namespace_ip_v6": "fc00::1", "node": "a2V5", "node_name": "edge-1", "alive": true,
        "weight": 1, "priority": 0, "load": 0, "draining": false,
    });
    assert_eq!((shown.status, &shown.body["instances"]), (200, &json!([instance])));

    let change = json!({"weight": 3, "load": 1000, "draining": true}).to_string();
    let set = server.send("PATCH", &format!("/v1/instances/{NAME}/3"), &change);
    assert_eq!((set.status, set.body), (204, Value::Null));
    let shown = server.send("GET", &format!("/v1/services/{NAME}"), "").body["instances"][0].clone();
    let fields = ["weight", "priority", "load", "draining"].map(|field| shown[field].clone());
    assert_eq!(fields, [json!(3), json!(0), json!(1000), json!(true)]);

    let detached = server.send("DELETE", &format!("/v1/instances/{NAME}/3"), "");
    assert_eq!((detached.status, detached.body), (204, Value::Null));
    assert_eq!(server.send("DELETE", &format!("/v1/services/{NAME}"), "").status, 204);
    assert_eq!(server.send("GET", "/v1/services", "").body, json!({"services": []}));
    assert_eq!(server.send("GET", "/v1/status", "").body["version"], "1");
    assert_eq!(server.send("GET", "/v1/nodes", "").body, json!({"nodes": []}));
    assert_eq!(server.send("GET", "/v1/drops", "").body, json!({"drops": []}));
}

#[test]
fn a_service_gets_an_address_under_every_policy_that_its_sla_asks_for() {
    let server = Server::start();
    let offered = OfferedPolicy::built_in();
    let wanted: Vec<_> = offered.iter().cloned().map(WantedAddress::any).collect();
    let created =
        server.send("POST", "/v1/services", &sla::from_flags(&ServiceName::new(NAME).unwrap(), &wanted).to_string());
    let list: Vec<_> = offered
        .iter()
        .enumerate()
        .map(|(place, policy)| {
            let (ip_type, address) = (policy.ip_type.as_str(), format!("10.30.{place}.1"));
            json!({"IpType": ip_type, "Address": address, "Address_v6": policy.example_v6()})
        })
        .collect();
    assert_eq!((created.status, &created.body["services"][0]["service_ip_list"]), (201, &json!(list)));
    assert_eq!(server.send("GET", &format!("/v1/services/{NAME}"), "").body, created.body["services"][0]);
}

#[test]
fn tokens_are_made_within_limits() {
    let server = Server::start();
    let made = server.send("POST", "/v1/tokens", r#"{"count": 2, "expires_s": 60, "endpoint": "192.0.2.1:50103"}"#);
    assert_eq!((made.status, made.body), (201, json!({"tokens": ["t0", "t1"]})));
    let endpoint = Some("192.0.2.1:50103".parse().unwrap());
    assert_eq!(
        *server.backend.tokens.lock().unwrap(),
        [TokenRequest { count: 2, expires_s: 60, endpoint, ..TokenRequest::default() }]
    );

    let tokens = |body| ("POST", "/v1/tokens", body);
    server.assert_error(tokens(r#"{"count": 0}"#), 400, "bad_count", "1 to 1000");
    server.assert_error(tokens(r#"{"count": 1001}"#), 400, "bad_count", "1001");
    server.assert_error(tokens(r#"{"expires_s": 0}"#), 400, "bad_expiry", "1 to 2592000");
    server.assert_error(tokens(r#"{"expires_s": 2592001}"#), 400, "bad_expiry", "2592001");
    server.assert_error(tokens(r#"{"endpoint": "0.0.0.0:1"}"#), 400, "bad_endpoint", "address");
    server.assert_error(tokens(r#"{"endpoint": "192.0.2.1:0"}"#), 400, "bad_endpoint", "port");
}

#[test]
fn an_adjustment_says_something_within_its_range() {
    let server = Server::start();
    let path = format!("/v1/instances/{NAME}/3");
    let patch = |body| ("PATCH", path.as_str(), body);
    server.assert_error(patch("{}"), 400, "nothing_to_set", "app.ns.svc.ns instance 3; give weight");
    server.assert_error(patch(r#"{"load": 1001}"#), 400, "bad_load", "load is 1001; it is 0 to 1000");
    server.assert_error(patch(r#"{"weight": 65536}"#), 400, "bad_json", "65536");
    server.assert_error(patch(r#"{"drain": true}"#), 400, "bad_json", "unknown field `drain`");
    server.assert_error(("PATCH", "/v1/instances/a.b.c/3", r#"{"load": 1}"#), 400, "bad_name", "four parts");
    server.assert_error(("PATCH", "/v1/instances/a.b.c.d/x", r#"{"load": 1}"#), 400, "bad_number", "`x`");
    server.assert_error(("PATCH", "/v1/instances/a.b.c.d/3", r#"{"load": 1}"#), 404, "no_such_service", "a.b.c.d");
    server.assert_error(("PUT", &path, "{}"), 405, "wrong_method", "PUT");
}

#[test]
fn unknown_paths_and_wrong_methods_are_json_errors() {
    let server = Server::start();
    server.assert_error(("GET", "/", ""), 404, "unknown_path", "/v1/");
    server.assert_error(("GET", "/v1/statuses", ""), 404, "unknown_path", "/v1/statuses");
    server.assert_error(("POST", "/v1/status", ""), 405, "wrong_method", "POST is not for /v1/status");
    server.assert_error(("PUT", "/v1/services", ""), 405, "wrong_method", "PUT");
    let answer = server.send("PUT", "/v1/services", "");
    assert!(answer.head.contains("allow: get,head,post"), "{}", answer.head);
    server.assert_error(("GET", "/v1/services/%ff.ns.svc.ns", ""), 400, "bad_path", "UTF-8");
}

#[test]
fn bad_bodies_are_refused_with_their_position() {
    let server = Server::start();
    let attach = |body| ("POST", "/v1/instances", body);
    server.assert_error(attach("{\n  \"service\": }"), 400, "bad_json", "line 2 column 14");
    server.assert_error(attach(""), 400, "bad_json", "line 1 column 0");
    server.assert_error(attach(r#"{"service": "a.b.c.d"}"#), 400, "bad_json", "exactly one of pid and netns");
    server.assert_error(attach(r#"{"service": "a.b.c", "pid": 1}"#), 400, "bad_json", "exactly four parts");
    server.assert_error(("POST", "/v1/services", "{,}"), 400, "bad_json", "line 1 column 2");
    server.assert_error(("POST", "/v1/services", "{}"), 400, "bad_sla", "applications: is missing");
    assert!(server.backend.services.lock().unwrap().is_empty(), "a refused SLA leaves nothing behind");
}

#[test]
fn bad_names_and_numbers_in_a_path_are_refused() {
    let server = Server::start();
    server.assert_error(("GET", "/v1/services/a.b.c", ""), 400, "bad_name", "exactly four parts");
    server.assert_error(("DELETE", "/v1/services/a.b.c_d.e", ""), 400, "bad_name", "letters and digits");
    server.assert_error(("DELETE", "/v1/instances/a.b.c.d/x", ""), 400, "bad_number", "`x`");
    server.assert_error(("DELETE", "/v1/instances/a.b.c.d/4294967296", ""), 400, "bad_number", "4294967295");
}

#[test]
fn errors_of_the_backend_arrive_as_they_are() {
    let server = Server::start();
    server.assert_error(("GET", "/v1/table", ""), 421, "no_role", "acorn node");
    server.assert_error(("GET", "/v1/services/a.b.c.d", ""), 404, "no_such_service", "acorn service ls");
    assert_eq!(server.send("POST", "/v1/services", &sla_text()).status, 201);
    server.assert_error(("POST", "/v1/services", &sla_text()), 409, "name_taken", NAME);
}

#[test]
fn a_body_has_a_limit() {
    let server = Server::start();
    let padded = |size: usize| format!("{}{}", " ".repeat(size - sla_text().len()), sla_text());
    assert_eq!(server.send("POST", "/v1/services", &padded(BODY_MAX)).status, 201);
    server.assert_error(("POST", "/v1/services", &padded(BODY_MAX + 1)), 413, "body_too_large", "1048576");

    let chunk = format!("{:x}\r\n{}\r\n", BODY_MAX + 1, " ".repeat(BODY_MAX + 1));
    let head = "POST /v1/services HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = server.raw(format!("{head}{chunk}0\r\n\r\n").as_bytes());
    assert_eq!(answer.body["error"]["code"], "body_too_large", "without a content-length too");
}

#[test]
fn down_is_answered_then_the_server_ends_and_the_socket_is_gone() {
    let Server { path, backend: _backend, serving, runtime, _dir } = {
        let server = Server::start();
        assert_eq!(server.send("POST", "/v1/down", "").status, 202);
        server
    };
    runtime.block_on(serving).unwrap().unwrap();
    assert!(!path.exists());
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_keep_the_server() {
    let server = Server::start();
    let mut slow = UnixStream::connect(&server.path).unwrap();
    slow.write_all(b"POST /v1/tokens HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{").unwrap();
    // The slow request is under way once a later one is answered.
    assert_eq!(server.send("GET", "/v1/status", "").status, 200);
    server.backend.ended.notify_one();
    let limit = GRACE * 5;
    server.runtime.block_on(async { tokio::time::timeout(limit, server.serving).await }).unwrap().unwrap().unwrap();
}

#[test]
fn an_idempotency_key_is_a_short_printable_word() {
    let server = Server::start();
    for (key, expected) in [("k-1", 404), ("", 400), ("two words", 400), (&"k".repeat(65), 400)] {
        let head = format!(
            "DELETE /v1/services/a.b.c.d HTTP/1.1\r\nhost: acorn\r\nconnection: close\r\nidempotency-key: {key}\r\n\r\n"
        );
        let answer = server.raw(head.as_bytes());
        assert_eq!(answer.status, expected, "{key}: {:?}", answer.body);
        if expected == 400 {
            assert_eq!(answer.body["error"]["code"], "bad_idempotency_key");
        }
    }
}
