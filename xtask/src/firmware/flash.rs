//! `cargo xtask firmware flash`: a node and what it is told, onto a board of hardware.

use super::boards::{self, Board};
use super::{build, files, run};
use crate::workspace;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

const PROBE_RS: &str = "probe-rs";

/// Builds a board's node, writes the blob and the node into its flash, and shows its log until Ctrl-C; or only prints the commands
/// that do so.
///
/// # Errors
/// When there is no such board, it is an emulated one, a file or probe-rs is missing, or probe-rs fails.
pub fn board(name: &str, provisioning: Option<&Path>, dry_run: bool) -> Result<()> {
    let board = boards::named(name)?;
    let provisioning = provisioning.map(files::existing).transpose()?;
    let steps = steps(&board, provisioning.as_deref())?;
    if dry_run {
        println!("cargo xtask firmware build --board {name}");
        steps.iter().for_each(|step| println!("{}", workspace::shown(step)));
        return Ok(());
    }
    if !workspace::has_program(PROBE_RS) {
        bail!("probe-rs is not there: `cargo install probe-rs-tools --locked` installs it, or see https://probe.rs");
    }
    build::node(&board)?;
    steps.into_iter().try_for_each(|mut step| workspace::run(&mut step))
}

/// What has to be run, in order. The blob goes first: the node looks for it as soon as it runs.
fn steps(board: &Board, provisioning: Option<&Path>) -> Result<Vec<Command>> {
    let name = &board.name;
    let Some(chip) = &board.facts.chip else {
        bail!("{name} is emulated: `cargo xtask firmware run` runs {}", run::BOARD);
    };
    let mut steps = Vec::new();
    if let Some(blob) = provisioning {
        let address = board.provisioning_address()?;
        let mut download = Command::new(PROBE_RS);
        download.args(["download", "--chip", chip, "--binary-format", "bin"]);
        download.args(["--base-address", &format!("{address:#010x}")]).arg(blob);
        steps.push(download);
    }
    let mut run = Command::new(PROBE_RS);
    run.args(["run", "--chip", chip]).arg(board.program());
    steps.push(run);
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::super::boards::Facts;
    use super::*;

    fn board(chip: Option<&str>, provisioning_address: Option<u64>) -> Board {
        let chip = chip.map(str::to_owned);
        let target = "thumbv7em-none-eabihf".to_owned();
        let facts = Facts { target, chip, provisioning_address, flash_bytes: 1, ram_bytes: 1 };
        Board { name: "b".to_owned(), facts }
    }

    fn lines(board: &Board, blob: Option<&str>) -> Vec<String> {
        steps(board, blob.map(Path::new)).unwrap().iter().map(workspace::shown).collect()
    }

    #[test]
    fn the_blob_goes_to_its_address_and_then_the_node_runs() {
        let board = board(Some("STM32H743ZITx"), Some(0x0810_0000));
        let run = format!("probe-rs run --chip STM32H743ZITx {}", board.program().display());
        assert_eq!(lines(&board, None), std::slice::from_ref(&run));
        let download = "probe-rs download --chip STM32H743ZITx --binary-format bin --base-address 0x08100000 /blob";
        assert_eq!(lines(&board, Some("/blob")), [download.to_owned(), run]);
    }

    #[test]
    fn a_board_that_can_not_be_flashed_says_why() {
        let said = steps(&board(None, None), None).unwrap_err().to_string();
        assert!(said.contains("cargo xtask firmware run"), "{said}");
        assert!(steps(&board(Some("C"), None), Some(Path::new("/blob"))).is_err());
    }
}
