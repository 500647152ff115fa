//! A process that runs in the background of a world until it is stopped or dropped.

use super::{Look, Result, WorldError, io, only_child, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// A background process. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    /// `nsenter`, which waits for the process that it forked into the world.
    entrance: Child,
    /// The process itself, as the creator sees it.
    pid: u32,
}

impl Daemon {
    /// Starts `command`, an `nsenter` that forks, with its output appended to `log`.
    pub(super) fn start(name: &str, log: PathBuf, mut command: Command) -> Result<Daemon> {
        let file = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .map_err(io(format!("opening the log {}", log.display())))?;
        let errors = file.try_clone().map_err(io(format!("opening the log {}", log.display())))?;
        let mut entrance = command
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|source| WorldError::Start { program: name.into(), source })?;

        let parent = entrance.id();
        let forked = wait_until(&format!("{name} to start"), Duration::from_secs(5), || {
            if let Ok(pid) = only_child(parent) {
                return Ok(Look::Holds(pid));
            }
            match entrance.try_wait() {
                Ok(Some(status)) => Err(ended(name, status, &log)),
                _ => Ok(Look::NotYet("nothing".into())),
            }
        });
        match forked {
            Ok(pid) => Ok(Daemon { name: name.into(), log, entrance, pid }),
            Err(error) => {
                let _ = entrance.kill();
                let _ = entrance.wait();
                Err(error)
            }
        }
    }

    /// The name of its log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its PID as the creator sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its PID as the processes of the world see it.
    ///
    /// # Errors
    /// [`WorldError::Io`] when it is gone.
    pub fn pid_inside(&self) -> Result<u32> {
        let path = format!("/proc/{}/status", self.pid);
        let status = fs::read_to_string(&path).map_err(io(format!("reading {path}")))?;
        // One PID per nested namespace, the innermost last (proc_pid_status(5)).
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        pids.and_then(|pids| pids.split_whitespace().last()?.parse().ok()).ok_or_else(|| WorldError::Unexpected {
            what: format!("{path} should name the process's PIDs"),
            seen: status.clone(),
        })
    }

    /// The last `lines` lines that it wrote.
    pub fn log(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// Fails when it has ended, with the end of its log.
    ///
    /// # Errors
    /// [`WorldError::Ended`].
    pub fn check(&mut self) -> Result<()> {
        match self.entrance.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(ended(&self.name, status, &self.log)),
            Err(source) => Err(io(format!("waiting for {}", self.name))(source)),
        }
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    /// [`WorldError::Ended`] when it ends before, [`WorldError::Deadline`] when it takes too long.
    pub fn wait_for_log(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let what = format!("{} to write {text:?}", self.name);
        wait_until(&what, deadline, || {
            let log = self.log(20);
            if log.contains(text) {
                return Ok(Look::Holds(()));
            }
            self.check()?;
            Ok(Look::NotYet(log))
        })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`WorldError::Io`] when it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid.cast_signed());
        kill(pid, signal).map_err(|errno| io(format!("sending {signal} to {}", self.name))(errno.into()))
    }

    /// Sends it `signal` and waits until it has ended.
    ///
    /// # Errors
    /// When it is gone already, or does not end in time.
    pub fn stop(mut self, signal: Signal, deadline: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.wait(deadline)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`WorldError::Deadline`].
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait_until(&what, deadline, || match self.entrance.try_wait() {
            Ok(Some(status)) => Ok(Look::Holds(status)),
            Ok(None) => Ok(Look::NotYet("it runs".into())),
            Err(source) => Err(io(format!("waiting for {}", self.name))(source)),
        })
    }

    /// Lets it run on when this handle goes: it then ends with its world.
    pub fn release(self) {
        std::mem::forget(self);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.entrance.try_wait() {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.entrance.wait();
        }
    }
}

/// The last `lines` lines of a file; empty when it can't be read.
pub(super) fn tail(path: &Path, lines: usize) -> String {
    let content = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn ended(name: &str, status: ExitStatus, log: &Path) -> WorldError {
    WorldError::Ended { name: name.into(), status: status.to_string(), log: tail(log, 15) }
}
