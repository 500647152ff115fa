//! Builds the core for a microcontroller, which proves that it needs neither an operating system nor an allocator.

use crate::debian::{self, Need};
use crate::workspace;
use anyhow::Result;
use std::process::{Command, Stdio};

/// Cortex-M3, the smallest core that the project runs on.
const TARGET: &str = "thumbv7m-none-eabi";

/// Debian's own toolchain with the sources of the standard library, for machines where rustup has no target installed.
const PACKAGES: [Need; 4] = [
    Need { package: "rustc-web", brings: RUSTC },
    Need { package: "cargo-web", brings: CARGO },
    Need { package: "rust-web-src", brings: "/usr/lib/rustlib/src" },
    Need { package: "lld-22", brings: "/usr/bin/lld-22" },
];
const RUSTC: &str = "/usr/bin/rustc";
const RUSTDOC: &str = "/usr/bin/rustdoc";
const CARGO: &str = "/usr/bin/cargo";

/// Builds `acorn-core` for [`TARGET`].
///
/// # Errors
/// When there is no toolchain for the target and none can be installed, or the build fails.
pub fn build() -> Result<()> {
    let (mut cargo, toolchain) = if rustup_has_target() {
        (workspace::cargo(), "rustup's toolchain")
    } else {
        debian::require(&PACKAGES)?;
        (debian_cargo(), "Debian's toolchain")
    };
    cargo.args(["build", "--package", "acorn-core", "--release", "--locked", "--target", TARGET]);
    // The two toolchains' versions differ from the workspace's: apart, neither spoils the other's build cache.
    cargo.arg("--target-dir").arg(workspace::target().join("firmware"));
    workspace::run(&mut cargo)?;
    println!("acorn-core is built for {TARGET} with {toolchain}.");
    Ok(())
}

fn rustup_has_target() -> bool {
    let output = Command::new("rustup").args(["target", "list", "--installed"]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == TARGET))
}

/// Debian has no library built for the target, so cargo builds `core` from source: a feature of nightly compilers,
/// which `RUSTC_BOOTSTRAP` opens on this one.
fn debian_cargo() -> Command {
    let mut cargo = workspace::command(CARGO);
    cargo
        .env("RUSTC", RUSTC)
        .env("RUSTDOC", RUSTDOC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_UNSTABLE_BUILD_STD", "core")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    cargo
}
