//! The command line: what `acorn` takes ([`Cli`]), and the commands that end by themselves ([`run`]).

mod address_flags;
mod args;
mod client;
mod command;
mod firmware;
mod show;
mod store;
mod text_table;

pub use self::args::Cli;
pub use self::client::ClientError;
pub use self::command::{CommandError, run};
