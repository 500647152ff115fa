//! What the answers of the API look like to people.

use std::fmt::{Display, Write};

use super::text_table::TextTable;
use crate::api::types::{Attached, Drops, Instance, Nodes, Service, ServiceIp, Services, Status, Table, Tokens};

/// What stands for a value that there is not.
const NOTHING: &str = "-";

/// An answer that can be printed for people. The text ends with a line end.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Show for Status {
    fn show(&self) -> String {
        let mut facts = TextTable::new(["", ""]);
        let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
        fact("version", self.version.clone());
        fact("roles", self.roles.join(", "));
        fact("name", self.name.clone());
        fact("key", self.node_key.clone());
        fact("up since", format!("{} ago", duration(self.uptime_s)));
        fact("listens on", or_nothing(self.listen));
        fact("subnet", or_nothing(self.subnet));
        fact("subnet IPv6", or_nothing(self.subnet_v6));
        fact("services", self.services.to_string());
        fact("flows", self.flows.to_string());
        // The heading of the facts is an empty line.
        let mut text = facts.to_string().trim_start().to_owned();

        if !self.managers.is_empty() {
            let mut table = TextTable::new(["MANAGER", "ENDPOINT", "STATE"]);
            for manager in &self.managers {
                let state = if manager.connected { "connected" } else { "silent" };
                table.row([manager.key.clone(), or_nothing(manager.endpoint), state.to_owned()]);
            }
            section(&mut text, &table);
        }
        if !self.peers.is_empty() {
            let mut table = TextTable::new(["PEER", "KEY", "ENDPOINT", "HANDSHAKE", "#AGE", "#RECEIVED", "#SENT"]);
            for peer in &self.peers {
                table.row([
                    or_nothing(peer.name.as_ref()),
                    peer.key.clone(),
                    or_nothing(peer.endpoint),
                    peer.handshake.to_string(),
                    or_nothing(peer.handshake_age_s.map(duration)),
                    bytes(peer.rx_bytes),
                    bytes(peer.tx_bytes),
                ]);
            }
            section(&mut text, &table);
        }
        if !self.counters.is_empty() {
            let mut table = TextTable::new(["COUNTER", "#VALUE"]);
            for (name, value) in &self.counters {
                table.row([name.clone(), value.to_string()]);
            }
            section(&mut text, &table);
        }
        text
    }
}

impl Show for Table {
    fn show(&self) -> String {
        if self.services.is_empty() {
            return "this node knows no service yet; it learns one when an instance here is attached or dials it\n"
                .to_owned();
        }
        let mut services = TextTable::new(["SERVICE", "INSTANCES", "POLICY", "SERVICE IP", "SERVICE IPv6"]);
        for service in &self.services {
            for ip in &service.service_ip_list {
                let [policy, v4, v6] = service_ip(ip);
                let held = if service.complete { "all" } else { "talking here" };
                services.row([service.name.clone(), held.to_owned(), policy, v4, v6]);
            }
        }
        let mut text = services.to_string();
        let instances = self.services.iter().flat_map(|s| s.instances.iter().map(|i| (s.name.as_str(), i)));
        section(&mut text, &instance_table(instances));
        text
    }
}

impl Show for Drops {
    fn show(&self) -> String {
        let mut table = TextTable::new(["REASON", "#PACKETS", "MEANING"]);
        for drop in &self.drops {
            table.row([drop.reason.clone(), drop.count.to_string(), drop.meaning.clone()]);
        }
        table.to_string()
    }
}

impl Show for Nodes {
    fn show(&self) -> String {
        if self.nodes.is_empty() {
            return "no node has joined yet; make a token with `acorn token create` and start one with `acorn node`\n"
                .to_owned();
        }
        let headings = [
            "NAME",
            "ROLE",
            "CLUSTER",
            "SUBNET",
            "SUBNET IPv6",
            "ENDPOINT",
            "#INSTANCES",
            "STATE",
            "LAST HEARD",
            "KEY",
        ];
        let mut table = TextTable::new(headings);
        for node in &self.nodes {
            table.row([
                node.name.clone(),
                node.role.clone(),
                or_nothing(node.cluster.as_ref()),
                or_nothing(node.subnet),
                or_nothing(node.subnet_v6),
                or_nothing(node.endpoint),
                node.instances.to_string(),
                state(node.alive),
                or_nothing(node.last_seen_s.map(|s| format!("{} ago", duration(s)))),
                node.key.clone(),
            ]);
        }
        table.to_string()
    }
}

impl Show for Tokens {
    fn show(&self) -> String {
        self.tokens.iter().map(|token| format!("{token}\n")).collect()
    }
}

impl Show for Services {
    fn show(&self) -> String {
        if self.services.is_empty() {
            return "no services yet; create one with `acorn service create --name app.ns.service.ns`\n".to_owned();
        }
        let mut table = TextTable::new(["SERVICE", "POLICY", "SERVICE IP", "SERVICE IPv6", "#INSTANCES", "#UP"]);
        for service in &self.services {
            let up = service.instances.iter().filter(|instance| instance.alive).count();
            for ip in &service.service_ip_list {
                let [policy, v4, v6] = service_ip(ip);
                let name = service.name.clone();
                table.row([name, policy, v4, v6, service.instances.len().to_string(), up.to_string()]);
            }
        }
        table.to_string()
    }
}

impl Show for Service {
    fn show(&self) -> String {
        let mut ips = TextTable::new(["SERVICE", "POLICY", "SERVICE IP", "SERVICE IPv6"]);
        for ip in &self.service_ip_list {
            let [policy, v4, v6] = service_ip(ip);
            ips.row([self.name.clone(), policy, v4, v6]);
        }
        let mut text = ips.to_string();
        if self.instances.is_empty() {
            let _ =
                writeln!(text, "\nno instances yet; attach one with `acorn instance attach --service {}`", self.name);
        } else {
            section(&mut text, &instance_table(self.instances.iter().map(|instance| (self.name.as_str(), instance))));
        }
        text
    }
}

impl Show for Attached {
    fn show(&self) -> String {
        let mut table =
            TextTable::new(["SERVICE", "#NUMBER", "INSTANCE IP", "INSTANCE IPv6", "NAMESPACE IP", "NAMESPACE IPv6"]);
        table.row([
            self.service.clone(),
            self.number.to_string(),
            self.instance_ip.to_string(),
            self.instance_ip_v6.to_string(),
            self.namespace_ip.to_string(),
            self.namespace_ip_v6.to_string(),
        ]);
        table.to_string()
    }
}

fn instance_table<'a>(instances: impl Iterator<Item = (&'a str, &'a Instance)>) -> TextTable<11> {
    let mut table = TextTable::new([
        "SERVICE",
        "#NUMBER",
        "INSTANCE IP",
        "INSTANCE IPv6",
        "NAMESPACE IP",
        "NAMESPACE IPv6",
        "NODE",
        "#WEIGHT",
        "#PRIO",
        "#LOAD",
        "STATE",
    ]);
    for (service, instance) in instances {
        table.row([
            service.to_owned(),
            instance.number.to_string(),
            instance.instance_ip.to_string(),
            instance.instance_ip_v6.to_string(),
            or_nothing(instance.namespace_ip),
            or_nothing(instance.namespace_ip_v6),
            or_nothing(instance.node_name.as_ref().or(instance.node.as_ref())),
            instance.weight.to_string(),
            instance.priority.to_string(),
            instance.load.to_string(),
            if instance.alive && instance.draining { "draining".to_owned() } else { state(instance.alive) },
        ]);
    }
    table
}

fn service_ip(ip: &ServiceIp) -> [String; 3] {
    [ip.ip_type.clone(), ip.address.to_string(), ip.address_v6.to_string()]
}

fn section<const N: usize>(text: &mut String, table: &TextTable<N>) {
    let _ = write!(text, "\n{table}");
}

fn or_nothing(value: Option<impl Display>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

fn state(alive: bool) -> String {
    if alive { "up" } else { "down" }.to_owned()
}

/// Seconds in the two largest units that they fill.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Bytes in the largest binary unit that they fill, with one decimal.
fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = (count.checked_ilog2().unwrap_or(0) / 10) as usize;
    if unit == 0 {
        return format!("{count} B");
    }
    let tenths = (u128::from(count) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Drop, HandshakeState, ManagerStatus, Node, PeerStatus, TableService};

    fn reference_instances() -> Vec<Instance> {
        let instance = |number: u32, alive: bool| Instance {
            number,
            instance_ip: format!("10.30.0.{}", number + 2).parse().unwrap(),
            instance_ip_v6: format!("fdff::{}", number + 1).parse().unwrap(),
            namespace_ip: alive.then(|| format!("10.18.30.{}", number + 65).parse().unwrap()),
            namespace_ip_v6: alive.then(|| format!("fc00::{}", number + 1).parse().unwrap()),
            node: alive.then(|| "a2V5".to_owned()),
            node_name: alive.then(|| "edge-1".to_owned()),
            alive,
            weight: if alive { 3 } else { 1 },
            priority: number as u16,
            load: if alive { 250 } else { 0 },
            draining: false,
        };
        let draining = Instance { draining: true, ..instance(2, true) };
        vec![instance(0, true), instance(1, false), draining]
    }

    fn reference_ips() -> Vec<ServiceIp> {
        let (address, address_v6) = ("10.30.0.1".parse().unwrap(), "fdff:2000::1".parse().unwrap());
        vec![ServiceIp { ip_type: "RR".to_owned(), address, address_v6 }]
    }

    fn reference_service() -> Service {
        let name = "app.ns.s.ns".to_owned();
        Service { name, service_ip_list: reference_ips(), instances: reference_instances() }
    }

    #[test]
    fn a_service_shows_its_addresses_and_instances() {
        assert_eq!(
            reference_service().show(),
            "\
SERVICE      POLICY  SERVICE IP  SERVICE IPv6
app.ns.s.ns  RR      10.30.0.1   fdff:2000::1

SERVICE      NUMBER  INSTANCE IP  INSTANCE IPv6  NAMESPACE IP  NAMESPACE IPv6  NODE    WEIGHT  PRIO  LOAD  STATE
app.ns.s.ns       0  10.30.0.2    fdff::1        10.18.30.65   fc00::1         edge-1       3     0   250  up
app.ns.s.ns       1  10.30.0.3    fdff::2        -             -               -            1     1     0  down
app.ns.s.ns       2  10.30.0.4    fdff::3        10.18.30.67   fc00::3         edge-1       3     2   250  draining
"
        );
        let empty = Service { instances: Vec::new(), ..reference_service() };
        assert!(empty.show().contains("acorn instance attach --service app.ns.s.ns"));
    }

    #[test]
    fn a_list_of_services_counts_instances() {
        assert_eq!(
            Services { services: vec![reference_service()] }.show(),
            "\
SERVICE      POLICY  SERVICE IP  SERVICE IPv6  INSTANCES  UP
app.ns.s.ns  RR      10.30.0.1   fdff:2000::1          3   2
"
        );
        assert!(Services::default().show().contains("acorn service create"));
    }

    #[test]
    fn every_address_of_a_service_has_a_line_with_its_policy_in_the_order_that_the_root_gives() {
        let (address, address_v6) = ("10.30.0.4".parse().unwrap(), "fdff:1000::1".parse().unwrap());
        let closest = ServiceIp { ip_type: "Closest".to_owned(), address, address_v6 };
        let mut service = reference_service();
        service.service_ip_list.push(closest);
        let lines =
            ["app.ns.s.ns  RR       10.30.0.1   fdff:2000::1", "app.ns.s.ns  Closest  10.30.0.4   fdff:1000::1"];
        let shown = service.show();
        assert_eq!(shown.lines().skip(1).take(2).collect::<Vec<_>>(), lines);
        let listed = Services { services: vec![service] }.show();
        for (line, expected) in listed.lines().skip(1).zip(lines) {
            assert!(line.starts_with(expected), "{line}");
        }
        assert_eq!(listed.lines().count(), 3);
    }

    #[test]
    fn a_table_shows_services_and_instances() {
        let service = TableService {
            name: "app.ns.s.ns".to_owned(),
            complete: true,
            service_ip_list: reference_ips(),
            instances: reference_instances(),
        };
        let text = Table { services: vec![service] }.show();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "app.ns.s.ns  all        RR      10.30.0.1   fdff:2000::1");
        assert_eq!(lines.len(), 7, "{text}");
        assert!(Table::default().show().contains("no service yet"));
    }

    #[test]
    fn nodes_are_listed() {
        let node = Node {
            name: "edge-1".to_owned(),
            role: "node".to_owned(),
            cluster: Some("site-7".to_owned()),
            key: "a2V5".to_owned(),
            subnet: Some("10.18.30.64/26".parse().unwrap()),
            subnet_v6: Some("fc00::/120".parse().unwrap()),
            endpoint: Some("192.0.2.1:50103".parse().unwrap()),
            alive: true,
            last_seen_s: Some(61),
            instances: 2,
        };
        assert_eq!(
            Nodes { nodes: vec![node] }.show(),
            "\
NAME    ROLE  CLUSTER  SUBNET          SUBNET IPv6  ENDPOINT         INSTANCES  STATE  LAST HEARD     KEY
edge-1  node  site-7   10.18.30.64/26  fc00::/120   192.0.2.1:50103          2  up     1 min 1 s ago  a2V5
"
        );
        assert!(Nodes::default().show().contains("acorn token create"));
    }

    #[test]
    fn a_status_has_a_section_for_each_thing() {
        let status = Status {
            version: "0.1.0".to_owned(),
            roles: vec!["root".to_owned(), "node".to_owned()],
            uptime_s: 3661,
            name: "edge-1".to_owned(),
            managers: vec![ManagerStatus { key: "bQ==".to_owned(), endpoint: None, connected: true }],
            peers: vec![PeerStatus {
                key: "cA==".to_owned(),
                name: Some("edge-2".to_owned()),
                endpoint: Some("192.0.2.2:50103".parse().unwrap()),
                handshake: HandshakeState::Established,
                handshake_age_s: Some(5),
                rx_bytes: 1536,
                tx_bytes: 12,
            }],
            counters: [("tun_rx_packets".to_owned(), 7)].into(),
            ..Status::default()
        };
        let text = status.show();
        assert!(text.starts_with("version      0.1.0\nroles        root, node\n"), "{text}");
        assert!(text.contains("\nup since     1 h 1 min ago\n"), "{text}");
        assert!(text.contains("\nMANAGER  ENDPOINT  STATE\nbQ==     -         connected\n"), "{text}");
        assert!(text.contains("edge-2  cA==  192.0.2.2:50103  established  5 s   1.5 KiB  12 B\n"), "{text}");
        assert!(text.ends_with("\nCOUNTER         VALUE\ntun_rx_packets      7\n"), "{text}");
    }

    #[test]
    fn drops_say_what_they_mean() {
        let drop = Drop { reason: "malformed".to_owned(), count: 7, meaning: "Not an IP packet.".to_owned() };
        let text = "REASON     PACKETS  MEANING\nmalformed        7  Not an IP packet.\n";
        assert_eq!(Drops { drops: vec![drop] }.show(), text);
    }

    #[test]
    fn tokens_are_lines() {
        let tokens = Tokens { tokens: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(tokens.show(), "a\nb\n");
    }

    #[test]
    fn durations_and_sizes_are_short() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
            (863_999, "9 d 23 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1023.9 KiB"), (u64::MAX, "15.9 EiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
