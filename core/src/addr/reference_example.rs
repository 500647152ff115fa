//! The reference example of the address plan, address for address.

use std::sync::Mutex;

use super::{AddressPlan, Dual, InstanceIp, PolicyBlock, Pool, ServiceIp};
use crate::time::Instant;

const NOW: Instant = Instant::ZERO;
const PLAN: AddressPlan = AddressPlan::DEFAULT;

#[test]
fn the_addresses_of_the_reference_example_come_out_exactly() {
    let round_robin = PolicyBlock::new(2).unwrap();
    // The first addresses don't depend on how large the pools are.
    let mut v4: Pool<256> = Pool::new(1, 254);
    let mut policy_v6: Pool<256> = Pool::new(1, 254);
    let mut instance_v6: Pool<256> = Pool::new(1, 254);
    let mut namespaces: Pool<64> = Pool::new(1, 62);

    let service = ServiceIp::new(Dual::new(
        PLAN.service_v4(v4.allocate(NOW).unwrap()).unwrap(),
        PLAN.policy_v6(round_robin, policy_v6.allocate(NOW).unwrap()).unwrap(),
    ));
    assert_eq!(service.to_string(), "10.30.0.1 / fdff:2000::1");

    let index = PLAN.worker_index("10.18.30.64/26".parse().unwrap()).unwrap();
    let worker = PLAN.worker_subnet(index).unwrap();
    assert_eq!(index, 121);
    assert_eq!(worker.to_string(), "10.18.30.64/26 fc00::7900/120");

    for (instance_text, namespace_text) in
        [("10.30.0.2 / fdff::1", "10.18.30.65 / fc00::7901"), ("10.30.0.3 / fdff::2", "10.18.30.66 / fc00::7902")]
    {
        let instance = InstanceIp::new(Dual::new(
            PLAN.service_v4(v4.allocate(NOW).unwrap()).unwrap(),
            PLAN.instance_v6(instance_v6.allocate(NOW).unwrap()).unwrap(),
        ));
        let offset = namespaces.allocate(NOW).unwrap();
        assert_eq!(instance.to_string(), instance_text);
        assert_eq!(worker.namespace_ip(offset).unwrap().to_string(), namespace_text);
    }

    // The host is an instance too, from the top.
    let host = namespaces.allocate_top(NOW).unwrap();
    assert_eq!(worker.namespace_ip(host).unwrap().to_string(), "10.18.30.126 / fc00::793e");
}

#[test]
fn the_host_addresses_of_services_come_from_the_top() {
    // Static: a pool of this size is more than a test's stack.
    static V4: Mutex<Pool<65_536>> = Mutex::new(Pool::new(1, PLAN.last_service_v4()));
    let mut v4 = V4.lock().unwrap();
    for expected in ["10.30.255.254", "10.30.255.253"] {
        let offset = v4.allocate_top(NOW).unwrap();
        assert_eq!(PLAN.service_v4(offset).unwrap().to_string(), expected);
    }
}

#[test]
fn addresses_that_end_in_0_and_255_are_ordinary_but_network_and_broadcast_are_not() {
    for (offset, expected) in [(255, "10.30.0.255"), (256, "10.30.1.0"), (65_534, "10.30.255.254")] {
        assert_eq!(PLAN.service_v4(offset).unwrap().to_string(), expected);
    }
    assert_eq!(PLAN.service_v4(0), None);
    assert_eq!(PLAN.service_v4(65_535), None);
    assert_eq!(PLAN.service_v4(65_536), None);
}
