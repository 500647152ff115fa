//! Debian packages that the commands need: installed when missing and possible, named in one line otherwise.

use crate::workspace;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// Something that a package brings.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The package.
    pub package: &'static str,
    /// A program's name, or the absolute path of a file.
    pub brings: &'static str,
}

/// What the demo runs.
pub const DEMO: [Need; 4] = [
    Need { package: "iproute2", brings: "ip" },
    Need { package: "iputils-ping", brings: "ping" },
    Need { package: "util-linux", brings: "nsenter" },
    Need { package: "tcpdump", brings: "tcpdump" },
];

/// What is needed to build the daemon: its client of etcd is generated.
pub const BUILD: [Need; 1] = [Need { package: "protobuf-compiler", brings: "protoc" }];

/// What the tests run besides.
pub const TESTS: [Need; 3] = [
    Need { package: "curl", brings: "curl" },
    Need { package: "etcd-server", brings: "etcd" },
    Need { package: "nftables", brings: "nft" },
];

/// What emulates a board.
pub const EMULATOR: [Need; 1] = [Need { package: "qemu-system-arm", brings: "qemu-system-arm" }];

/// Makes sure that all of them are there.
///
/// # Errors
/// When packages are missing and can't be installed; the text names them and the command that installs them.
pub fn require(needs: &[Need]) -> Result<()> {
    let missing = missing(needs);
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() || !workspace::has_program("apt-get") {
        bail!("missing Debian packages: {list}. Install them with `sudo apt-get install {list}`");
    }
    println!("Installing the Debian packages {list}.");
    update()?;
    let Err(error) = install(&missing) else { return Ok(()) };
    let in_the_way = IN_THE_WAY.iter().filter(|(package, _)| missing.contains(package)).map(|(_, other)| *other);
    let without: Vec<&str> = missing.iter().copied().chain(in_the_way).collect();
    if without.len() == missing.len() { Err(error) } else { install(&without) }
}

/// Packages that apt refuses as long as another one, which goes by this name and a minus sign, is there in a version of its own.
const IN_THE_WAY: [(&str, &str); 1] = [("qemu-system-arm", "qemu-utils-")];

fn install(packages: &[&str]) -> Result<()> {
    quietly(apt_get().args(["install", "--no-install-recommends"]).args(packages))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let there = |need: &&Need| {
        if need.brings.starts_with('/') { Path::new(need.brings).exists() } else { workspace::has_program(need.brings) }
    };
    needs.iter().filter(|need| !there(need)).map(|need| need.package).collect()
}

/// Fetches the package lists, once per run.
fn update() -> Result<()> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.get().is_none() {
        quietly(apt_get().arg("update"))?;
        UPDATED.get_or_init(|| ());
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--yes").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Runs a command to its end and shows what it wrote only if it fails.
fn quietly(command: &mut Command) -> Result<()> {
    let output = command.output().context("apt-get can't be started")?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`apt-get {}` failed ({}):\n{}", words.join(" "), output.status, said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        let needs = [
            Need { package: "dash", brings: "sh" },
            Need { package: "no-such-program", brings: "acorn-no-such-program" },
            Need { package: "base-files", brings: "/etc" },
            Need { package: "no-such-file", brings: "/acorn/no/such/file" },
        ];
        assert_eq!(missing(&needs), ["no-such-program", "no-such-file"]);
    }
}
