//! Reservations per second: real roots, real stores, and clients that each wait for their answer, which means that it is durable.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{debian, demo};

/// How many ask at the same time.
const CLIENTS: usize = 64;
/// How many services each of them creates.
const SERVICES: usize = 100;
/// How often it is measured; the median counts.
const ROUNDS: usize = 5;
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures and prints.
pub fn run(acorn: Option<&Path>) -> Result<()> {
    debian::require(&debian::BUILD)?;
    debian::require(&debian::TESTS)?;
    let acorn = match acorn {
        Some(acorn) => acorn.to_owned(),
        None => demo::build()?,
    };
    println!(
        "Services created per second by {CLIENTS} clients, and how long one takes; medians of {ROUNDS} rounds of {}",
        CLIENTS * SERVICES
    );
    let scene = Scene::new()?;
    let root = scene.root(&acorn, "redb", None)?;
    report("redb, one root", &[&root])?;
    drop(root);
    let (etcd, store) = scene.etcd()?;
    let first = scene.root(&acorn, "first", Some(&store))?;
    report("etcd (one server), one root", &[&first])?;
    let second = scene.root(&acorn, "second", Some(&store))?;
    report("etcd (one server), two roots", &[&first, &second])?;
    drop((first, second, etcd));
    Ok(())
}

/// A directory for all of it, removed in the end.
struct Scene(PathBuf);

/// A process that ends with this.
struct Server {
    process: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // What stays is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Scene {
    fn new() -> Result<Self> {
        // Not a file system in memory: the flush of a disk is what is measured.
        let path = PathBuf::from("/var/tmp").join(format!("acorn-bench-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path))
    }

    fn root(&self, acorn: &Path, name: &str, store: Option<&str>) -> Result<Server> {
        let (state, socket) = (self.0.join(name), self.0.join(format!("{name}.sock")));
        fs::DirBuilder::new().mode(0o700).create(&state)?;
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(acorn);
        command.arg("root").arg("--state").arg(&state).arg("--socket").arg(&socket);
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(store.map(|url| format!("--store={url}")));
        let log = File::create(self.0.join(format!("{name}.log")))?;
        let process = command.stderr(log).spawn().with_context(|| format!("starting {}", acorn.display()))?;
        let server = Server { process, socket };
        wait_until(|| UnixStream::connect(&server.socket).is_ok()).with_context(|| {
            format!(
                "the root does not start: {}",
                fs::read_to_string(self.0.join(format!("{name}.log"))).unwrap_or_default()
            )
        })?;
        Ok(server)
    }

    /// An etcd server, and the store in it.
    fn etcd(&self) -> Result<(Server, String)> {
        let free = || TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (clients, peers) = (free()?, free()?);
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.0.join("etcd"))
            .args([
                format!("--listen-client-urls=http://{clients}"),
                format!("--advertise-client-urls=http://{clients}"),
            ])
            .args([
                format!("--listen-peer-urls=http://{peers}"),
                format!("--initial-advertise-peer-urls=http://{peers}"),
            ])
            .args([format!("--initial-cluster=default=http://{peers}"), "--log-level=error".to_owned()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting etcd")?;
        let server = Server { process, socket: PathBuf::new() };
        wait_until(|| TcpStream::connect(clients).is_ok()).context("etcd does not start")?;
        Ok((server, format!("etcd://{clients}/bench")))
    }
}

fn wait_until(holds: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !holds() {
        ensure!(start.elapsed() < PATIENCE, "nothing within {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn report(title: &str, roots: &[&Server]) -> Result<()> {
    let mut rates = Vec::new();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        let clients: Vec<_> = (0..CLIENTS)
            .zip(roots.iter().cycle())
            .map(|(client, root)| {
                let socket = root.socket.clone();
                let prefix = format!("r{}x{round}x{client}", roots.len());
                thread::spawn(move || create(&socket, &prefix))
            })
            .collect();
        for client in clients {
            match client.join() {
                Ok(took) => times.extend(took?),
                Err(_) => bail!("a client panicked"),
            }
        }
        rates.push((CLIENTS * SERVICES) as f64 / start.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    times.sort();
    let of =
        |hundredths: usize| times.get(times.len() * hundredths / 100).copied().unwrap_or_default().as_secs_f64() * 1e3;
    let median = rates.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{title:<30} {median:>7.0} /s   median {:>6.1} ms   p99 {:>6.1} ms", of(50), of(99));
    Ok(())
}

/// Creates services one after the other on one connection; how long each took.
fn create(socket: &Path, prefix: &str) -> Result<Vec<Duration>> {
    let mut stream = UnixStream::connect(socket)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    (0..SERVICES)
        .map(|number| {
            let service = format!("{prefix}x{number}");
            let sla = format!(
                r#"{{"applications": [{{"application_name": "app", "application_namespace": "bench", "microservices": [{{"microservice_name": "{service}", "microservice_namespace": "bench"}}]}}]}}"#
            );
            let head = format!(
                "POST /v1/services HTTP/1.1\r\nhost: acorn\r\ncontent-type: application/json\r\nidempotency-key: {service}\r\ncontent-length: {}\r\n\r\n",
                sla.len()
            );
            let start = Instant::now();
            stream.write_all((head + &sla).as_bytes())?;
            let (status, body) = answer(&mut answers)?;
            ensure!(status.contains(" 201 "), "{service} was not created: {status} {body}");
            Ok(start.elapsed())
        })
        .collect()
}

/// An answer's first line and its body.
fn answer(from: &mut impl BufRead) -> Result<(String, String)> {
    let mut status = String::new();
    from.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        ensure!(from.read_line(&mut line)? > 0, "the root closed the connection");
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((status.trim_end().to_owned(), String::from_utf8_lossy(&body).into_owned()))
}
