//! `cargo xtask firmware`: builds, sizes, flashes and runs the nodes for microcontrollers, which are a workspace of their own.

mod boards;
pub mod build;
pub mod emulator;
mod files;
mod flash;
mod programs;
mod run;
mod size;
mod toolchain;

pub use programs::Programs;
pub use toolchain::{home, target_directory};

use anyhow::Result;
use clap::Subcommand;
use std::path::PathBuf;

/// What is done with the firmware.
#[derive(Subcommand)]
pub enum What {
    /// Builds the nodes for all boards, or for one
    Build {
        /// The board, as the directories in `firmware/boards` are named
        #[arg(long)]
        board: Option<String>,
    },
    /// What the nodes take of flash and RAM, by part, against the budget in `firmware/size-budget.json`
    ///
    /// The parts follow the program's symbols: a function or static counts for the crate that defines it, and what the compiler has
    /// inlined counts for the function that it is in. The tables of the core and the tunnels are one static of the application.
    Size {
        /// The board, as the directories in `firmware/boards` are named; all of them when not given
        #[arg(long)]
        board: Option<String>,
        /// Make what was measured the budget, for this reason
        #[arg(long, value_name = "REASON")]
        raise: Option<String>,
    },
    /// Writes a node, and what it is told, into the flash of a board of hardware, with probe-rs; then shows its log
    Flash {
        /// The board, as the directories in `firmware/boards` are named
        #[arg(long)]
        board: String,
        /// What the board is told: a file that `acorn firmware provision` wrote. Without one it keeps what it was told before
        #[arg(long, value_name = "BLOB")]
        provisioning: Option<PathBuf>,
        /// Only print the commands
        #[arg(long)]
        dry_run: bool,
    },
    /// Runs a node in QEMU and shows its log, until Ctrl-C. Its network is QEMU's own, where the board gets an address by DHCP
    /// and reaches this machine's 127.0.0.1 as 192.168.78.1
    Run {
        /// What the board is told: a file that `acorn firmware provision` wrote. Without one the board says what it lacks
        #[arg(long, value_name = "BLOB")]
        provisioning: Option<PathBuf>,
        /// What the board remembers over restarts; a file below the target directory when not given
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
}

/// Does it; without a word, all boards are built.
///
/// # Errors
/// When there is no toolchain for a board and none can be installed, or it can't be done.
pub fn run(what: Option<&What>) -> Result<()> {
    match what {
        None => build::all(None),
        Some(What::Build { board }) => build::all(board.as_deref()),
        Some(What::Size { board, raise }) => size::run(board.as_deref(), raise.as_deref()),
        Some(What::Flash { board, provisioning, dry_run }) => flash::board(board, provisioning.as_deref(), *dry_run),
        Some(What::Run { provisioning, state }) => run::node(provisioning.as_deref(), state.as_deref()),
    }
}
