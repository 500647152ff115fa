//! What can go wrong while a private world is built or used.

use std::io;
use std::time::Duration;

/// A failure of the world itself or of a program in it. The text says what failed, on what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The kernel or the surrounding container does not allow private namespaces.
    #[error("no private network namespaces can be made here: {reason}. {advice}")]
    Refused {
        /// What the kernel or `unshare` said.
        reason: String,
        /// What a person can do about it.
        advice: &'static str,
    },
    /// A program could not be started at all.
    #[error("`{program}` can't be started: {source}. Is it installed and in PATH?")]
    Start {
        /// The program's name or path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("`{command}` in {namespace} failed ({status}): {output}")]
    Failed {
        /// The command line.
        command: String,
        /// The namespace it ran in.
        namespace: String,
        /// Its exit status.
        status: String,
        /// What it wrote to stderr and stdout.
        output: String,
    },
    /// A condition did not come true in time.
    #[error("waited {waited:?} for {what}; last seen: {seen}")]
    Deadline {
        /// The condition.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The last observation.
        seen: String,
    },
    /// A daemon ended although it should run.
    #[error("{name} ended by itself ({status}). The end of its log:\n{log}")]
    Ended {
        /// The daemon's name.
        name: String,
        /// Its exit status.
        status: String,
        /// The last lines that it wrote.
        log: String,
    },
    /// A program's answer is not what it promises to be.
    #[error("{what}: {seen}")]
    Unexpected {
        /// What was expected.
        what: String,
        /// What came.
        seen: String,
    },
    /// A file could not be read or written.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and on what.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, WorldError>;

/// Adds to an IO error what was being done.
pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> WorldError {
    move |source| WorldError::Io { doing: doing.into(), source }
}
