//! Instructions, counted by a plugin of QEMU: the same on every run and every machine.

use crate::bench::Figures;
use crate::bench::baseline::Compiler;
use crate::debian::{self, Need};
use crate::firmware::build::{Kind, Program, SMALLEST};
use crate::firmware::emulator;
use crate::workspace;
use anyhow::{Context, Result, bail};
use object::{Object, ObjectSymbol};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program that does what is measured.
const PROGRAM: Program = Program { package: "mcu-bench", kind: Kind::Binary("mcu-instructions") };

/// The functions that it calls before and after.
const MARKS: [&str; 2] = ["acorn_count_begins", "acorn_count_ends"];

/// What it measures first: what the marks themselves cost.
const NOTHING: &str = "nothing";

const PLUGIN: &str = include_str!("instructions.c");
const GCC: Need = Need { package: "gcc", brings: "gcc" };

/// Counts the instructions of everything that the program does, each as often as it did it, and says what compiled it.
///
/// # Errors
/// When program or plugin can't be built or run, or the program did not do all.
pub fn count() -> Result<(Figures, Compiler)> {
    let (program, toolchain) = PROGRAM.build()?;
    let home = workspace::target().join("mcu");
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let plugin = plugin(&home)?;
    let counts = home.join("instructions");
    // What another run left would be taken for counts of this one.
    let _ = fs::remove_file(&counts);
    let [begin, end] = marks(&program)?;
    let mut qemu = emulator::board(&program, &[])?;
    qemu.arg("-plugin").arg(format!("{},begin={begin},end={end},out={}", plugin.display(), counts.display()));
    let output = qemu.output().context("qemu-system-arm can't be started")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("the board ended ({}) after it had said:\n{said}{}", output.status, error.trim());
    }
    let counts = fs::read_to_string(&counts).context("the plugin has counted nothing")?;
    let compiler = Compiler { rustc: toolchain.release()?, target: SMALLEST.to_owned() };
    Ok((figures(&said, &counts)?, compiler))
}

/// Compiles the plugin.
fn plugin(home: &Path) -> Result<PathBuf> {
    debian::require(&[GCC])?;
    let (source, library) = (home.join("instructions.c"), home.join("libinstructions.so"));
    fs::write(&source, PLUGIN).with_context(|| format!("{} can't be written", source.display()))?;
    let mut gcc = Command::new("gcc");
    workspace::run(gcc.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]))?;
    Ok(library)
}

/// Where the marks begin.
fn marks(program: &Path) -> Result<[u64; 2]> {
    let elf = fs::read(program).with_context(|| format!("{} can't be read", program.display()))?;
    let file = object::File::parse(&*elf)?;
    let mut addresses = [0; 2];
    for (name, address) in MARKS.iter().zip(&mut addresses) {
        let symbol = file.symbol_by_name(name).with_context(|| format!("the program has no function `{name}`"))?;
        // The lowest bit says that it is Thumb code.
        *address = symbol.address() & !1;
    }
    Ok(addresses)
}

/// Each line of the program, a name and how often it was done, with its count; without what the marks cost.
fn figures(said: &str, counts: &str) -> Result<Figures> {
    let (lines, counts): (Vec<&str>, Vec<&str>) = (said.lines().collect(), counts.lines().collect());
    if lines.len() != counts.len() {
        bail!("the board has done {} things, and {} were counted:\n{said}", lines.len(), counts.len());
    }
    let mut figures = Figures::new();
    for (line, count) in lines.iter().zip(counts) {
        let parts = line.split_once(' ').and_then(|(name, times)| Some((name, times.parse::<f64>().ok()?)));
        let (name, times) = parts.with_context(|| format!("the board says `{line}`"))?;
        let count: f64 = count.parse().with_context(|| format!("the plugin says `{count}`"))?;
        let marks = figures.get(NOTHING).copied().unwrap_or(0.0);
        figures.insert(name.to_owned(), (count - marks) / times);
    }
    figures.remove(NOTHING).context("the board has not measured what the marks cost")?;
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_divided_and_the_marks_are_taken_off() {
        let figures = figures("nothing 1\nhit 16\nseal 1\n", "10\n1610\n85010\n").unwrap();
        let expected = [("hit", 100.0), ("seal", 85_000.0)].map(|(name, count)| (name.to_owned(), count));
        assert_eq!(figures, Figures::from(expected));
    }

    #[test]
    fn what_is_missing_or_garbled_is_noticed() {
        assert!(figures("nothing 1\nhit 16\n", "10\n").is_err());
        assert!(figures("hit 16\n", "10\n").is_err());
        assert!(figures("nothing 1\npanic at\n", "10\n5\n").is_err());
    }
}
