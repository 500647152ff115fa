//! `acorn store`: a root's store to text and back, while no root runs on it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};

use super::args::{HomeArgs, StoreArgs};
use super::command::CommandError;
use crate::config::{Config, Overrides};
use crate::root::{self, FILE_NAME};

/// Moves the root's durable state.
#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Write what is in the root's store as JSON lines; the root must not run
    #[command(after_help = "Example:\n  acorn store export --output acorn.jsonl")]
    Export {
        #[command(flatten)]
        place: PlaceArgs,
        /// The file to write, which must not exist; without it, stdout
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Fill an empty store with what was exported; the root must not run
    #[command(after_help = "Example:\n  acorn store import --state /var/lib/acorn acorn.jsonl")]
    Import {
        #[command(flatten)]
        place: PlaceArgs,
        /// The file that was exported; `-` reads it from stdin
        file: PathBuf,
    },
}

/// Where the store is.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    home: HomeArgs,
    #[command(flatten)]
    store: StoreArgs,
}

impl StoreCommand {
    /// Does it; what is to be printed.
    pub(super) fn run(&self) -> Result<Printed, CommandError> {
        match self {
            Self::Export { place, output } => {
                let config = place.config()?;
                let text = match &config.root.store {
                    Some(url) => root::export_shared(url)?,
                    None => root::export_store(&file_of(&config))?,
                };
                let Some(output) = output else { return Ok(Printed::Raw(text)) };
                write_new(output, &text).map_err(|reason| CommandError::Write { path: output.clone(), reason })?;
                Ok(Printed::Done(format!("exported {} rows to {}", text.lines().count() - 1, output.display())))
            }
            Self::Import { place, file } => {
                let text = read(file).map_err(|reason| CommandError::Read { path: file.clone(), reason })?;
                let config = place.config()?;
                let plan = config.plan.address_plan()?;
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let (rows, name) = match &config.root.store {
                    Some(url) => (root::import_shared(url, &text, plan, unix)?, url.to_string()),
                    None => {
                        let path = file_of(&config);
                        (root::import_store(&path, &text, plan, unix)?, path.display().to_string())
                    }
                };
                Ok(Printed::Done(format!("imported {rows} rows into {name}")))
            }
        }
    }
}

/// What a command prints.
pub(super) enum Printed {
    /// As it is.
    Raw(String),
    /// That it is done.
    Done(String),
}

impl PlaceArgs {
    fn config(&self) -> Result<Config, CommandError> {
        let (state, store) = (self.home.state.clone(), self.store.store.clone());
        let flags = Overrides { state, store, ..Overrides::default() };
        Ok(Config::load(self.home.config.as_deref(), &flags)?)
    }
}

fn file_of(config: &Config) -> PathBuf {
    config.daemon.state.join(FILE_NAME)
}

fn read(file: &Path) -> io::Result<String> {
    if file != Path::new("-") {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map(|_| text)
}

/// Readable by its owner only, as the store is, and on the disk when this returns.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // Half an export is none.
        let _ = fs::remove_file(path);
    }
    written
}
