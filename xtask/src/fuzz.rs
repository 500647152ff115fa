//! The search for bytes that the router and its model judge differently, with cargo-fuzz and libFuzzer.

use crate::test::tools;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The most bytes of an input: about a hundred steps.
const MAX_LEN: &str = "600";

/// Fuzzes a target from its corpus on, for so many minutes, and takes what it found into the corpus.
///
/// # Errors
/// When the fuzzer can't be built or started.
pub fn run(target: &str, minutes: u32) -> Result<ExitCode> {
    let home = workspace::root().join("tests/fuzz");
    let corpus = home.join("corpus").join(target);
    if !corpus.is_dir() {
        bail!(
            "there is no fuzz target `{target}`: the directories in {} are named for them",
            home.join("corpus").display()
        );
    }
    let output = workspace::target().join("fuzz");
    let (found, crashes) = (output.join("found").join(target), output.join("crashes").join(target));
    for directory in [&found, &crashes] {
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    }
    let known = files(&crashes)?;
    let seconds = u64::from(minutes) * 60;
    let mut fuzz = cargo_fuzz("run", target)?;
    fuzz.args([&found, &corpus]).arg("--").arg(format!("-max_len={MAX_LEN}"));
    fuzz.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-verbosity=1"]);
    fuzz.arg(format!("-artifact_prefix={}/", crashes.display()));
    let status = fuzz.status().context("`cargo +nightly fuzz` can't be started: `rustup toolchain install nightly`")?;
    let new: Vec<PathBuf> = files(&crashes)?.difference(&known).cloned().collect();
    for crash in &new {
        println!("\nFound: {}", crash.display());
        println!("To see the steps that lead to it, and to have it replayed by every test from now on:");
        println!("  cp {} {}/", crash.display(), home.join("regressions").join(target).display());
        println!("  cargo test -p acorn-tests --test sim reference");
    }
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    keep(target, &found, &corpus, &output.join("minimal").join(target))?;
    Ok(ExitCode::SUCCESS)
}

/// Replaces the corpus by the fewest inputs that reach all that it and what was found reach.
fn keep(target: &str, found: &Path, corpus: &Path, minimal: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(minimal);
    fs::create_dir_all(minimal).with_context(|| format!("making {}", minimal.display()))?;
    let before = files(corpus)?;
    // libFuzzer's own merge prefers what is in the first directory, then what is smaller.
    let mut merge = cargo_fuzz("run", target)?;
    merge.args([minimal, corpus, found]).args(["--", "-merge=1", "-use_counters=0"]).arg(format!("-max_len={MAX_LEN}"));
    let status = merge.stderr(Stdio::null()).status().context("`cargo +nightly fuzz` can't be started")?;
    let after = files(minimal)?;
    if !status.success() || after.is_empty() {
        bail!("the corpus can't be minimized: {} is as it was", corpus.display());
    }
    for path in &before {
        fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
    }
    for path in &after {
        let name = path.file_name().unwrap_or_default();
        fs::copy(path, corpus.join(name)).with_context(|| format!("copying {}", path.display()))?;
    }
    println!("\nThe corpus had {} inputs and has {}: commit {}.", before.len(), after.len(), corpus.display());
    Ok(())
}

/// `cargo +nightly fuzz <command>` on a target. No sanitizer: the core has no unsafe code.
fn cargo_fuzz(command: &str, target: &str) -> Result<Command> {
    let program = tools::FUZZ.path()?;
    // cargo finds its subcommands on the PATH.
    let mut path = OsString::from(program.parent().unwrap_or(Path::new("")));
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut fuzz = workspace::command("cargo");
    // What `cargo run` set would win over `+nightly`.
    fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env("PATH", path);
    fuzz.args(["+nightly", "fuzz", command, "--fuzz-dir", "tests/fuzz", "--release", "--sanitizer", "none"]);
    fuzz.arg("--target-dir").arg(workspace::target().join("fuzz/build")).arg(target);
    Ok(fuzz)
}

fn files(directory: &Path) -> Result<BTreeSet<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let paths: std::io::Result<BTreeSet<_>> = paths.collect();
    paths.with_context(|| format!("reading {}", directory.display()))
}
