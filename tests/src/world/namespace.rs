//! One network namespace of a world, and programs run in it.

use super::{Anchor, Daemon, Result, WorldError};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

/// A network namespace. Cloning it gives a second handle to the same one; it goes away with its world.
#[derive(Debug, Clone)]
pub struct Namespace {
    anchor: Arc<Anchor>,
    /// `None`: the world's first namespace, which has no name.
    name: Option<String>,
}

impl Namespace {
    pub(super) fn of_world(anchor: Arc<Anchor>) -> Namespace {
        Namespace { anchor, name: None }
    }

    pub(super) fn named(anchor: Arc<Anchor>, name: &str) -> Namespace {
        Namespace { anchor, name: Some(name.to_owned()) }
    }

    /// The name that `ip netns` inside the world knows it by.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("the world")
    }

    /// A command that runs `program` in this namespace. Its standard input is empty.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.anchor.enter(self.name.as_deref());
        command.arg(program);
        command
    }

    /// Runs a command line to its end and returns what it wrote to stdout.
    ///
    /// # Errors
    /// [`WorldError::Failed`] with its output when it exits with anything but 0.
    pub fn run<S: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = S>) -> Result<String> {
        let line: Vec<S> = line.into_iter().collect();
        let output = self.output(&line)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        Err(WorldError::Failed {
            command: shown(&line),
            namespace: self.name().to_owned(),
            status: output.status.to_string(),
            output: text.trim().to_owned(),
        })
    }

    /// Runs a command line to its end, whatever its exit status.
    ///
    /// # Errors
    /// [`WorldError::Start`] when it can't be started.
    pub fn output<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Output> {
        let mut command = self.anchor.enter(self.name.as_deref());
        command.args(line);
        command.output().map_err(|source| WorldError::Start { program: shown(line), source })
    }

    /// Runs a command line that has to fail within 20 s, and returns what it wrote to stderr.
    ///
    /// # Errors
    /// [`WorldError::Unexpected`] when it exits with 0, panics, or is ended by a signal.
    pub fn refused<S: AsRef<OsStr>>(&self, line: impl IntoIterator<Item = S>) -> Result<String> {
        let line = line.into_iter().map(|word| word.as_ref().to_owned());
        // `timeout` exits with 124 and 137.
        let line: Vec<_> = ["timeout", "--kill-after=1", "20"].map(Into::into).into_iter().chain(line).collect();
        let output = self.output(&line)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        // 1 is an error, 2 a mistake on the command line.
        if matches!(output.status.code(), Some(1 | 2)) {
            return Ok(error);
        }
        let said = String::from_utf8_lossy(&output.stdout);
        Err(WorldError::Unexpected {
            what: format!("`{}` should be refused with exit status 1 or 2", shown(&line)),
            seen: format!("{}: {error}{said}", output.status),
        })
    }

    /// Starts a command line in the background. What it writes goes to the log `name`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, name: &str, line: impl IntoIterator<Item = S>) -> Result<Daemon> {
        let mut command = self.anchor.enter(self.name.as_deref());
        // A log is a file: no colours.
        command.args(line).env("NO_COLOR", "1");
        Daemon::start(name, self.log(name), command)
    }

    /// Names of the network interfaces in this namespace, sorted.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let listing = self.run(["ip", "-oneline", "link", "show"])?;
        let mut names: Vec<String> = listing
            .lines()
            .filter_map(|line| line.split(": ").nth(1))
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.anchor.outside(&format!("log/{name}.log"))
    }
}

fn shown<S: AsRef<OsStr>>(line: &[S]) -> String {
    line.iter().map(|word| word.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ")
}
