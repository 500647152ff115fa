//! The kernel's tables as `ip` shows them, independent of what is tested.

use std::process::Command;

use serde_json::Value;

use crate::stage::Container;

pub fn ip(arguments: &str) -> Value {
    ip_in(arguments, None)
}

pub fn ip_in(arguments: &str, inside: Option<&Container>) -> Value {
    let output = run_ip(&format!("-j {arguments}"), inside);
    serde_json::from_str(&output).unwrap_or_else(|_| Value::Array(Vec::new()))
}

pub fn ip_do(arguments: &str, inside: Option<&Container>) {
    run_ip(arguments, inside);
}

fn run_ip(arguments: &str, inside: Option<&Container>) -> String {
    let mut command = match inside {
        None => Command::new("ip"),
        Some(container) => {
            let mut enter = Command::new("nsenter");
            enter.arg(format!("--net=/proc/{}/ns/net", container.pid())).arg("ip");
            enter
        }
    };
    let output = command.args(arguments.split(' ')).output().expect("ip and nsenter run");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Traffic control on the host. The arguments may have quotes.
pub fn tc_do(arguments: &str) {
    let output = Command::new("sh").args(["-c", &format!("tc {arguments}")]).output().expect("sh runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {arguments}: {complaint}");
}

pub fn links(inside: Option<&Container>) -> Vec<String> {
    names(&ip_in("link", inside), |link| text(&link["ifname"]))
}

pub fn addresses(interface: &str, inside: Option<&Container>) -> Vec<String> {
    let link = &ip_in(&format!("addr show {interface}"), inside)[0];
    names(&link["addr_info"], |address| format!("{}/{}", text(&address["local"]), address["prefixlen"]))
}

/// The main table, sorted, in the words of `ip route`.
pub fn routes(family: &str, inside: Option<&Container>) -> Vec<String> {
    let listed = ip_in(format!("{family} route").trim_start(), inside);
    let mut routes = names(&listed, |route| {
        let mut line = match text(&route["type"]) {
            kind if kind.is_empty() => text(&route["dst"]),
            kind => format!("{kind} {}", text(&route["dst"])),
        };
        for (word, key) in [("dev", "dev"), ("via", "gateway"), ("src", "prefsrc")] {
            if let Some(value) = route[key].as_str() {
                line = format!("{line} {word} {value}");
            }
        }
        line
    });
    routes.sort();
    routes
}

pub fn neighbours(interface: &str, inside: Option<&Container>) -> Vec<String> {
    let listed = ip_in(&format!("neigh show dev {interface} nud all"), inside);
    let mut neighbours = names(&listed, |entry| {
        format!("{} {} {}", text(&entry["dst"]), text(&entry["lladdr"]), text(&entry["state"][0]))
    });
    neighbours.retain(|entry| !entry.contains("NOARP"));
    neighbours.sort();
    neighbours
}

pub fn mac_of(interface: &str, inside: Option<&Container>) -> String {
    text(&ip_in(&format!("link show {interface}"), inside)[0]["address"])
}

/// Everything there is, as text that two moments can be compared by.
pub fn snapshot(inside: Option<&Container>) -> String {
    let views = ["addr", "route show table all", "-6 route show table all", "neigh show nud permanent"];
    views
        .map(|view| {
            let mut lines: Vec<_> = names(&ip_in(view, inside), Value::to_string);
            lines.sort();
            lines.join("\n")
        })
        .join("\n\n")
}

fn names(list: &Value, name: impl Fn(&Value) -> String) -> Vec<String> {
    list.as_array().into_iter().flatten().map(name).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn get_sysctl(key: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap().trim().to_owned()
}

pub fn set_sysctl(key: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{key}"), value).unwrap();
}
