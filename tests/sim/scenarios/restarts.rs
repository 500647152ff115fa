//! Daemons that die and come back, in every combination and order, and a root that is cut off.

use acorn_core::InstanceId;
use acorn_core::addr::Dual;
use acorn_core::time::Duration;

use crate::network::Conditions;
use crate::world::{ROOT, World, seeds};

const CLIENT: usize = 1;
const SERVER: usize = 2;
/// What a new dial may take after the last daemon has started.
const HEALS_WITHIN: Duration = Duration::from_secs(2);
/// The same where one of ten datagrams is lost, most of them of handshakes: each of those that is lost costs five seconds.
const HEALS_THROUGH_LOSS: Duration = Duration::from_secs(20);
/// How long a daemon is dead.
const DEAD: Duration = Duration::from_millis(300);

struct Talk {
    world: World,
    client: InstanceId,
    server: InstanceId,
    dialled: Dual,
    /// The port of a flow that has been there all the while.
    old: u16,
}

fn talking(seed: u64) -> Talk {
    let mut world = World::with_nodes(seed, 2);
    let dialled = world.create_service("server");
    world.create_service("client");
    let client = world.attach(CLIENT, "client", None);
    let server = world.attach(SERVER, "server", None);
    // The handshakes of the nodes fall into different places of their leases.
    let wait = 15_000 + world.random.below(10_000);
    world.run(Duration::from_millis(wait));
    let old = world.ask(CLIENT, client, dialled.v4.into(), 0);
    world.run_until(Duration::from_secs(1), "the first answer comes", |world| {
        world.answer(CLIENT, client, old) == Some(server)
    });
    world.run(Duration::from_secs(1));
    Talk { world, client, server, dialled, old }
}

impl Talk {
    /// Dials anew every 50 ms until one dial is answered; returns how long that took.
    fn first_answer(&mut self) -> Duration {
        let begin = self.world.now;
        let (client, server) = (self.client, self.server);
        let mut ports = Vec::new();
        loop {
            ports.push(self.world.ask(CLIENT, client, self.dialled.v4.into(), 1));
            self.world.run(Duration::from_millis(50));
            let took = self.world.now.saturating_duration_since(begin);
            if ports.iter().any(|port| self.world.answer(CLIENT, client, *port) == Some(server)) {
                return took;
            }
            assert!(took < Duration::from_secs(60), "it never heals");
        }
    }

    /// The same; and from then on nothing is lost, on the flow of before neither.
    fn heals(&mut self) -> Duration {
        let took = self.first_answer();
        let (client, server) = (self.client, self.server);
        let mut since = self.world.arrivals.len();
        for sequence in 100..110 {
            since = since.max(self.world.arrivals.len());
            let new = self.world.ask(CLIENT, client, self.dialled.v6.into(), sequence);
            self.world.ask_from(CLIENT, client, self.old, self.dialled.v4.into(), sequence);
            self.world.run(Duration::from_millis(200));
            assert_eq!(self.world.answer(CLIENT, client, new), Some(server), "a new flow after it healed");
            let answered = self
                .world
                .arrivals_since(since)
                .iter()
                .any(|arrival| matches!(arrival.what, crate::app::What::Answered { port, .. } if port == self.old));
            assert!(answered, "the old flow after it healed");
        }
        took
    }
}

/// All orders of all non-empty sets of the three.
fn orders() -> Vec<Vec<usize>> {
    let three = [CLIENT, SERVER, ROOT];
    let mut orders: Vec<Vec<usize>> = three.iter().map(|one| vec![*one]).collect();
    let mut last = orders.clone();
    for _ in 0..2 {
        last = last
            .iter()
            .flat_map(|order| {
                three.iter().filter(|host| !order.contains(host)).map(|host| [&order[..], &[*host]].concat())
            })
            .collect();
        orders.extend(last.iter().cloned());
    }
    orders
}

/// Runs all orders with `pause` between one restart and the next. Returns the longest time that healing took.
fn restart_all(seed: u64, pause: Duration) -> Duration {
    let mut longest = Duration::ZERO;
    for order in orders() {
        let mut talk = talking(seed);
        for (place, host) in order.iter().enumerate() {
            if place > 0 {
                talk.world.run(pause);
            }
            talk.world.crash(*host);
            talk.world.run(DEAD);
            talk.world.start(*host);
        }
        let took = talk.heals();
        assert!(
            took <= HEALS_WITHIN,
            "hosts {order:?} (0 is the root, 1 the client's, 2 the server's) were restarted {pause:?} apart: {took:?}"
        );
        longest = longest.max(took);
    }
    longest
}

#[test]
fn there_are_fifteen_orders() {
    let orders = orders();
    assert_eq!(orders.len(), 15);
    assert!(orders.contains(&vec![ROOT, SERVER]) && orders.contains(&vec![SERVER, ROOT, CLIENT]));
}

#[test]
fn restarts_at_once_one_after_the_other_heal_within_two_seconds() {
    let longest = seeds(3).map(|seed| restart_all(seed, Duration::ZERO)).max();
    println!("restarts without a pause: healed after at most {longest:?}");
}

#[test]
fn restarts_half_a_second_apart_heal_within_two_seconds() {
    let longest = seeds(3).map(|seed| restart_all(seed, Duration::from_millis(500))).max();
    println!("restarts half a second apart: healed after at most {longest:?}");
}

#[test]
fn restarts_three_seconds_apart_heal_within_two_seconds() {
    let longest = seeds(3).map(|seed| restart_all(seed, Duration::from_secs(3))).max();
    println!("restarts three seconds apart: healed after at most {longest:?}");
}

#[test]
fn all_down_at_once_heals_within_two_seconds_of_the_last_start_in_whatever_order_they_start() {
    let mut longest = Duration::ZERO;
    for seed in seeds(3) {
        for order in orders() {
            let mut talk = talking(seed);
            for host in &order {
                talk.world.crash(*host);
            }
            for host in &order {
                let pause = 100 + talk.world.random.below(8_000);
                talk.world.run(Duration::from_millis(pause));
                talk.world.start(*host);
            }
            let took = talk.heals();
            assert!(took <= HEALS_WITHIN, "hosts {order:?} were down at once and started in this order: {took:?}");
            longest = longest.max(took);
        }
    }
    println!("all down at once: healed after at most {longest:?}");
}

#[test]
fn restarts_over_a_bad_underlay_heal_within_a_few_repeats_of_a_handshake() {
    let mut longest = Duration::ZERO;
    for seed in seeds(2) {
        for order in orders() {
            let mut talk = talking(seed);
            talk.world.set_conditions(Conditions::ROUGH);
            for host in &order {
                talk.world.crash(*host);
                talk.world.run(DEAD);
                talk.world.start(*host);
            }
            let took = talk.first_answer();
            assert!(took <= HEALS_THROUGH_LOSS, "hosts {order:?} were restarted: {took:?}");
            longest = longest.max(took);
        }
    }
    println!("restarts over a bad underlay: healed after at most {longest:?}");
}

#[test]
fn restarts_half_a_minute_apart_heal_within_two_seconds() {
    let longest = seeds(3).map(|seed| restart_all(seed, Duration::from_secs(30))).max();
    println!("restarts half a minute apart: healed after at most {longest:?}");
}
