//! Several nodes on one virtual clock and one wire that can lose, redirect and record.

mod bounds;
mod payloads;
mod peers;
mod strangers;

use std::collections::HashSet;

use super::*;
use crate::identity::PrivateKey;

const START_UNIX: Duration = Duration::from_secs(1_800_000_000);

struct Node {
    identity: Identity,
    tunnels: Tunnels,
    addr: SocketAddr,
    received: Vec<(PeerHandle, Vec<u8>)>,
}

/// A datagram that was on the wire.
#[derive(Clone)]
struct Sent {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct Net {
    now: Instant,
    base: Instant,
    nodes: Vec<Node>,
    wire: Vec<Sent>,
    cut: HashSet<SocketAddr>,
    seeds: u8,
}

fn identity(n: u8) -> Identity {
    Identity::from(PrivateKey::from(Zeroizing::new([n; 32])))
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 50103))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Net {
    /// `count` nodes that don't know each other yet.
    fn new(count: u8) -> Self {
        let now = Instant::now();
        let mut net = Self { now, base: now, nodes: Vec::new(), wire: Vec::new(), cut: HashSet::new(), seeds: 0 };
        for n in 0..count {
            let identity = identity(n + 1);
            let tunnels = net.boot(&identity);
            net.nodes.push(Node { identity, tunnels, addr: addr(n + 1), received: Vec::new() });
        }
        net
    }

    /// Two nodes that are peers of each other, and their handles for each other.
    fn pair() -> (Self, PeerHandle, PeerHandle) {
        let mut net = Self::new(2);
        let b = net.introduce(0, 1);
        let a = net.introduce(1, 0);
        (net, b, a)
    }

    /// Two peers with a session, begun by the first.
    fn connected() -> (Self, PeerHandle, PeerHandle) {
        let (mut net, b, a) = Self::pair();
        net.send(0, b, b"first");
        net.run();
        assert_eq!(net.texts(1), ["first"]);
        net.nodes[1].received.clear();
        assert_eq!(net.events(0), [TunnelEvent::Established { peer: b }]);
        assert_eq!(net.events(1), [TunnelEvent::Established { peer: a }]);
        net.wire.clear();
        (net, b, a)
    }

    fn seed(&mut self) -> Zeroizing<[u8; 32]> {
        self.seeds += 1;
        Zeroizing::new([self.seeds; 32])
    }

    fn boot(&mut self, identity: &Identity) -> Tunnels {
        let unix = START_UNIX + self.now.duration_since(self.base);
        let seed = self.seed();
        Tunnels::new(identity, seed, self.now, unix)
    }

    /// Makes `other` a peer of `node`.
    fn introduce(&mut self, node: usize, other: usize) -> PeerHandle {
        let (key, addr) = (self.nodes[other].identity.public(), self.nodes[other].addr);
        let now = self.now;
        self.nodes[node].tunnels.add_peer(key, Some(addr), Local::Own, now).unwrap()
    }

    fn seal(&mut self, node: usize, peer: PeerHandle, payload: &[u8]) -> Result<Sealed, SendError> {
        let mut out = [0; 70_000];
        let (now, from) = (self.now, self.nodes[node].addr);
        let sealed = self.nodes[node].tunnels.seal(peer, payload, &mut out, now)?;
        if let Sealed::Datagram { to, len } = sealed {
            self.deliver(from, to, out[..len].to_vec());
        }
        Ok(sealed)
    }

    fn send(&mut self, node: usize, peer: PeerHandle, payload: &[u8]) {
        self.seal(node, peer, payload).unwrap();
    }

    /// Hands `bytes` to whoever has the address `to`, as if from `from`.
    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) -> Option<Opened> {
        let opened = if self.cut.contains(&to) || self.cut.contains(&from) {
            None
        } else {
            let now = self.now;
            self.nodes.iter_mut().find(|node| node.addr == to).map(|node| {
                let mut out = vec![0; bytes.len().max(1)];
                let opened = node.tunnels.open(from, &bytes, &mut out, now);
                if let Opened::Data { peer, len, .. } = opened {
                    node.received.push((peer, out[..len].to_vec()));
                }
                opened
            })
        };
        self.wire.push(Sent { from, to, bytes });
        opened
    }

    /// Carries datagrams until nobody has any to send.
    fn run(&mut self) {
        for _ in 0..1_000 {
            let mut quiet = true;
            for node in 0..self.nodes.len() {
                while let Some(sent) = self.poll(node) {
                    self.deliver(sent.from, sent.to, sent.bytes);
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
        panic!("the nodes never stop talking");
    }

    fn poll(&mut self, node: usize) -> Option<Sent> {
        let mut out = [0; 70_000];
        let now = self.now;
        let node = &mut self.nodes[node];
        let Transmit { to, len } = node.tunnels.poll_transmit(&mut out, now)?;
        Some(Sent { from: node.addr, to, bytes: out[..len].to_vec() })
    }

    /// Lets time pass, with every timer served when it is due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.run();
            let next = self.nodes.iter_mut().filter_map(|node| node.tunnels.poll_timeout()).min();
            match next {
                Some(next) if next <= end => {
                    self.now = self.now.max(next);
                    for node in &mut self.nodes {
                        node.tunnels.handle_timeout(self.now);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
        for node in &mut self.nodes {
            node.tunnels.handle_timeout(end);
        }
        self.run();
    }

    fn events(&mut self, node: usize) -> Vec<TunnelEvent> {
        let tunnels = &mut self.nodes[node].tunnels;
        std::iter::from_fn(|| tunnels.poll_event()).collect()
    }

    /// What a node received, without the padding.
    fn texts(&self, node: usize) -> Vec<String> {
        self.nodes[node]
            .received
            .iter()
            .map(|(_, payload)| String::from_utf8(payload.clone()).unwrap().trim_end_matches('\0').to_owned())
            .collect()
    }

    fn drops(&self, node: usize, reason: TunnelDrop) -> u64 {
        self.nodes[node].tunnels.counters().drops(reason)
    }

    /// What a node sent since the wire was last cleared, by message type.
    fn sent_by(&self, node: usize) -> Vec<u8> {
        let from = self.nodes[node].addr;
        let sent = self.wire.iter().filter(|sent| sent.from == from);
        sent.map(|sent| sent.bytes[0]).collect()
    }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("payload {n}")).collect()
}

/// One of many different keys.
fn numbered_key(n: u64) -> NodeKey {
    let mut private = [1; 32];
    // Not at the start, where clamping (RFC 7748 §5) makes neighbours equal.
    private[8..16].copy_from_slice(&n.to_le_bytes());
    Identity::from(PrivateKey::from(Zeroizing::new(private))).public()
}
