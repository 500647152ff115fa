//! The store in etcd, on real etcd servers.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::super::{FILE_NAME, OpenError, StoreUrl, TransferError, export_store, import_store, transfer};
use super::restart::portrait;
use super::*;

/// An etcd server of its own, on loopback.
struct Server {
    child: Child,
    directory: tempfile::TempDir,
    ports: [u16; 2],
}

impl Server {
    fn start() -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let ports = [free(), free()];
        Self { child: spawn(directory.path(), ports), directory, ports }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(self.directory.path(), self.ports);
    }

    fn url(&self) -> StoreUrl {
        format!("etcd://127.0.0.1:{}/test", self.ports[0]).parse().unwrap()
    }

    /// A root with this key, when etcd is up.
    fn root(&self, key: u8) -> Root {
        let own = ManagerRecord { key: node_key(key), endpoint: endpoint(key) };
        let open = || Root::open_shared(&self.url(), AddressPlan::DEFAULT, SETTINGS, own, Instant::ZERO, UNIX);
        wait_for(|| match open() {
            Ok(root) => Some(root),
            Err(OpenError::Etcd { .. }) => None,
            Err(other) => panic!("{other}"),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &std::path::Path, [clients, peers]: [u16; 2]) -> Child {
    let (clients, peers) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    Command::new("etcd")
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}"), "--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed")
}

/// Asks again until there is something, at most for a minute.
fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed().as_secs() < 60, "it never came");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Does something in the root's turn.
fn in_turn<T>(root: &mut Root, operation: impl FnOnce(&mut Root) -> T) -> Option<T> {
    in_turn_at(root, Instant::ZERO, operation)
}

/// What time ends, and then something else.
fn in_turn_at<T>(root: &mut Root, now: Instant, operation: impl FnOnce(&mut Root) -> T) -> Option<T> {
    root.begin(now);
    root.expire(now, UNIX + now.as_millis() / 1_000);
    let done = operation(root);
    match root.finish() {
        Ok(()) => Some(done),
        Err(_) => {
            wait_for(|| root.reload(Instant::ZERO).ok());
            None
        }
    }
}

fn request(name: &str) -> ServiceRequest {
    ServiceRequest { name: named(name), addresses: vec![round_robin(None, None)], fixed: Vec::new() }
}

/// Creates a service, however often that takes.
fn create(root: &mut Root, name: &str) -> ServiceInfo {
    wait_for(|| in_turn(root, |root| root.create_service(Instant::ZERO, request(name)).ok()).flatten())
}

fn addresses(root: &Root) -> BTreeSet<std::net::IpAddr> {
    let pairs: Vec<_> = root.services().into_iter().flat_map(|info| info.service_ips).map(|(_, ip)| ip).collect();
    let all: BTreeSet<_> = pairs.iter().flat_map(|ip| [ip.v4.into(), ip.v6.into()]).collect();
    assert_eq!(all.len(), 2 * pairs.len(), "no address twice");
    all
}

#[test]
fn two_roots_reserve_at_the_same_time_and_no_address_twice() {
    let server = Server::start();
    let (mut a, mut b) = (server.root(201), server.root(202));
    thread::scope(|scope| {
        for (root, name) in [(&mut a, "a"), (&mut b, "b")] {
            scope.spawn(move || {
                for turn in 0..50 {
                    // As many as wait together.
                    let ten = (0..10).map(|number| request(&format!("{name}{turn}x{number}")));
                    wait_for(|| {
                        let each = ten.clone();
                        in_turn(root, |root| {
                            each.map(|one| root.create_service(Instant::ZERO, one).ok()).collect::<Option<Vec<_>>>()
                        })
                        .flatten()
                    });
                }
            });
        }
    });
    for root in [&mut a, &mut b] {
        in_turn(root, |_| ()).unwrap();
        assert_eq!(addresses(root).len(), 2_000);
        let mut roots: Vec<_> = root.roots.iter().map(|root| root.key).collect();
        roots.sort();
        assert_eq!(roots, [node_key(201), node_key(202)]);
    }
    let (a, b) = (portrait_of(a), portrait_of(b));
    assert!(a == b && a == portrait_of(server.root(203)), "all see the same");
}

fn portrait_of(root: Root) -> String {
    portrait(&Rig { root, ..Rig::new() })
}

#[test]
fn an_operation_larger_than_a_transaction_of_etcd_is_one_all_the_same() {
    let server = Server::start();
    let (mut a, mut b) = (server.root(201), server.root(202));
    let many = |from: u32| (from..from + 300).map(|number| request(&format!("s{number}"))).collect::<Vec<_>>();
    in_turn(&mut a, |root| root.create_services(Instant::ZERO, many(0)).unwrap()).unwrap();
    in_turn(&mut b, |root| root.create_services(Instant::ZERO, many(300)).unwrap()).unwrap();
    in_turn(&mut a, |_| ()).unwrap();
    assert_eq!(addresses(&a).len(), 1_200);
    drop(b);
    assert!(portrait_of(server.root(203)) == portrait_of(a));
}

#[test]
fn etcd_goes_away_and_comes_back() {
    let mut server = Server::start();
    let mut root = server.root(201);
    create(&mut root, "a");
    server.kill();
    for _ in 0..3 {
        root.begin(Instant::ZERO);
        let refused = root.create_service(Instant::ZERO, request("b"));
        assert!(matches!(refused, Err(ServiceError::Storage(_))), "{refused:?}");
        root.finish().unwrap();
        assert_eq!(root.services().len(), 1, "reads go on");
    }
    server.restart();
    create(&mut root, "b");
    assert_eq!(addresses(&root).len(), 4);
    assert!(portrait_of(server.root(202)) == portrait_of(root));
}

/// Not a test of its own: a root in a process that can be killed. It says what it has created.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn a_root_to_be_killed() {
    let url = std::env::var("ACORN_TEST_STORE").expect("the store's URL");
    let own = ManagerRecord { key: node_key(209), endpoint: endpoint(209) };
    let mut root =
        Root::open_shared(&url.parse().unwrap(), AddressPlan::DEFAULT, SETTINGS, own, Instant::ZERO, UNIX).unwrap();
    for number in 0.. {
        let info = create(&mut root, &format!("killed{number}"));
        println!("created {} {}", info.name, info.service_ips[0].1);
    }
}

#[test]
fn a_root_that_is_killed_is_replaced_and_what_it_answered_stays() {
    let server = Server::start();
    let mut survivor = server.root(201);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "root::tests::etcd::a_root_to_be_killed", "--ignored", "--nocapture"])
        .env("ACORN_TEST_STORE", server.url().to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let told = thread::spawn(move || lines.map_while(Result::ok).filter(|line| line.contains("created ")).collect());
    for number in 0..40 {
        create(&mut survivor, &format!("s{number}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let told: Vec<String> = told.join().unwrap();
    // It may have died in its turn, which ends with its lease.
    create(&mut survivor, "after");
    let known = survivor.services();
    assert!(told.len() > 5, "{told:?}");
    for line in &told {
        let says = |info: &ServiceInfo| line.contains(&format!("created {} {}", info.name, info.service_ips[0].1));
        assert!(known.iter().any(says), "{line}");
    }
    addresses(&survivor);
    wait_for(|| {
        in_turn(&mut survivor, |_| ());
        (survivor.roots.len() == 1).then_some(())
    });
}

#[test]
fn a_store_moves_to_etcd_and_back() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join(FILE_NAME), directory.path().join("back.redb"));
    let mut root = Root::open(&from, AddressPlan::DEFAULT, SETTINGS, own(), Instant::ZERO, UNIX).unwrap();
    let many = (0..400).map(|number| request(&format!("s{number}"))).collect();
    root.create_services(Instant::ZERO, many).unwrap();
    drop(root);
    let text = export_store(&from).unwrap();
    drop(server.root(201));
    let import = |text: &str| transfer::import_shared(&server.url(), text, AddressPlan::DEFAULT, UNIX);
    // A root that has been there and done nothing is no obstacle.
    assert_eq!(import(&text).unwrap(), text.lines().count() - 1);
    assert!(matches!(import(&text), Err(TransferError::NotEmpty { .. })));
    assert_eq!(transfer::export_shared(&server.url()).unwrap(), text);
    let mut root = server.root(201);
    create(&mut root, "new");
    drop(root);
    let text = transfer::export_shared(&server.url()).unwrap();
    import_store(&to, &text, AddressPlan::DEFAULT, UNIX).unwrap();
    let back = Root::open(&to, AddressPlan::DEFAULT, SETTINGS, own(), Instant::ZERO, UNIX).unwrap();
    assert!(portrait_of(back) == portrait_of(server.root(201)));
}

fn is_alive(root: &mut Root, seconds: u64) -> bool {
    let now = Instant::from_secs(seconds);
    in_turn_at(root, now, |root| root.nodes()[0].alive).unwrap()
}

#[test]
fn a_node_that_another_root_hears_is_alive_and_its_silence_is_known_to_all() {
    let server = Server::start();
    let (mut a, mut b) = (server.root(201), server.root(202));
    let id = in_turn(&mut a, |root| {
        root.register_node_key(Instant::ZERO, node_key(1)).unwrap();
        root.hello(Instant::ZERO, sender(1), &hello(1)).unwrap().node
    });
    let id = id.unwrap();
    assert!(is_alive(&mut b, 1) && is_alive(&mut b, 60), "b never hears it, a does");
    // Others must not judge while a lives.
    in_turn_at(&mut b, Instant::from_secs(60), |root| root.set_alive(Instant::from_secs(60), id, false)).unwrap();
    assert!(is_alive(&mut b, 61));
    in_turn_at(&mut a, Instant::from_secs(70), |root| root.set_alive(Instant::from_secs(70), id, false)).unwrap();
    assert!(!is_alive(&mut b, 71));
    let again = Instant::from_secs(72);
    in_turn_at(&mut a, again, |root| root.hello(again, sender(1), &hello(1)).unwrap()).unwrap();
    assert!(is_alive(&mut b, 73));
    // The root that hears it dies: its nodes have their lease to turn up elsewhere.
    drop(a);
    assert!(is_alive(&mut b, 74) && is_alive(&mut b, 83));
    assert!(!is_alive(&mut b, 85));
    let moved = Instant::from_secs(86);
    let admission = in_turn_at(&mut b, moved, |root| root.hello(moved, sender(1), &hello(1)).unwrap()).unwrap();
    assert_eq!(admission.managers.iter().map(|m| m.key).collect::<Vec<_>>(), [node_key(202)]);
    assert!(is_alive(&mut server.root(203), 1), "a new root believes b");
    assert!(is_alive(&mut b, 90));
}

#[test]
fn an_address_rests_when_the_clients_of_all_roots_have_let_it_go() {
    let server = Server::start();
    let (mut a, mut b, mut c) = (server.root(201), server.root(202), server.root(203));
    create(&mut a, "s");
    let service = in_turn(&mut a, |root| root.services()[0].id).unwrap();
    in_turn(&mut a, |root| root.remove_service(Instant::ZERO, &named("s")).unwrap()).unwrap();
    let resting = |root: &mut Root| {
        in_turn(root, |_| ());
        let is_resting =
            |release: &super::super::state::Release| matches!(release, super::super::state::Release::Quarantine { .. });
        root.state.releases.values().all(is_resting)
    };
    let acknowledge = |root: &mut Root| {
        in_turn(root, |root| root.acknowledged(Instant::ZERO, service, u32::MAX)).unwrap();
    };
    acknowledge(&mut a);
    assert!(!resting(&mut a) && !resting(&mut b));
    acknowledge(&mut b);
    assert!(!resting(&mut b) && !resting(&mut a), "c's clients may not know yet");
    drop(server.root(204));
    // One that joins late has no clients that could know of it, and says so as soon as its server asks.
    acknowledge(&mut c);
    assert!(resting(&mut c) && resting(&mut a) && resting(&mut b));
}

#[test]
fn a_root_that_dies_holds_no_address_for_ever() {
    let server = Server::start();
    let (mut a, b) = (server.root(201), server.root(202));
    create(&mut a, "s");
    let service = in_turn(&mut a, |root| root.services()[0].id).unwrap();
    in_turn(&mut a, |root| root.remove_service(Instant::ZERO, &named("s")).unwrap()).unwrap();
    in_turn(&mut a, |root| root.acknowledged(Instant::ZERO, service, u32::MAX)).unwrap();
    assert!(in_turn(&mut a, |root| root.state.withdrawn.len()).unwrap() > 0);
    drop(b);
    in_turn(&mut a, |_| ()).unwrap();
    assert!(a.state.withdrawn.is_empty());
}

#[test]
fn etcd_goes_away_in_the_middle_of_a_turn() {
    let mut server = Server::start();
    let mut root = server.root(201);
    create(&mut root, "a");
    let before = root.services();
    root.begin(Instant::ZERO);
    let lost = root.create_service(Instant::ZERO, request("b")).unwrap();
    server.kill();
    root.finish().unwrap_err();
    root.reload(Instant::ZERO).expect("reads go on");
    assert_eq!(root.services(), before);
    root.begin(Instant::ZERO);
    let refused = root.create_service(Instant::ZERO, request("b"));
    assert!(matches!(refused, Err(ServiceError::Storage(_))), "{refused:?}");
    root.finish().unwrap();
    server.restart();
    let again = create(&mut root, "b");
    assert!(again.id > lost.id && again.service_ips == lost.service_ips);
    assert!(portrait_of(server.root(202)) == portrait_of(root));
}

#[test]
fn what_a_root_that_died_left_in_the_journal_is_finished_by_the_next() {
    let server = Server::start();
    let mut root = server.root(201);
    create(&mut root, "a");
    let expected = root.services();
    drop(root);
    // As if it had died behind the transaction that says what is to be done, and before it did it.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = etcd_client::Client::connect([format!("127.0.0.1:{}", server.ports[0])], None).await.unwrap();
        let service = [&b"test/rows/"[..], &[2, 0, 0, 0, 1]].concat();
        assert_eq!(client.delete(service, None).await.unwrap().deleted(), 1);
        client.put("test/journal", "", None).await.unwrap();
    });
    assert_eq!(server.root(202).services(), expected);
}
