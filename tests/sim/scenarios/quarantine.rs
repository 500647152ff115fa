//! An address that was withdrawn rests until nobody can mistake it for somebody else's.

use acorn_core::InstanceId;
use acorn_core::addr::Dual;
use acorn_core::time::Duration;

use crate::world::{ROOT, World, name_of, seeds};

const QUARANTINE: Duration = Duration::from_secs(60);

fn address_of(world: &World, word: &str, instance: InstanceId) -> Dual {
    let service = world.manager().root.service(&name_of(word).parse().unwrap()).unwrap();
    service.instances.iter().find(|i| i.number == instance.number).unwrap().instance_ip
}

/// Attaches and detaches instances of another service until one gets the address. Returns how long that took.
fn until_given_again(world: &mut World, address: Dual, limit: Duration) -> Option<Duration> {
    let begin = world.now;
    while world.now.saturating_duration_since(begin) < limit {
        let instance = world.attach(3, "other", None);
        if address_of(world, "other", instance) == address {
            return Some(world.now.saturating_duration_since(begin));
        }
        world.detach(3, instance);
        world.run(Duration::from_secs(5));
    }
    None
}

#[test]
fn a_withdrawn_address_rests_a_minute_after_everybody_has_acknowledged() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("other");
        let (gone, _stays) = (world.attach(2, "server", None), world.attach(2, "server", None));
        let address = address_of(&world, "server", gone);
        let app = world.hosts[1].own_app();
        world.ask(1, app, dialled.v4.into(), 0);
        world.ask(1, app, dialled.v4.into(), 0);
        world.run(Duration::from_secs(2));
        world.detach(2, gone);
        let took = until_given_again(&mut world, address, QUARANTINE * 2).expect("it is given again");
        assert!(took >= QUARANTINE, "{took:?}");
        assert!(took <= QUARANTINE + Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_withdrawn_address_rests_while_an_interested_node_cannot_have_heard_of_it() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("other");
        let (gone, _stays) = (world.attach(2, "server", None), world.attach(2, "server", None));
        let address = address_of(&world, "server", gone);
        let app = world.hosts[1].own_app();
        // Connections, so that the interest lasts.
        world.connect(1, app, dialled.v4.into());
        world.connect(1, app, dialled.v4.into());
        world.run(Duration::from_secs(2));
        world.cut(ROOT, 1);
        world.detach(2, gone);
        assert_eq!(
            until_given_again(&mut world, address, QUARANTINE * 3),
            None,
            "node 1 still takes it for the old one's"
        );
        let holds = world.node(1).router().table.owner(address.v4.into()).is_some();
        assert!(holds, "or there would be nothing to protect");
        world.mend(ROOT, 1);
        let took = until_given_again(&mut world, address, QUARANTINE * 2).expect("it is given again");
        assert!(took >= QUARANTINE, "{took:?}");
    }
}

#[test]
fn a_restart_of_the_root_does_not_shorten_the_rest() {
    for seed in seeds(3) {
        let mut world = World::with_nodes(seed, 3);
        let dialled = world.create_service("server");
        world.create_service("other");
        let (gone, _stays) = (world.attach(2, "server", None), world.attach(2, "server", None));
        let address = address_of(&world, "server", gone);
        let app = world.hosts[1].own_app();
        world.connect(1, app, dialled.v4.into());
        world.connect(1, app, dialled.v4.into());
        world.run(Duration::from_secs(2));
        world.cut(ROOT, 1);
        world.detach(2, gone);
        world.run(Duration::from_secs(5));
        world.crash(ROOT);
        world.run(Duration::from_secs(1));
        world.start(ROOT);
        world.run(Duration::from_secs(5));
        assert_eq!(until_given_again(&mut world, address, QUARANTINE * 3), None, "node 1 has not been heard yet");
        world.mend(ROOT, 1);
        let took = until_given_again(&mut world, address, QUARANTINE * 2).expect("it is given again");
        assert!(took >= QUARANTINE, "{took:?}");
    }
}
