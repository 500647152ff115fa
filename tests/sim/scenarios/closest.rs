//! `Closest` in a simulated internet: 200 nodes in regions, with ways in of their own, detours and jitter.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use acorn_core::InstanceId;
use acorn_core::policy::Closest;
use acorn_core::time::Duration;

use crate::random::Random;
use crate::world::{World, seeds};

const NODES: usize = 200;
const SERVICES: usize = 8;
const INSTANCES: usize = 12;
/// Regions: where they are on a map, in milliseconds one way.
const REGIONS: [(f64, f64); 7] =
    [(0.0, 0.0), (9.0, 4.0), (38.0, -6.0), (62.0, 12.0), (84.0, -30.0), (30.0, 48.0), (110.0, 25.0)];

/// The least that a datagram takes from one node to another, in milliseconds, by places.
struct Internet(Vec<Vec<u64>>);

impl Internet {
    fn new(random: &mut Random) -> Self {
        let unit = |random: &mut Random| random.below(10_000) as f64 / 10_000.0;
        let mut nodes: Vec<(f64, f64, f64)> = (0..=NODES)
            .map(|_| {
                let (x, y) = random.pick(&REGIONS).expect("there are regions");
                // Most are well connected, some sit behind radio or old copper.
                let way_in = if random.percent(15) { 4.0 + 10.0 * unit(random) } else { 0.3 + 2.5 * unit(random) };
                (x + 7.0 * unit(random), y + 7.0 * unit(random), way_in)
            })
            .collect();
        // The root is in the middle: a look-up may take no longer than 800 ms.
        nodes[0] = (45.0, 10.0, 0.5);
        let mut ways = vec![vec![0; nodes.len()]; nodes.len()];
        for a in 0..nodes.len() {
            for b in 0..a {
                let ((ax, ay, a_in), (bx, by, b_in)) = (nodes[a], nodes[b]);
                // Cables do not lie straight, and some pairs are sent around by third parties: shorter ways exist over others.
                let detour = if random.percent(8) { 1.3 + 0.9 * unit(random) } else { 1.0 + 0.15 * unit(random) };
                let way = ((ax - bx).hypot(ay - by) * detour + a_in + b_in).round().max(1.0) as u64;
                (ways[a][b], ways[b][a]) = (way, way);
            }
        }
        Self(ways)
    }

    fn round_trip(&self, a: usize, b: usize) -> u64 {
        self.0[a][b] + self.0[b][a]
    }

    /// Makes the underlay this internet; up to a tenth more, and now and then much more, is jitter.
    fn lay(&self, world: &mut World) {
        let places: BTreeMap<SocketAddr, usize> =
            world.hosts.iter().enumerate().map(|(place, host)| (host.address, place)).collect();
        let (ways, mut random) = (self.0.clone(), Random::new(world.seed, 7));
        world.network.ways = Some(Box::new(move |from, to| {
            let least = ways[places[&from]][places[&to]].max(1);
            let held_up = if random.percent(3) { random.below(30) } else { 0 };
            Duration::from_millis(least + random.below(least / 10 + 2) + held_up)
        }));
    }
}

/// Choices, and how many of them were good.
#[derive(Clone, Copy, Default)]
struct Score {
    good: usize,
    all: usize,
}

impl Score {
    fn count(&mut self, chosen: u64, best: u64) {
        self.all += 1;
        self.good += usize::from(chosen * 4 <= best * 5);
    }

    fn and(self, other: Self) -> Self {
        Self { good: self.good + other.good, all: self.all + other.all }
    }

    fn percent(self) -> f64 {
        100.0 * self.good as f64 / self.all as f64
    }
}

struct Run {
    world: World,
    internet: Internet,
    instances: Vec<Vec<(InstanceId, usize)>>,
    clients: Vec<usize>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut world = World::with_nodes(seed, NODES);
        let internet = Internet::new(&mut Random::new(seed, 8));
        let mut instances = Vec::new();
        for service in 0..SERVICES {
            let word = format!("near{service}");
            world.create_service_under(&word, &Closest);
            let hosts = (0..INSTANCES).map(|n| 1 + service * INSTANCES + n);
            instances.push(hosts.map(|host| (world.attach(host, &word, None), host)).collect());
        }
        internet.lay(&mut world);
        let clients = (1 + SERVICES * INSTANCES..=NODES).collect();
        Self { world, internet, instances, clients }
    }

    /// Every client dials a service, its first, second or so; returns how good the choices were.
    fn dial(&mut self, which: usize) -> Score {
        let mut asked = Vec::new();
        for place in 0..self.clients.len() {
            let (client, service) = (self.clients[place], (place + which * 3) % SERVICES);
            let dialled = self.world.services[&format!("near{service}")].v4.into();
            let app = self.world.hosts[client].own_app();
            asked.push((client, service, app, self.world.ask(client, app, dialled, 1)));
            // Not all at the same moment.
            self.world.run(Duration::from_millis(7));
        }
        self.world.run(Duration::from_secs(3));
        let mut score = Score::default();
        for (client, service, app, port) in asked {
            let by = self.world.answer(client, app, port).unwrap_or_else(|| panic!("nobody answers host {client}"));
            let of = |host: usize| self.internet.round_trip(client, host);
            let best = self.instances[service].iter().map(|(_, host)| of(*host)).min().expect("there are instances");
            let chosen = self.instances[service].iter().find(|(id, _)| *id == by).expect("it is one of them");
            score.count(of(chosen.1), best);
        }
        score
    }
}

#[test]
fn in_an_internet_of_200_nodes_19_of_20_choices_are_within_a_quarter_of_the_best() {
    for seed in seeds(1) {
        let mut run = Run::new(seed);
        let mut measured = Score::default();
        let blind = run.dial(0).and(run.dial(1));
        for _ in 0..3 {
            run.world.run(Duration::from_secs(8));
            measured = measured.and(run.dial(0)).and(run.dial(1));
        }
        // The nodes know where they are by now, but nothing was measured for this service.
        let predicted = run.dial(2);
        let soon = run.dial(2);
        measured = measured.and(soon);
        println!(
            "within a quarter of the best: {:.1} % of {} choices; of those three seconds after the first one {:.1} %, of first ones by \
             prediction alone {:.1} %, of those by chance {:.1} %",
            measured.percent(),
            measured.all,
            soon.percent(),
            predicted.percent(),
            blind.percent()
        );
        assert!(measured.percent() >= 95.0, "{:.1} %", measured.percent());
    }
}
