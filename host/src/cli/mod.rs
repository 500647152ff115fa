//! The command line: what `acorn` takes ([`Cli`]), and the commands that talk to a running daemon ([`run`]).

mod address_flags;
mod args;
mod client;
mod command;
mod show;
mod text_table;

pub use self::args::Cli;
pub use self::client::ClientError;
pub use self::command::{CommandError, run};
