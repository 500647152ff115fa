//! Says where a configuration is wrong and what to write instead.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What each key takes. The one place that says it to the person who got it wrong.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("daemon.state", "a directory, like \"/var/lib/acorn\""),
    ("daemon.socket", "the path of a unix socket, like \"/run/acorn/acorn.sock\""),
    ("daemon.listen", "an address with a port, like \"0.0.0.0:50103\" or \"[::]:50103\""),
    ("daemon.advertise", "the address and port that other machines send to, like \"198.51.100.7:50103\""),
    ("daemon.log", "a level (error, warn, info, debug, trace) or a filter, like \"info,acorn::api=debug\""),
    ("root.lease_s", "a whole number of seconds from 1 to 86400, like 10"),
    ("root.quarantine_s", "a whole number of seconds from 1 to 86400, like 60"),
    ("root.retention_s", "a whole number of seconds, not shorter than lease_s and at most 31536000, like 86400"),
    ("root.store", "servers of etcd and a prefix, like \"etcd://10.0.0.1:2379,10.0.0.2:2379/acorn\""),
    ("cluster.name", "a name of letters, digits and hyphens, like \"cluster-1\""),
    ("cluster.token", "a join token from `acorn token create --cluster`; use either token or token_file"),
    ("cluster.token_file", "the path of a file with a join token; use either token or token_file"),
    ("node.name", "a name of letters, digits and hyphens, like \"edge-1\""),
    ("node.tun", "the name of an interface, at most 15 characters, like \"acorn0\""),
    ("node.subnet", "a /26 of the worker pool, like \"10.18.30.64/26\""),
    ("node.token", "a join token from `acorn token create`; use either token or token_file"),
    ("node.token_file", "the path of a file with a join token; use either token or token_file"),
    ("node.underlay_mtu", "a number of bytes from 576 to 65535, like 1500"),
    ("node.veth_prefix", "at most 12 letters, not ending in a digit, like \"acv\""),
    ("plan.workers", "an IPv4 pool away from the services, like \"10.18.0.0/16\" or \"10.18.0.0-10.29.255.255\""),
    (
        "plan.workers_v6",
        "an IPv6 pool away from the services and fdfe::/16, like \"fc00::/8\" or \"fc00::-fdfd:ffff:ffff:ffff:ffff:ffff:ffff:ffff\"",
    ),
    ("plan.services", "an IPv4 network away from the workers, like \"10.30.0.0/16\""),
    ("plan.services_v6", "an IPv6 network away from the workers and fdfe::/16, like \"fdff::/16\""),
];

/// A mistake in the configuration: where it is, what is wrong, what to do.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    place: Place,
    problem: String,
    help: Option<String>,
}

#[derive(Debug)]
enum Place {
    /// A whole file.
    File(String),
    /// A piece of a file; lines and columns count from 1, columns in characters.
    Span { file: String, line: usize, column: usize, source: String, width: usize },
    /// A flag of the command line.
    Flag(&'static str),
}

impl ConfigError {
    pub(super) fn unreadable(path: &Path, error: &io::Error) -> Self {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::PermissionDenied => "run as a user who may read it",
            _ => "it has to be a readable text file",
        };
        let problem = format!("can't be read: {error}");
        Self { place: Place::File(path.display().to_string()), problem, help: Some(help.to_owned()) }
    }

    pub(super) fn in_file(path: &Path, problem: &dyn fmt::Display) -> Self {
        Self { place: Place::File(path.display().to_string()), problem: problem.to_string(), help: None }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(file) => write!(f, "{file}: {}", self.problem)?,
            Place::Flag(flag) => write!(f, "{flag}: {}", self.problem)?,
            Place::Span { file, line, column, source, width } => {
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                let indent = " ".repeat(column - 1);
                write!(f, "{file}:{line}:{column}: {}", self.problem)?;
                write!(f, "\n {number} | {source}\n {gutter} | {indent}{}", "^".repeat(*width))?;
            }
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// A broken rule, before it is known where the value came from.
#[derive(Debug)]
pub(super) struct Violation {
    keys: Vec<&'static str>,
    problem: String,
}

impl Violation {
    /// `keys` are those that could be changed to keep the rule; the first one that was written down is blamed.
    pub(super) fn new(keys: &[&'static str], problem: impl Into<String>) -> Self {
        Self { keys: keys.to_vec(), problem: problem.into() }
    }
}

/// A configuration file as it was read.
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Document<'_> {
    /// The error of a text that is not TOML or does not fit the types.
    pub(super) fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let problem = error.message().trim_end().replace('\n', ", ");
        let Some(span) = error.span() else { return ConfigError::in_file(self.path, &problem) };
        let help = self.key_at(span.start).and_then(|key| help_for(&key));
        ConfigError { place: self.place(span), problem, help }
    }

    /// The error of a broken rule; `flag_for` gives the flag that set a key, if one did.
    pub(super) fn violation(
        &self,
        violation: Violation,
        flag_for: impl Fn(&str) -> Option<&'static str>,
    ) -> ConfigError {
        let Violation { keys, problem } = violation;
        if let Some((key, flag)) = keys.iter().find_map(|key| flag_for(key).map(|flag| (key, flag))) {
            return ConfigError { place: Place::Flag(flag), problem, help: help_for(key) };
        }
        let values = self.values();
        let written =
            |key: &&'static str| values.iter().find(|(name, ..)| name == key).map(|(.., value)| value.clone());
        let Some((key, span)) = keys.iter().find_map(|key| written(key).map(|value| (key, value))) else {
            return ConfigError::in_file(self.path, &problem);
        };
        ConfigError { place: self.place(span), problem, help: help_for(key) }
    }

    /// The key whose name or value is at `offset`.
    fn key_at(&self, offset: usize) -> Option<String> {
        let values = self.values();
        values
            .into_iter()
            .find(|(_, name, value)| name.contains(&offset) || value.contains(&offset))
            .map(|(key, ..)| key)
    }

    /// All values below a section: `section.key`, where the key is and where the value is.
    fn values(&self) -> Vec<(String, Range<usize>, Range<usize>)> {
        let Ok(root) = DeTable::parse(self.text) else { return Vec::new() };
        let mut found = Vec::new();
        for (section, body) in root.get_ref() {
            let DeValue::Table(body) = body.get_ref() else { continue };
            for (key, value) in body {
                found.push((format!("{}.{}", section.get_ref(), key.get_ref()), key.span(), Spanned::span(value)));
            }
        }
        found
    }

    fn place(&self, span: Range<usize>) -> Place {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let source = self.text[line_start..].lines().next().unwrap_or_default();
        let column = before[line_start..].chars().count() + 1;
        let rest = source.chars().count().saturating_sub(column - 1);
        Place::Span {
            file: self.path.display().to_string(),
            line: before.matches('\n').count() + 1,
            column,
            source: without_secret(source),
            width: self.text[start..end].chars().count().min(rest).max(1),
        }
    }
}

/// The line as it may be shown, up to a join token: that ends up in no log. However the key is spelled: bare, quoted,
/// dotted or in an inline table.
fn without_secret(source: &str) -> String {
    let assigned = |at: usize| source[at..].trim_start_matches([' ', '\t', '"', '\'']).starts_with('=');
    match source.match_indices("token").map(|(at, key)| at + key.len()).find(|end| assigned(*end)) {
        Some(end) => format!("{} = <hidden>", &source[..end]),
        None => source.to_owned(),
    }
}

fn help_for(key: &str) -> Option<String> {
    KEYS.iter().find(|(name, _)| *name == key).map(|(name, takes)| format!("{name} is {takes}"))
}
