//! A policy that this file adds from outside: the root takes its name and block, nodes that know it go by it, others round robin.

use acorn_core::InstanceId;
use acorn_core::policy::{
    Candidate, Candidates, Closest, Failover, Memory, NewFlow, Policy, Registry, RoundRobin, Sticky, Underutilized,
    Weighted,
};
use acorn_core::time::Duration;

use crate::world::{World, seeds};

/// The instance with the fewest flows of this node.
struct FewestFlows;

impl Policy for FewestFlows {
    fn ip_type(&self) -> &'static str {
        "FewestFlows"
    }

    fn sla_field(&self) -> &'static str {
        "fewestflows_ip"
    }

    fn block(&self) -> u8 {
        9
    }

    fn summary(&self) -> &'static str {
        "The instance with the fewest flows of this node, round robin among equals."
    }

    fn pick(&self, _flow: &NewFlow, _memory: &Memory, candidates: &Candidates<'_>) -> Option<Candidate> {
        candidates.iter().min_by_key(|candidate| candidate.flows)
    }
}

/// The built-in policies and the one of this file.
static POLICIES: [&dyn Policy; 7] =
    [&RoundRobin, &Closest, &Underutilized, &Sticky, &Weighted, &Failover, &FewestFlows];

/// The node of the client that knows the policy, and that of the one that does not.
const KNOWS: usize = 1;
const DOES_NOT: usize = 4;

struct Stage {
    world: World,
    servers: [InstanceId; 3],
    next: u32,
}

impl Stage {
    /// A service under the policy with three instances, on nodes that know it.
    fn set(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.registry = Registry::new(&POLICIES).expect("the policy keeps the rules");
        world.add_root(false);
        for _ in 1..DOES_NOT {
            world.add_node();
        }
        world.registry = Registry::built_in();
        world.add_node();
        world.join();
        let dialled = world.create_service_under("server", &FewestFlows);
        assert!(dialled.v6.to_string().starts_with("fdff:9000:"), "{dialled} is not in the policy's block");
        let servers = [1, 2, 3].map(|host| world.attach(host, "server", None));
        Self { world, servers, next: 0 }
    }

    /// Opens connections from a host; returns, for each, its port and the place of the instance that answered.
    fn open(&mut self, host: usize, connections: usize) -> Vec<(u16, usize)> {
        let dialled = self.world.services["server"];
        let client = self.world.hosts[host].own_app();
        (0..connections)
            .map(|_| {
                self.next += 1;
                let dst = if self.next.is_multiple_of(2) { dialled.v4.into() } else { dialled.v6.into() };
                let port = self.world.connect(host, client, dst);
                self.world.run(Duration::from_millis(500));
                self.world.say(host, client, port, self.next);
                self.world.run(Duration::from_millis(500));
                let by = self.world.answer(host, client, port).expect("somebody answers");
                (port, self.servers.iter().position(|server| *server == by).expect("one of the three"))
            })
            .collect()
    }

    /// Ends connections and waits until their flows are forgotten.
    fn close(&mut self, host: usize, ports: impl IntoIterator<Item = u16>) {
        let client = self.world.hosts[host].own_app();
        for port in ports {
            let packet = self.world.app(host, client).finish(port);
            self.world.send_packet(host, packet);
        }
        self.world.run(Duration::from_secs(15));
    }
}

fn places(answers: &[(u16, usize)]) -> Vec<usize> {
    answers.iter().map(|(_, place)| *place).collect()
}

#[test]
fn flows_go_as_a_policy_says_that_a_shell_has_added() {
    for seed in seeds(3) {
        let mut stage = Stage::set(seed);
        let open = stage.open(KNOWS, 9);
        assert_eq!(places(&open), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let ends = open.iter().filter(|(_, place)| *place == 1).map(|(port, _)| *port);
        stage.close(KNOWS, ends);
        // The one with no flows gets them until it has as many as the others.
        assert_eq!(places(&stage.open(KNOWS, 4)), [1, 1, 1, 2]);
        assert_eq!(stage.world.node(KNOWS).router().table.unknown_policies(), 0);
    }
}

#[test]
fn a_node_that_does_not_know_the_policy_serves_its_address_round_robin_and_counts_it() {
    for seed in seeds(3) {
        let mut stage = Stage::set(seed);
        let open = stage.open(DOES_NOT, 9);
        assert_eq!(places(&open), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        let ends = open.iter().filter(|(_, place)| *place == 1).map(|(port, _)| *port);
        stage.close(DOES_NOT, ends);
        assert_eq!(places(&stage.open(DOES_NOT, 4)), [0, 1, 2, 0]);
        assert!(stage.world.node(DOES_NOT).router().table.unknown_policies() > 0);
    }
}
