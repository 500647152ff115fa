//! A manager: the real root on a real file, and the real sync server, driven as the daemon drives them.

use std::path::Path;

use acorn::root::{AddressRequest, KeyEvent, Root, RootSettings, ServiceRequest};
use acorn_core::addr::{AddressPlan, Dual, PolicyBlock};
use acorn_core::policy::Policy;
use acorn_core::sync::Server;
use acorn_core::sync::directory::Sender;
use acorn_core::sync::message::{MESSAGE_MAX, ManagerRecord, Message};
use acorn_core::time::{Duration, Instant};
use acorn_core::{HashKey, NodeKey};

/// The wall clock at the simulation's start, in seconds since 1970.
const UNIX: u64 = 1_800_000_000;
/// How often the root looks for what has come to its end.
const EXPIRY: Duration = Duration::from_secs(1);

/// What the manager wants of the process that it is in.
pub enum Wish {
    Send(NodeKey, Vec<u8>),
    Key(KeyEvent),
}

/// What the manager was asked, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub hellos: u64,
    pub addresses: u64,
    pub nodes: u64,
    pub subjects: u64,
    pub others: u64,
}

/// Clients and their streams that fit.
type SimServer = Server<256, 8192>;

pub struct Manager {
    pub root: Root,
    pub server: Box<SimServer>,
    next_expiry: Instant,
    pub asked: Asked,
    /// What nodes have said that can change who owns an address, so that it is looked at.
    claims: bool,
}

impl Manager {
    pub fn open(path: &Path, plan: AddressPlan, own: ManagerRecord, now: Instant, epoch: u32, key: HashKey) -> Self {
        let root = Root::open(path, plan, RootSettings::default(), own, now, unix(now)).expect("the root's file opens");
        let mut server = new_server();
        server.start(now, epoch, key);
        server.set_retention(RootSettings::default().retention);
        Self { root, server, next_expiry: now, asked: Asked::default(), claims: true }
    }

    /// Says which keys are known, and tells the nodes of the restart.
    pub fn announce(&mut self) -> Vec<Wish> {
        let known: Vec<_> = self.root.known_keys().collect();
        for known in &known {
            if !known.join && known.endpoint.get().is_some() {
                self.server.announce(known.key);
            }
        }
        let add =
            |known: acorn::root::KnownKey| KeyEvent::Add { key: known.key, endpoint: known.endpoint, join: known.join };
        known.into_iter().map(|known| Wish::Key(add(known))).collect()
    }

    pub fn handle(&mut self, now: Instant, from: Sender, payload: &[u8]) -> Vec<Wish> {
        self.count(payload);
        let mut out = [0; MESSAGE_MAX];
        let answer = self.server.handle(now, from, payload, &mut self.root, &mut out);
        // Keys first: the answer may be for one that has just become known.
        let mut wishes = self.keys();
        if let Ok(Some(len)) = answer {
            wishes.push(Wish::Send(from.key, out[..len].to_vec()));
        }
        wishes
    }

    /// Does what is due, and what changes of the root ask for.
    pub fn run(&mut self, now: Instant) -> Vec<Wish> {
        if now >= self.next_expiry {
            self.next_expiry = now.saturating_add(EXPIRY);
            self.root.expire(now, unix(now));
        }
        self.server.handle_timeout(now, &mut self.root);
        let mut wishes = self.keys();
        let mut out = [0; MESSAGE_MAX];
        while let Some((to, len)) = self.server.poll_transmit(now, &mut self.root, &mut out) {
            wishes.push(Wish::Send(to, out[..len].to_vec()));
        }
        wishes
    }

    pub fn deadline(&self) -> Instant {
        self.server.poll_timeout().map_or(self.next_expiry, |at| at.min(self.next_expiry))
    }

    /// Whether who owns an address may have changed since this was last asked.
    pub fn take_claims(&mut self) -> bool {
        std::mem::take(&mut self.claims)
    }

    /// Creates a service with an address under a policy. Returns the address.
    pub fn create_service(&mut self, now: Instant, name: &str, policy: &dyn Policy) -> Dual {
        let address = AddressRequest {
            ip_type: policy.ip_type().try_into().expect("a policy's name fits"),
            block: PolicyBlock::new(policy.block()).expect("a policy has a block"),
            v4: None,
            v6: None,
        };
        let request = ServiceRequest {
            name: name.parse().expect("a service's name"),
            addresses: vec![address],
            fixed: Vec::new(),
        };
        self.root.create_service(now, request).expect("the service is created").service_ips[0].1
    }

    fn keys(&mut self) -> Vec<Wish> {
        std::iter::from_fn(|| self.root.poll_key_event()).map(Wish::Key).collect()
    }

    fn count(&mut self, payload: &[u8]) {
        use acorn_core::sync::message::ResolveKey;
        let message = Message::decode(payload);
        let counter = match &message {
            Ok(Message::Hello(_)) => &mut self.asked.hellos,
            Ok(Message::Resolve(resolve)) => match resolve.key {
                ResolveKey::Node(_) => &mut self.asked.nodes,
                ResolveKey::Subject(_) => &mut self.asked.subjects,
                ResolveKey::Address(_) | ResolveKey::Name(_) => &mut self.asked.addresses,
            },
            _ => &mut self.asked.others,
        };
        *counter += 1;
        self.claims |= matches!(message, Ok(Message::Hello(_) | Message::Attach(_) | Message::Detach(_)));
    }
}

/// A server without anything. It comes into its box by way of the stack, which has to be larger than that of a test.
fn new_server() -> Box<SimServer> {
    let made = std::thread::Builder::new().stack_size(64 << 20).spawn(|| Box::new(SimServer::new()));
    made.expect("a thread starts").join().expect("nothing happens in it")
}

fn unix(now: Instant) -> u64 {
    UNIX + now.as_millis() / 1_000
}
