//! `cargo xtask firmware run`: a node in QEMU, to try something.

use super::{boards, build, emulator, files, toolchain};
use crate::test::tools;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// The board that is emulated.
pub const BOARD: &str = "mps2-node";

/// A network of QEMU's own, which needs no root: the board finds this machine at .1 and goes out through it.
const NETWORK: &str = "user,model=lan9118,net=192.168.78.0/24,host=192.168.78.1,mac=02:00:00:00:78:02";

/// Builds the node, runs it and shows its log until it ends.
///
/// # Errors
/// When it can't be built or started, a file is missing, or QEMU ends with anything but 0.
pub fn node(provisioning: Option<&Path>, state: Option<&Path>) -> Result<()> {
    let board = boards::named(BOARD)?;
    let printer = tools::DEFMT_PRINT.path()?;
    build::node(&board)?;
    let state = match state {
        Some(path) => files::absolute(path)?,
        None => toolchain::target_directory().join(BOARD).with_extension("state"),
    };
    let program = board.program();
    let mut qemu = emulator::board(&program, &[format!("state={}", state.display())])?;
    qemu.args(["-nic", NETWORK]);
    if let Some(blob) = provisioning {
        let blob = files::existing(blob)?;
        emulator::provision(&mut qemu, &blob, board.provisioning_address()?);
    }
    println!("The board's state is in {}. Ctrl-C ends it.", state.display());
    let mut emulated = qemu.stdout(Stdio::piped()).spawn().context("qemu-system-arm can't be started")?;
    let log = emulated.stdout.take().context("qemu-system-arm has no output")?;
    let printed = Command::new(printer).arg("-e").arg(&program).stdin(log).status();
    // The log ends when the emulator has ended, or when nobody reads it: then the emulator has nobody to run for.
    if !printed.as_ref().is_ok_and(|status| status.success()) {
        emulated.kill().context("qemu-system-arm can't be ended")?;
    }
    let status = emulated.wait().context("qemu-system-arm was lost")?;
    printed.context("defmt-print can't be started")?;
    if !status.success() {
        bail!("the board ended ({status})");
    }
    Ok(())
}
