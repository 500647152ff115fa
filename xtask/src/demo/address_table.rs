//! The address table of the reference example: as it came out, against how it must come out.

use acorn_tests::acorn::{Instance, Service};
use acorn_tests::example;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Service S under round robin.
pub const S: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 1);
/// The same in IPv6.
pub const S_V6: Ipv6Addr = Ipv6Addr::new(0xfdff, 0x2000, 0, 0, 0, 0, 0, 1);
/// Instance IP and namespace IP of S1 and S2.
const INSTANCES: [(Ipv4Addr, Ipv4Addr); 2] = [
    (Ipv4Addr::new(10, 30, 0, 2), Ipv4Addr::new(10, 18, 30, 65)),
    (Ipv4Addr::new(10, 30, 0, 3), Ipv4Addr::new(10, 18, 30, 66)),
];

/// Fails unless the service has the round-robin addresses of the example.
///
/// # Errors
/// Names the address that differs.
pub fn check_service(service: &Service) -> Result<()> {
    let address = service.round_robin().context("service S has no round-robin address")?;
    same("the service IP of S", address.ipv4, S)?;
    same("the IPv6 service IP of S", address.ipv6, S_V6)
}

/// Fails unless both instances have the addresses of the example, on worker W.
///
/// # Errors
/// Names the address that differs.
pub fn check_instances(service: &Service) -> Result<()> {
    for (number, (instance_ip, namespace_ip)) in (1..).zip(INSTANCES) {
        let instance = instance(service, number)?;
        same(&format!("the instance IP of S{number}"), instance.instance_ip, instance_ip)?;
        let seen = instance.namespace_ip.with_context(|| format!("S{number} runs nowhere"))?;
        same(&format!("the namespace IP of S{number}"), seen, namespace_ip)?;
        let node = instance.node_name.as_deref().unwrap_or("none");
        ensure!(node == "w1", "S{number} should run on w1, but is on {node}");
        // fdff::/20 is the two blocks of instance IPs.
        let block = instance.instance_ip_v6.segments();
        ensure!(
            block[0] == 0xfdff && block[1] < 0x1000,
            "the IPv6 instance IP of S{number} should be in fdff::/20, but is {}",
            instance.instance_ip_v6
        );
    }
    Ok(())
}

/// An instance by its number.
///
/// # Errors
/// When the service does not have it.
pub fn instance(service: &Service, number: u32) -> Result<&Instance> {
    service
        .instances
        .iter()
        .find(|instance| instance.number == number)
        .with_context(|| format!("service S has no instance {number}"))
}

/// The table, for people.
pub fn lines(service: &Service) -> Vec<String> {
    let line = |what: &str, ipv4: IpAddr, ipv6: IpAddr| format!("{what:<28}{ipv4:<16}{ipv6}");
    let mut lines = vec![format!("{:<28}{}", "worker W", example::SUBNET)];
    if let Some(address) = service.round_robin() {
        lines.push(line("service S, round robin", address.ipv4.into(), address.ipv6.into()));
    }
    for instance in &service.instances {
        let name = format!("S{}", instance.number);
        lines.push(line(&format!("{name}: instance IP"), instance.instance_ip.into(), instance.instance_ip_v6.into()));
        if let (Some(ipv4), Some(ipv6)) = (instance.namespace_ip, instance.namespace_ip_v6) {
            lines.push(line(&format!("{name}: namespace IP"), ipv4.into(), ipv6.into()));
        }
    }
    lines
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, seen: T, expected: T) -> Result<()> {
    ensure!(seen == expected, "{what} should be {expected}, but is {seen}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Service {
        let instance = |number: u8| Instance {
            number: number.into(),
            instance_ip: Ipv4Addr::new(10, 30, 0, number + 1),
            instance_ip_v6: Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, number.into()),
            namespace_ip: Some(Ipv4Addr::new(10, 18, 30, 64 + number)),
            namespace_ip_v6: Some(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, number.into())),
            node_name: Some("w1".into()),
            alive: true,
        };
        let json = format!(
            r#"{{"name":"app.ns.S.ns","service_ip_list":[{{"IpType":"RR","Address":"{S}","Address_v6":"{S_V6}"}}],"instances":[]}}"#
        );
        let mut service: Service = serde_json::from_str(&json).unwrap();
        service.instances = vec![instance(1), instance(2)];
        service
    }

    #[test]
    fn the_example_passes_and_shows_every_address() {
        let service = example();
        check_service(&service).unwrap();
        check_instances(&service).unwrap();
        let table = lines(&service).join("\n");
        for text in ["10.18.30.64/26", "10.30.0.1 ", "fdff:2000::1", "10.30.0.2 ", "10.18.30.65 ", "10.18.30.66 "] {
            assert!(table.contains(text), "{text} is missing in\n{table}");
        }
    }

    #[test]
    fn one_wrong_address_fails_and_is_named() {
        let mut service = example();
        service.instances[1].namespace_ip = Some(Ipv4Addr::new(10, 18, 30, 67));
        let error = check_instances(&service).unwrap_err().to_string();
        assert_eq!(error, "the namespace IP of S2 should be 10.18.30.66, but is 10.18.30.67");
        service.instances.pop();
        assert!(check_instances(&service).unwrap_err().to_string().contains("no instance 2"));
    }
}
