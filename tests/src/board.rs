//! A microcontroller in QEMU, plugged into the underlay of a world: the real firmware on an emulated board.

use crate::acorn::Acorn;
use crate::world::{BRIDGE, Daemon, Look, Namespace, Result, Underlay, World, WorldError, io, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where QEMU puts the provisioning blob: the board's region for it.
const PROVISIONING_ADDRESS: &str = "0x00300000";
/// How long a program may take to start or end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The firmware, and what prints its log.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The firmware's ELF file.
    pub firmware: PathBuf,
    /// `defmt-print`.
    pub printer: PathBuf,
}

impl Programs {
    /// From `$ACORN_MPS2_NODE` and `$ACORN_DEFMT_PRINT`, which `cargo xtask` sets.
    ///
    /// # Errors
    /// When one is not set; the text says which command sets it.
    pub fn from_environment() -> Result<Programs> {
        Ok(Programs { firmware: program("ACORN_MPS2_NODE")?, printer: program("ACORN_DEFMT_PRINT")? })
    }
}

/// The path of a program that `cargo xtask` has built, by the environment variable that says so.
///
/// # Errors
/// When it is not set; the text says which command sets it.
pub fn program(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).ok_or_else(|| WorldError::Unexpected {
        what: format!("${variable} should name a program of the firmware"),
        seen: "it is not set; `cargo xtask test qemu` builds the firmware and sets it".into(),
    })
}

/// What a board is told when it is provisioned.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Its name, which is that of its files and its log too.
    pub name: &'a str,
    /// Its number, 1 to 9: the end of its MAC address, and of its TAP's name.
    pub number: u8,
    /// Its address on the underlay with its prefix.
    pub address: &'a str,
    /// The service that it is an instance of.
    pub serve: Option<&'a str>,
    /// What it calls, and how often in seconds.
    pub call: Option<(&'a str, u16)>,
}

/// A board. Dropping it switches it off.
#[derive(Debug)]
pub struct Board {
    name: String,
    number: u8,
    wire: Namespace,
    programs: Programs,
    /// The world's directory as its processes and as this process see it.
    inside: String,
    outside: PathBuf,
    qemu: Option<Daemon>,
    printer: Option<Daemon>,
}

/// Makes a token at `root` and writes the blob of a board with it.
///
/// # Errors
/// When a command fails.
pub fn provision(world: &World, root: &Acorn, endpoint: &str, plan: &Plan<'_>) -> Result<()> {
    let token: Value = root.json(&["token", "create", "--endpoint", endpoint])?;
    let token = token["tokens"][0].as_str().unwrap_or_default();
    let token_file = world.write(&format!("{}.token", plan.name), token)?;
    let output = world.inside(&format!("{}.bin", plan.name));
    let mut line = vec!["firmware", "provision", "--token-file", &token_file, "--name", plan.name];
    line.extend(["--ip", plan.address, "--output", &output]);
    if let Some(service) = plan.serve {
        line.extend(["--serve", service]);
    }
    let every = plan.call.map(|(_, every)| every.to_string());
    if let (Some((address, _)), Some(every)) = (plan.call, &every) {
        line.extend(["--call", address, "--every", every]);
    }
    root.run(line).map(drop)
}

impl Board {
    /// Plugs a board in that [`provision`] has written a blob for, and switches it on.
    ///
    /// # Errors
    /// When QEMU or the printer can't be started.
    pub fn start(world: &World, underlay: &Underlay, programs: &Programs, plan: &Plan<'_>) -> Result<Board> {
        let wire = underlay.wire().clone();
        let tap = tap(plan.number);
        wire.run(["ip", "tuntap", "add", "dev", &tap, "mode", "tap"])?;
        // The board's own chatter alone: an IPv6 address of the TAP would say things too.
        wire.run(["sh", "-c", &format!("echo 1 > /proc/sys/net/ipv6/conf/{tap}/disable_ipv6")])?;
        wire.run(["ip", "link", "set", "dev", &tap, "master", BRIDGE, "up"])?;
        let mut board = Board {
            name: plan.name.to_owned(),
            number: plan.number,
            wire,
            programs: programs.clone(),
            inside: world.inside(plan.name),
            outside: world.outside(plan.name),
            qemu: None,
            printer: None,
        };
        board.power_on()?;
        Ok(board)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Switches it on. Its log goes on behind the one of before.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn power_on(&mut self) -> Result<()> {
        self.power_off()?;
        let Board { inside, number, .. } = &*self;
        let pipe = format!("{inside}.pipe");
        self.wire.run(["sh", "-c", &format!("rm -f {pipe} {inside}.monitor; mkfifo {pipe}")])?;
        // Logs are frames that only the ELF file explains, so they pass through its printer. Each opens its end of the pipe when the
        // other does.
        let (elf, printer) = (self.programs.firmware.display(), self.programs.printer.display());
        let print = format!("exec {printer} -e {elf} < {pipe}");
        let command = [
            "exec qemu-system-arm -M mps2-an385 -nographic -serial none".to_owned(),
            format!("-monitor unix:{inside}.monitor,server,nowait"),
            format!("-semihosting-config enable=on,target=native,arg=node,arg=state={inside}.state"),
            format!("-netdev tap,id=n0,ifname={},script=no,downscript=no", tap(*number)),
            format!("-net nic,netdev=n0,model=lan9118,macaddr=02:00:00:00:78:{number:02}"),
            format!("-device loader,file={inside}.bin,addr={PROVISIONING_ADDRESS},force-raw=on"),
            format!("-kernel {elf} > {pipe}"),
        ];
        self.printer = Some(self.wire.spawn(&self.name, ["sh", "-c", &print])?);
        let qemu = format!("{}-qemu", self.name);
        self.qemu = Some(self.wire.spawn(&qemu, ["sh", "-c", &command.join(" ")])?);
        Ok(())
    }

    /// Switches it off, as a loss of power would.
    ///
    /// # Errors
    /// When QEMU does not end.
    pub fn power_off(&mut self) -> Result<()> {
        if let Some(qemu) = self.qemu.take() {
            qemu.stop(Signal::SIGKILL, PATIENCE)?;
        }
        // The pipe has ended, and with it the printer, all lines written.
        if let Some(mut printer) = self.printer.take() {
            printer.wait(PATIENCE)?;
        }
        Ok(())
    }

    /// Lets it run on when this handle goes: it then ends with its world.
    pub fn release(mut self) {
        self.qemu.take().into_iter().chain(self.printer.take()).for_each(Daemon::release);
    }

    /// Resets it, as its button would.
    ///
    /// # Errors
    /// When the monitor does not answer.
    pub fn reset(&self) -> Result<()> {
        self.monitor("system_reset").map(drop)
    }

    /// Plugs its cable in or out.
    ///
    /// # Errors
    /// When the monitor does not answer.
    pub fn set_link(&self, is_up: bool) -> Result<()> {
        self.monitor(if is_up { "set_link n0 on" } else { "set_link n0 off" }).map(drop)
    }

    /// Everything that it has logged since it was first switched on.
    pub fn log(&self) -> String {
        let path = self.outside.with_file_name("log").join(format!("{}.log", self.name));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// How many lines of its log contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until `count` lines of its log contain `text`, and returns the last of them.
    ///
    /// # Errors
    /// [`WorldError::Deadline`] with the end of its log; [`WorldError::Ended`] when it ends.
    pub fn wait_for(&mut self, text: &str, count: usize, deadline: Duration) -> Result<String> {
        wait_until(&format!("{} to log {text:?} {count} times", self.name), deadline, || {
            if let Some(qemu) = &mut self.qemu {
                qemu.check()?;
            }
            let log = self.log();
            let found: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
            if found.len() >= count
                && let Some(last) = found.last()
            {
                return Ok(Look::Holds((*last).to_owned()));
            }
            let end: Vec<&str> = log.lines().rev().take(12).collect();
            Ok(Look::NotYet(end.into_iter().rev().collect::<Vec<_>>().join("\n")))
        })
    }

    /// Types a line into QEMU's monitor and returns what it printed.
    ///
    /// # Errors
    /// When the monitor can't be reached or does not answer within 5 s.
    pub fn monitor(&self, line: &str) -> Result<String> {
        let doing = || io(format!("typing {line:?} into the monitor of {}", self.name));
        let path = self.outside.with_extension("monitor");
        let mut monitor = UnixStream::connect(&path).map_err(doing())?;
        monitor.set_read_timeout(Some(Duration::from_secs(5))).map_err(doing())?;
        prompt(&mut monitor).map_err(doing())?;
        writeln!(monitor, "{line}").map_err(doing())?;
        prompt(&mut monitor).map_err(doing())
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.power_off();
    }
}

fn tap(number: u8) -> String {
    format!("tap{number}")
}

/// Reads up to the monitor's next prompt.
fn prompt(monitor: &mut UnixStream) -> std::io::Result<String> {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte)?;
        seen.extend(byte);
    }
    Ok(String::from_utf8_lossy(&seen).into_owned())
}
