//! Whatever happens, in whatever order: what is opened is what was sealed, by whom it was sealed, and once; and everybody talks again when
//! the network does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::*;
use super::network::*;

const NODES: usize = 4;

#[derive(Clone, Debug)]
enum Act {
    /// A payload from one node to another.
    Send(usize, usize),
    /// The oldest datagrams on the wire arrive.
    Arrive(usize),
    /// A datagram on the wire is lost.
    Lose(usize),
    /// A datagram comes again that was sent at any time.
    Repeat(usize),
    /// The oldest datagram on the wire is overtaken by all others.
    Delay,
    /// Time passes; the nodes do what is due.
    Wait(u64),
    /// A node is started again.
    Restart(usize),
    /// A node hears that another has been started again.
    News(usize, usize),
    /// A node ends a tunnel.
    Remove(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    let node = 0..NODES;
    let pair = (0..NODES, 1..NODES).prop_map(|(one, by)| (one, (one + by) % NODES));
    prop_oneof![
        8 => pair.clone().prop_map(|(from, to)| Act::Send(from, to)),
        8 => (1_usize..6).prop_map(Act::Arrive),
        2 => any::<usize>().prop_map(Act::Lose),
        3 => any::<usize>().prop_map(Act::Repeat),
        1 => Just(Act::Delay),
        6 => prop_oneof![1_u64..100, 1_000_u64..6_000, 10_000_u64..30_000, 100_000_u64..600_000].prop_map(Act::Wait),
        1 => node.prop_map(Act::Restart),
        1 => pair.clone().prop_map(|(at, of)| Act::News(at, of)),
        1 => pair.prop_map(|(at, of)| Act::Remove(at, of)),
    ]
}

/// Nodes with room for two tunnels each, and what was sent.
struct World {
    net: Network<2, 4>,
    sent: Vec<(usize, usize)>,
    opened: BTreeSet<(usize, u32)>,
    boots: [u32; NODES],
}

impl World {
    fn act(&mut self, act: &Act) {
        let net = &mut self.net;
        match *act {
            Act::Send(from, to) => {
                let number = self.sent.len() as u32;
                self.sent.push((from, to));
                net.seal(from, to, &number.to_le_bytes().repeat(4));
            }
            Act::Arrive(count) => {
                (0..count).for_each(|_| {
                    net.step();
                });
                (0..NODES).for_each(|node| net.poll(node));
            }
            Act::Lose(which) => {
                if let Some(place) = which.checked_rem(net.wire.len()) {
                    net.wire.remove(place);
                }
            }
            Act::Repeat(which) => {
                if let Some(place) = which.checked_rem(net.log.len()) {
                    net.wire.push_back(net.log[place].clone());
                }
            }
            Act::Delay => {
                if let Some(oldest) = net.wire.pop_front() {
                    net.wire.push_back(oldest);
                }
            }
            Act::Wait(millis) => {
                // What is on the wire stays there, and what is due is done.
                let wire = core::mem::take(&mut net.wire);
                let until = net.now + Duration::from_millis(millis);
                for _ in 0..2_000 {
                    (0..NODES).for_each(|node| net.poll(node));
                    let due = (0..NODES).filter_map(|node| net.due(node)).min();
                    let Some(due) = due.filter(|due| *due <= until) else {
                        break;
                    };
                    assert!(due > net.now, "due and not done");
                    net.now = due;
                }
                net.now = until;
                (0..NODES).for_each(|node| net.poll(node));
                let later = core::mem::replace(&mut net.wire, wire);
                net.wire.extend(later);
            }
            Act::Restart(node) => {
                self.boots[node] += 1;
                net.restart(node, self.boots[node]);
            }
            Act::News(at, of) => net.configure(at, of, true),
            Act::Remove(at, of) => {
                let key = net.nodes[of].key;
                net.nodes[at].tunnels.remove(&key);
            }
        }
        self.look();
    }

    /// Looks at what has been opened.
    fn look(&mut self) {
        for at in 0..NODES {
            for delivery in core::mem::take(&mut self.net.nodes[at].inbox) {
                let number = u32::from_le_bytes(delivery.payload[..4].try_into().expect("16 bytes"));
                assert_eq!(delivery.payload, number.to_le_bytes().repeat(4));
                let (from, to) = self.sent[number as usize];
                assert_eq!(to, at, "it was for somebody else");
                assert_eq!(delivery.key, self.net.nodes[from].key, "it is somebody else's");
                assert_eq!(delivery.row, self.net.row(at, from));
                assert!(self.opened.insert((at, number)), "it was opened twice");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(acts in proptest::collection::vec(act(), 1..80)) {
        let net = Network::<2, 4>::new(NODES as u8);
        let mut world = World { net, sent: Vec::new(), opened: BTreeSet::new(), boots: [1; NODES] };
        for act in &acts {
            world.act(act);
        }
        // The network is well again, what was on the wire is gone, and everybody has had time to see that a session is dead.
        world.net.wire.clear();
        world.net.advance(Duration::from_secs(200));
        world.look();
        let before = world.net.wakes;
        world.net.advance(Duration::from_secs(1_000));
        prop_assert!(world.net.wakes - before <= 4 * NODES, "{} wake-ups of idle nodes", world.net.wakes - before);
        for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
            // Long enough that whoever has to make room does. Whose tunnel has made room may be sent to in a session that is gone.
            world.net.advance(Duration::from_secs(20));
            let first = world.sent.len() as u32;
            for _ in 0..22 {
                world.act(&Act::Send(from, to));
                world.net.advance(Duration::from_secs(1));
                world.look();
            }
            let got = world.opened.range((to, first)..).next();
            prop_assert!(got.is_some_and(|(at, _)| *at == to), "from {} to {}", from, to);
        }
    }
}
