//! The host's own network, to see that it is the same after the demo as before.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// Everything that the demo might have changed by mistake.
#[derive(PartialEq)]
pub struct HostNetwork {
    lines: Vec<String>,
}

impl HostNetwork {
    /// Looks at interfaces, addresses, routes, rules, named namespaces and forwarding.
    ///
    /// # Errors
    /// When `ip` is missing.
    pub fn look() -> Result<HostNetwork> {
        let mut lines = Vec::new();
        for arguments in [
            &["-brief", "link"][..],
            &["-brief", "address"],
            &["-4", "route", "show", "table", "all"],
            &["-6", "route", "show", "table", "all"],
            &["rule"],
            &["netns", "list"],
        ] {
            let output = Command::new("ip").args(arguments).output().context("`ip` can't be started")?;
            lines.extend(String::from_utf8_lossy(&output.stdout).lines().map(without_countdown));
        }
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
            // A host without IPv6 has no such file, before and after.
            lines.push(format!("{path} {}", std::fs::read_to_string(&path).unwrap_or_default().trim()));
        }
        lines.sort();
        Ok(HostNetwork { lines })
    }

    /// Fails when something differs, and names it.
    ///
    /// # Errors
    /// One line per difference.
    pub fn compare(&self, later: &HostNetwork) -> Result<()> {
        let only_in = |ours: &HostNetwork, theirs: &HostNetwork, sign: char| -> Vec<String> {
            ours.lines.iter().filter(|line| !theirs.lines.contains(line)).map(|line| format!("{sign} {line}")).collect()
        };
        let difference = [only_in(self, later, '-'), only_in(later, self, '+')].concat();
        if difference.is_empty() {
            return Ok(());
        }
        bail!("the host's network differs:\n{}", difference.join("\n"))
    }

    /// How many facts were compared.
    pub fn len(&self) -> usize {
        self.lines.len()
    }
}

/// A learned route's remaining lifetime goes down by itself.
fn without_countdown(line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "expires" {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_countdown_is_no_difference_and_a_new_link_is() {
        assert_eq!(
            without_countdown("default via fe80::1 expires 1796sec pref medium"),
            "default via fe80::1 pref medium"
        );
        let host = |lines: &[&str]| HostNetwork { lines: lines.iter().map(|line| (*line).to_owned()).collect() };
        assert!(host(&["lo", "eth0"]).compare(&host(&["lo", "eth0"])).is_ok());
        let error = host(&["lo", "eth0"]).compare(&host(&["lo", "acorn0"])).unwrap_err().to_string();
        assert!(error.contains("- eth0") && error.contains("+ acorn0"), "{error}");
    }
}
