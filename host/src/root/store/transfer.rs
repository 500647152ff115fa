//! Moves what is in a store to another one, as text that people can read: JSON lines. The first line says the format and how many
//! rows there are, each further line is one row, in the order of the store.

use std::fmt::Write;

use acorn_core::addr::AddressPlan;
use acorn_core::time::Instant;
use serde::{Deserialize, Serialize};

use super::super::clock::Clock;
use super::super::load::load;
use super::super::row::{Edit, Row};
use super::super::settings::{Limits, RootSettings};
use super::{FORMAT, Fault, OpenError, Store, StoreError};

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The format of the rows.
    acorn_store: u32,
    /// How many there are.
    rows: usize,
}

/// What every header has, of whatever format.
#[derive(Deserialize)]
struct AnyHeader {
    acorn_store: u32,
}

/// Why nothing was exported or imported. Both sides are as they were.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The store can't be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store can't be written to.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is something in the store that is imported into.
    #[error("{name} holds {rows} row(s) already: import into a new store, or move this one away first")]
    NotEmpty {
        /// The store.
        name: String,
        /// How much.
        rows: usize,
    },
    /// The text is not an export.
    #[error("the export is damaged in line {line}: {detail}. Nothing was imported: make the export again")]
    Damaged {
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
    /// The text is complete, but its rows contradict each other.
    #[error("the export contradicts itself ({0}). Nothing was imported: make the export again")]
    Contradiction(String),
    /// A newer version of this program wrote it.
    #[error(
        "the export has format {found}, this version of acorn knows format {FORMAT}. Nothing was imported: use the newer acorn"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// An older version of this program wrote it.
    #[error(
        "the export has format {found}, this version of acorn reads format {FORMAT}. Nothing was imported: import it with the acorn that made it, and start this one on the store"
    )]
    OlderFormat {
        /// Its format.
        found: u32,
    },
    /// Something in it has an address that the configured pools do not have.
    #[error(
        "the export does not fit the configured address pools: {0}. Nothing was imported: configure pools that hold it"
    )]
    OutsidePlan(String),
}

/// The text of a store.
pub(in super::super) fn export(store: &mut dyn Store) -> Result<String, TransferError> {
    let rows = store.read()?;
    let line = |value: serde_json::Result<String>| {
        value.map_err(|error| OpenError::Damaged { path: store.name().to_owned(), detail: error.to_string() })
    };
    let mut text = line(serde_json::to_string(&Header { acorn_store: FORMAT, rows: rows.len() }))?;
    text.push('\n');
    for row in &rows {
        let row = line(serde_json::to_string(row))?;
        // Writing to a string can't fail.
        let _ = writeln!(text, "{row}");
    }
    Ok(text)
}

/// The rows of a text that [`export`] made, if they are all there, each once, and fit together and the plan.
pub(in super::super) fn parse(text: &str, plan: AddressPlan, unix: u64) -> Result<Vec<Row>, TransferError> {
    let damaged = |line: usize, detail: String| TransferError::Damaged { line, detail };
    let mut lines = (1..).zip(text.lines());
    let (_, first) = lines.next().ok_or_else(|| damaged(1, "it is empty".to_owned()))?;
    let any: AnyHeader = serde_json::from_str(first)
        .map_err(|error| damaged(1, format!("it does not begin with the header of an export ({error})")))?;
    match any.acorn_store {
        FORMAT => {}
        found if found > FORMAT => return Err(TransferError::NewerFormat { found }),
        found => return Err(TransferError::OlderFormat { found }),
    }
    let header: Header = serde_json::from_str(first).map_err(|error| damaged(1, error.to_string()))?;
    let mut rows: Vec<Row> = Vec::new();
    for (line, text) in lines {
        let row: Row = serde_json::from_str(text).map_err(|error| damaged(line, error.to_string()))?;
        if rows.last().is_some_and(|last| last.key() >= row.key()) {
            return Err(damaged(line, "the row is there twice, or not in its place".to_owned()));
        }
        rows.push(row);
    }
    if rows.len() != header.rows {
        return Err(damaged(
            rows.len() + 1,
            format!("there are {} rows, and {} were written", rows.len(), header.rows),
        ));
    }
    let (settings, limits) = (RootSettings::default(), Limits::default());
    let clock = Clock::new(Instant::ZERO, unix);
    match load(rows.clone(), plan, &settings, &limits, Instant::ZERO, &clock) {
        Ok(_) => Ok(rows),
        Err(Fault::OutsidePlan(what)) => Err(TransferError::OutsidePlan(what)),
        Err(Fault::Damaged(detail)) => Err(TransferError::Contradiction(detail)),
        Err(Fault::Newer(found)) => Err(TransferError::NewerFormat { found }),
    }
}

/// Puts rows into a store that has none.
pub(in super::super) fn import(store: &mut dyn Store, rows: Vec<Row>) -> Result<usize, TransferError> {
    let there = store.read()?.len();
    if there > 0 {
        return Err(TransferError::NotEmpty { name: store.name().display().to_string(), rows: there });
    }
    let edits: Vec<_> = rows.into_iter().map(Edit::Put).collect();
    store.fill(&edits)?;
    Ok(edits.len())
}
