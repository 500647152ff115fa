//! Commands against a served API: what they send, print and refuse.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::api::memory::Memory;
use crate::api::server::serve;
use crate::api::socket::ControlSocket;

/// A served API and a directory for files.
struct Daemon {
    dir: tempfile::TempDir,
    backend: Arc<Memory>,
}

impl Daemon {
    /// Must be called inside a runtime.
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backend = Arc::new(Memory::default());
        let socket = ControlSocket::bind(&dir.path().join("acorn.sock")).unwrap();
        let (serving, until) = (backend.clone(), backend.clone());
        tokio::spawn(async move { serve(&socket, serving, async move { until.ended.notified().await }).await });
        Self { dir, backend }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs `acorn` with words and gives what it prints.
    async fn acorn(&self, words: &str) -> Result<String, String> {
        let socket = self.dir.path().join("acorn.sock");
        let words = ["acorn", "--socket", socket.to_str().unwrap()].into_iter().chain(words.split(' '));
        let cli = Cli::read_from(words).unwrap();
        let mut out = Vec::new();
        run(&cli, &mut out).await.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }
}

fn on_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_service_lives_from_create_to_rm() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let created = acorn.acorn("service create --name app.ns.svc.ns --rr-ip-v6 FDFF:2000::0007").await.unwrap();
        assert_eq!(created.lines().nth(1), Some("app.ns.svc.ns  RR      10.30.0.1   fdff:2000::7          0   0"));
        let attach = "instance attach --service app.ns.svc.ns --number 1 --pid 7 --weight 2 --priority 7";
        let attached = acorn.acorn(attach).await.unwrap();
        let made = acorn.backend.services.lock().unwrap()["app.ns.svc.ns"].instances[0].clone();
        assert_eq!((made.weight, made.priority), (2, 7));
        assert!(
            attached.contains("app.ns.svc.ns       1  10.30.0.2    fdff::1        10.18.30.65   fc00::1"),
            "{attached}"
        );
        assert_eq!(acorn.acorn("service show app.ns.svc.ns").await.unwrap().lines().count(), 5);
        let set =
            acorn.acorn("instance set --service app.ns.svc.ns --number 1 --weight 3 --draining true").await.unwrap();
        assert_eq!(set, "set instance 1 of app.ns.svc.ns: weight 3, draining true\n");
        let set = acorn.acorn("instance set --service app.ns.svc.ns --number 1 --load 250 --json").await.unwrap();
        assert_eq!(set, "{}\n");
        let shown = acorn.acorn("service show app.ns.svc.ns").await.unwrap();
        assert!(shown.ends_with("edge-1       3     7   250  draining\n"), "{shown}");
        let detached = acorn.acorn("instance detach --service app.ns.svc.ns --number 1").await.unwrap();
        assert_eq!(detached, "detached instance 1 of app.ns.svc.ns\n");
        assert!(acorn.backend.services.lock().unwrap()["app.ns.svc.ns"].instances.is_empty());
        assert_eq!(acorn.acorn("service rm app.ns.svc.ns").await.unwrap(), "removed app.ns.svc.ns\n");
        assert!(acorn.acorn("service ls").await.unwrap().starts_with("no services yet"));
    });
}

#[test]
fn an_sla_file_is_sent_as_it_is() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let microservice = json!({"microservice_name": "svc", "microservice_namespace": "ns", "code": "nginx"});
        let application =
            json!({"application_name": "app", "application_namespace": "ns", "microservices": [microservice]});
        let good = acorn.file("sla.json", &json!({"applications": [application]}).to_string());
        assert!(
            acorn.acorn(&format!("service create --sla {}", good.display())).await.unwrap().contains("app.ns.svc.ns")
        );

        let broken = acorn.file("broken.json", "{\n  oops\n}");
        let error = acorn.acorn(&format!("service create --sla {}", broken.display())).await.unwrap_err();
        assert!(error.contains("line 2 column 3"), "{error}");
        let error = acorn.acorn("service create --sla /nowhere/sla.json").await.unwrap_err();
        assert!(error.starts_with("can't read the SLA /nowhere/sla.json"), "{error}");
    });
}

#[test]
fn json_is_that_of_the_api() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let created = acorn.acorn("service create --json --name app.ns.svc.ns").await.unwrap();
        let service = json!({
            "name": "app.ns.svc.ns",
            "service_ip_list": [{"IpType": "RR", "Address": "10.30.0.1", "Address_v6": "fdff:2000::1"}],
            "instances": [],
        });
        assert_eq!(created, format!("{}\n", pretty(&json!({"services": [service]}))));
        assert_eq!(acorn.acorn("service rm app.ns.svc.ns --json").await.unwrap(), "{}\n");
    });
}

#[test]
fn tokens_are_asked_for_as_the_flags_say() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        assert_eq!(
            acorn.acorn("token create --count 2 --expires 60 --endpoint 192.0.2.1:7").await.unwrap(),
            "t0\nt1\n"
        );
        let endpoint = Some("192.0.2.1:7".parse().unwrap());
        let wanted = TokenRequest { count: 2, expires_s: 60, endpoint, ..TokenRequest::default() };
        assert_eq!(*acorn.backend.tokens.lock().unwrap(), [wanted]);
    });
}

#[test]
fn the_daemons_refusal_is_the_error() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let error = acorn.acorn("service show a.b.c.d").await.unwrap_err();
        assert_eq!(error, "there is no service a.b.c.d; `acorn service ls` lists them");
        assert!(acorn.acorn("table").await.unwrap_err().contains("does not have the role `node`"));
    });
}

#[test]
fn down_ends_when_the_socket_is_gone() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        assert_eq!(acorn.acorn("down").await.unwrap(), "acorn is down\n");
        assert!(!acorn.dir.path().join("acorn.sock").exists());
        assert!(acorn.acorn("down").await.unwrap_err().starts_with("no acorn daemon answers on"));
    });
}

#[test]
fn a_configuration_is_checked_without_a_daemon() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let good = acorn.file("good.toml", "[node]\nname = \"edge-1\"\ntoken = \"s3cr3t\"");
        let printed = acorn.acorn(&format!("config check {}", good.display())).await.unwrap();
        assert!(printed.starts_with("ok\n") && printed.contains("name = \"edge-1\"\n"), "{printed}");
        assert!(printed.contains("lease_s = 10\n") && !printed.contains("s3cr3t"), "{printed}");

        let bad = acorn.file("bad.toml", "[node]\nnam = \"edge-1\"");
        let error = acorn.acorn(&format!("config check {}", bad.display())).await.unwrap_err();
        assert!(error.starts_with(&format!("{}:2:1: unknown field `nam`", bad.display())), "{error}");
    });
}

/// A writer whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    on_a_runtime(async {
        let acorn = Daemon::start();
        let path = acorn.file("good.toml", "");
        let cli = Cli::read_from(["acorn", "config", "check", path.to_str().unwrap()]).unwrap();
        assert!(run(&cli, &mut Gone).await.is_ok());
    });
}
