//! The project's commands. `cargo xtask --help` lists them.

mod bench;
mod debian;
mod demo;
mod firmware;
mod fuzz;
mod panics;
mod test;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's commands.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole network at work: three nodes, a service with two instances and a client, in private namespaces
    Demo {
        /// Leave everything running at the end, and say how to look around and how to remove it
        #[arg(long)]
        keep: bool,
    },
    /// Checks everything that CI checks
    Test {
        /// Check only these groups
        #[arg(value_enum, value_name = "GROUP")]
        groups: Vec<test::Group>,
        /// Check only these groups (comma-separated)
        #[arg(long, value_enum, value_delimiter = ',', value_name = "GROUP")]
        only: Vec<test::Group>,
    },
    /// Measures what a packet costs, on this machine or on a microcontroller
    Bench {
        #[command(subcommand)]
        what: bench::What,
    },
    /// Looks for code that can panic in the data path of the optimized core
    Panics,
    /// Looks for packets, tables and times with which the router does not do what its model does
    Fuzz {
        /// How long
        #[arg(long, default_value_t = 10)]
        minutes: u32,
        /// Which fuzz target
        #[arg(long, default_value = "router")]
        target: String,
    },
    /// The nodes for microcontrollers; builds them when it is not told what else
    Firmware {
        #[command(subcommand)]
        what: Option<firmware::What>,
    },
    /// The applications of the demo
    #[command(hide = true)]
    Traffic {
        #[arg(trailing_var_arg = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { keep } => demo::run(keep),
        Command::Test { groups, only } => test::run(&[groups, only].concat()),
        Command::Bench { what } => bench::run(&what).map(|()| ExitCode::SUCCESS),
        Command::Panics => panics::run().map(|()| ExitCode::SUCCESS),
        Command::Fuzz { minutes, target } => fuzz::run(&target, minutes),
        Command::Firmware { what } => firmware::run(what.as_ref()).map(|()| ExitCode::SUCCESS),
        Command::Traffic { arguments } => return acorn_tests::traffic::main(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
