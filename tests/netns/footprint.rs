//! Everything that a daemon could leave behind in a network namespace.

use crate::stage::until;
use acorn_tests::world::Namespace;

/// The interfaces, addresses, routes, rules, neighbours and forwarding switches of a namespace.
#[derive(Debug, PartialEq)]
pub struct Footprint(Vec<String>);

/// What shows them.
const COMMANDS: [&[&str]; 7] = [
    &["ip", "-brief", "link"],
    &["ip", "-brief", "address"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "rule"],
    &["ip", "neighbour", "show", "nud", "permanent"],
    &["sh", "-c", "grep -H . /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/ipv6/conf/*/forwarding"],
];

impl Footprint {
    /// How it looks now.
    pub fn of(namespace: &Namespace) -> Footprint {
        // A link-local address has no route yet while its uniqueness is tested (RFC 4862 section 5.4).
        until(&format!("the addresses of {} to be settled", namespace.name()), || {
            let tentative = namespace.run(["ip", "-6", "address", "show", "tentative"]).unwrap();
            if tentative.is_empty() { Ok(()) } else { Err(tentative) }
        });
        let lines = COMMANDS.iter().flat_map(|&line| {
            let text = namespace.run(line).unwrap();
            text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
        });
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        Footprint(lines)
    }

    /// Waits until it looks so again.
    pub fn wait_for(&self, namespace: &Namespace) {
        until(&format!("{} to look as before", namespace.name()), || {
            let difference = self.difference(&Footprint::of(namespace));
            if difference.is_empty() { Ok(()) } else { Err(difference.join("\n")) }
        });
    }

    /// Fails when it looks different now.
    #[track_caller]
    pub fn assert_same(&self, namespace: &Namespace) {
        let difference = self.difference(&Footprint::of(namespace));
        assert!(difference.is_empty(), "{}:\n{}", namespace.name(), difference.join("\n"));
    }

    fn difference(&self, later: &Footprint) -> Vec<String> {
        let only_in = |ours: &Footprint, theirs: &Footprint, sign: char| -> Vec<String> {
            let lines = ours.0.iter().filter(|line| !theirs.0.contains(line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        [only_in(self, later, '-'), only_in(later, self, '+')].concat()
    }
}
