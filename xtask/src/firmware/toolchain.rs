//! The compiler for a bare-metal target: rustup's where it has the target, else Debian's, whose packages bring the sources of the
//! standard library.

use crate::debian::{self, Need};
use crate::workspace;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Debian's own toolchain with the sources of the standard library, for machines where rustup has no target installed.
const PACKAGES: [Need; 4] = [
    Need { package: "rustc-web", brings: RUSTC },
    Need { package: "cargo-web", brings: CARGO },
    Need { package: "rust-web-src", brings: "/usr/lib/rustlib/src" },
    Need { package: "lld-22", brings: LINKER },
];
const RUSTC: &str = "/usr/bin/rustc";
const RUSTDOC: &str = "/usr/bin/rustdoc";
const CARGO: &str = "/usr/bin/cargo";
const LINKER: &str = "/usr/bin/ld.lld-22";

/// Who builds for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toolchain {
    /// The one that this program was built with.
    Rustup,
    /// `rustc-web` and its companions.
    Debian,
}

impl Toolchain {
    /// The one for a target; Debian's is installed if need be.
    ///
    /// # Errors
    /// When neither is there and Debian's can't be installed.
    pub fn for_target(target: &str) -> Result<Self> {
        if rustup_has(target) {
            return Ok(Self::Rustup);
        }
        debian::require(&PACKAGES)
            .with_context(|| format!("`rustup target add {target}` would serve as well, where rustup has a network"))?;
        Ok(Self::Debian)
    }

    /// Its cargo, to build for a target, in the firmware's workspace, whose configuration counts only there.
    pub fn cargo(self, target: &str) -> Command {
        let mut cargo = match self {
            Self::Rustup => workspace::cargo(),
            Self::Debian => debian_cargo(target),
        };
        cargo.current_dir(home());
        cargo
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustup => "rustup's toolchain",
            Self::Debian => "Debian's toolchain",
        }
    }

    /// The version of its compiler.
    ///
    /// # Errors
    /// When the compiler can't be started.
    pub fn release(self) -> Result<String> {
        let mut rustc = match self {
            Self::Rustup => workspace::command(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
            Self::Debian => workspace::command(RUSTC),
        };
        let output = rustc.arg("-vV").output().context("rustc can't be started")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let release = text.lines().find_map(|line| line.strip_prefix("release: "));
        Ok(release.context("rustc does not say its version")?.to_owned())
    }
}

/// The firmware's workspace.
pub fn home() -> PathBuf {
    workspace::root().join("firmware")
}

/// Where firmware is built. Apart from the workspace's own output: the toolchains differ, and so neither spoils the other's.
pub fn target_directory() -> PathBuf {
    workspace::target().join("firmware")
}

fn rustup_has(target: &str) -> bool {
    let output = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == target))
}

/// Debian has no library built for the target, so cargo builds `core` from source: a feature of nightly compilers,
/// which `RUSTC_BOOTSTRAP` opens on this one. And it has no `rust-lld`, which the target would be linked with.
fn debian_cargo(target: &str) -> Command {
    let mut cargo = workspace::command(CARGO);
    cargo
        .env("RUSTC", RUSTC)
        .env("RUSTDOC", RUSTDOC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "core")
        .env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace(['-', '.'], "_")), LINKER)
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    cargo
}
