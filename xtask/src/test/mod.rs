//! Everything that CI checks, in order, quickest first; it ends at the first failure.

mod firmware;
pub mod tools;

use crate::firmware::Programs;
use crate::{bench, debian, panics, workspace};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fs;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Steps that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Formatting, clippy and documentation
    Lint,
    /// Tests of the core and the daemon's library
    Unit,
    /// Tests of the system from outside; these make network namespaces
    Net,
    /// The nodes for microcontrollers: that they build, and what they take of flash and RAM
    Firmware,
    /// The nodes for microcontrollers: style, tests of their parts on this machine, and whole boards in QEMU
    Qemu,
    /// Instructions per packet, here and on a microcontroller, against the baselines, and panics in the data path
    Bench,
    /// Licences, sources and unused dependencies
    Dependencies,
    /// The demo
    Demo,
}

struct Step {
    group: Group,
    title: &'static str,
    check: fn() -> Result<()>,
}

const STEPS: [Step; 17] = [
    Step { group: Group::Lint, title: "formatting", check: formatting },
    Step { group: Group::Lint, title: "clippy", check: clippy },
    Step { group: Group::Lint, title: "documentation", check: documentation },
    Step { group: Group::Unit, title: "tests of the parts", check: unit_tests },
    Step { group: Group::Net, title: "tests of the system", check: system_tests },
    Step { group: Group::Firmware, title: "firmware", check: firmware_build },
    Step { group: Group::Firmware, title: "size of the firmware", check: firmware::size },
    Step { group: Group::Qemu, title: "formatting of the firmware", check: firmware::formatting },
    Step { group: Group::Qemu, title: "clippy and documentation of the firmware", check: firmware::lint },
    Step { group: Group::Qemu, title: "tests of the firmware's parts", check: firmware::unit_tests },
    Step { group: Group::Qemu, title: "tests of boards in QEMU", check: qemu_tests },
    Step { group: Group::Bench, title: "panics in the data path", check: panics::run },
    Step { group: Group::Bench, title: "instructions per packet", check: bench::check },
    Step { group: Group::Bench, title: "instructions on a microcontroller", check: bench::mcu::check },
    Step { group: Group::Dependencies, title: "licences, sources and unused dependencies", check: dependencies },
    Step { group: Group::Dependencies, title: "licences and sources of the firmware", check: firmware::dependencies },
    Step { group: Group::Demo, title: "demo", check: demo },
];

/// Checks the steps of these groups, or all of them when there are none.
///
/// # Errors
/// Never: a failed step is reported, and makes the exit status 1.
pub fn run(only: &[Group]) -> Result<ExitCode> {
    let mut report: Vec<(&str, Duration, &str)> = Vec::new();
    let mut failed = 0;
    for step in STEPS.iter().filter(|step| only.is_empty() || only.contains(&step.group)) {
        println!("\n== {} ==", step.title);
        let started = Instant::now();
        let verdict = match (step.check)() {
            Ok(()) => "passed",
            Err(error) => {
                println!("\nFAILED: {}: {error:#}", step.title);
                failed += 1;
                "failed"
            }
        };
        report.push((step.title, started.elapsed(), verdict));
        if failed > 0 {
            break;
        }
    }
    println!();
    for (title, elapsed, verdict) in &report {
        println!("{verdict:>8} {:>7.1} s  {title}", elapsed.as_secs_f64());
    }
    let passed = report.iter().filter(|(_, _, verdict)| *verdict == "passed").count();
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn formatting() -> Result<()> {
    cargo(&["fmt", "--all", "--check"]).context("run `cargo fmt`")
}

fn clippy() -> Result<()> {
    debian::require(&debian::BUILD)?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "--deny", "warnings"])
}

fn documentation() -> Result<()> {
    debian::require(&debian::BUILD)?;
    let mut doc = workspace::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    passed(doc.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn unit_tests() -> Result<()> {
    debian::require(&[&debian::BUILD[..], &debian::DEMO, &debian::TESTS].concat())?;
    cargo(&["test", "--workspace", "--exclude", "acorn-tests", "--locked", "--quiet"])
}

fn system_tests() -> Result<()> {
    let mut test = test_of_system()?;
    test.args(["--lib", "--bins"]);
    for name in system_test_names()?.iter().filter(|name| *name != QEMU_TESTS) {
        test.args(["--test", name]);
    }
    passed(&mut test)
}

/// The tests of emulated boards, which need more to be built than the others.
const QEMU_TESTS: &str = "qemu";

/// The tests in `tests/`: directories with a `main.rs`.
fn system_test_names() -> Result<Vec<String>> {
    let home = workspace::root().join("tests");
    let entries = fs::read_dir(&home).with_context(|| format!("{} can't be read", home.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<String> = paths
        .filter(|path| path.join("main.rs").is_file())
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// `cargo test` of the system, with what it needs there.
fn test_of_system() -> Result<Command> {
    debian::require(&[&debian::BUILD[..], &debian::DEMO, &debian::TESTS].concat())?;
    // The system tests run this binary, which cargo does not build for another package's tests.
    cargo(&["build", "--package", "acorn", "--locked", "--quiet"])?;
    let binary = workspace::target().join("debug/acorn");
    let mut test = workspace::cargo();
    test.args(["test", "--package", "acorn-tests", "--locked", "--quiet"]).env("ACORN_BIN", binary);
    Ok(test)
}

fn qemu_tests() -> Result<()> {
    debian::require(&debian::EMULATOR)?;
    let mut test = test_of_system()?;
    passed(Programs::build()?.tell(&mut test).args(["--test", QEMU_TESTS]))
}

fn firmware_build() -> Result<()> {
    crate::firmware::run(None)
}

fn dependencies() -> Result<()> {
    let mut deny = workspace::command(tools::DENY.path()?);
    workspace::run(deny.args(["--log-level", "warn", "check", "bans", "licenses", "sources"]))
        .context("deny.toml says what is allowed")?;
    let mut machete = workspace::command(tools::MACHETE.path()?);
    passed(machete.arg(workspace::root())).context("remove the unused dependencies from Cargo.toml")
}

fn demo() -> Result<()> {
    // Through cargo, because a step before may have built this program anew.
    cargo(&["run", "--package", "xtask", "--locked", "--quiet", "--", "demo"])
}

fn cargo(arguments: &[&str]) -> Result<()> {
    passed(workspace::cargo().args(arguments))
}

fn passed(command: &mut Command) -> Result<()> {
    workspace::run(command)
}
