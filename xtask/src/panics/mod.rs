//! `cargo xtask panics`: whether the data path of the optimized core contains code that can panic.
//!
//! The proof is the compiler's: what it can't rule out is still there after optimization. `acorn-panics` has each way in under
//! a name of its own; all calls from there are followed through the library's relocations, down to the panic handler.

mod calls;
mod source;

use crate::debian::{self, Need};
use crate::workspace;
use anyhow::{Context, Result, bail};
use calls::{Calls, Site};
use std::fs;

const BINUTILS: Need = Need { package: "binutils", brings: "addr2line" };
const LIBRARY: &str = "panics/libacorn_panics.a";

/// The ways in. The names are those of `acorn-panics`.
const ENTRIES: [&str; 12] = [
    "board_tun",
    "board_packet",
    "board_message",
    "board_timeout",
    "board_output",
    "server_tun",
    "server_packet",
    "server_message",
    "server_timeout",
    "server_output",
    "policies",
    "provisioning",
];

/// The function that can panic, which proves that the search finds one.
const CANARY: &str = "canary";

/// Builds the data path and searches it.
///
/// # Errors
/// When it can't be built or read, or code that can panic is reached from a way in that has none.
pub fn run() -> Result<()> {
    debian::require(&[BINUTILS])?;
    let mut build = workspace::cargo();
    workspace::run(build.args(["build", "--package", "acorn-panics", "--profile", "panics", "--locked", "--quiet"]))?;
    let library = workspace::target().join(LIBRARY);
    let bytes = fs::read(&library).with_context(|| format!("{} can't be read", library.display()))?;
    let object = calls::member_with(&bytes, CANARY)?;
    let calls = Calls::read(object)?;
    let lines = source::Lines::of(object)?;
    if calls.sites(CANARY)?.is_empty() {
        bail!("the search does not find the panic that is there to be found: it would not find others either");
    }
    let mut bad = Vec::new();
    for entry in ENTRIES {
        let sites = calls.sites(entry)?;
        println!("{entry:<16} {:>4} functions, {}", calls.functions_from(entry)?, places(sites.len()));
        sites.iter().for_each(|site| show(site, &lines));
        if !sites.is_empty() {
            bad.push(entry);
        }
    }
    if !bad.is_empty() {
        bail!(
            "code that can panic is reached from {}: write it so that the compiler sees that it can't",
            bad.join(", ")
        );
    }
    Ok(())
}

/// Prints where it is.
fn show(site: &Site, lines: &source::Lines) {
    println!("    {}", site.path.join(" > "));
    lines.at(&site.section, site.offset).iter().for_each(|line| println!("        {line}"));
}

fn places(count: usize) -> String {
    match count {
        0 => "no code that can panic".to_owned(),
        1 => "1 place that can panic:".to_owned(),
        _ => format!("{count} places that can panic:"),
    }
}
