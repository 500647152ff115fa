//! The core and the cryptography of its tunnels as a Cortex-M3 computes them. No network: the program carries its vectors.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use acorn_tests::board::program;
use acorn_tests::world::{Look, Result, wait_until};

/// What the program tells of, each with the number of its vectors.
const GROUPS: [&str; 4] = ["router", "X25519", "ChaCha20-Poly1305", "XChaCha20-Poly1305"];

/// How long the program may take. Alone it takes four seconds.
const PATIENCE: Duration = Duration::from_secs(240);

#[test]
fn the_core_and_its_cryptography_do_on_a_cortex_m3_what_they_do_here() {
    let (firmware, printer) = (program("ACORN_MPS2_VECTORS").unwrap(), program("ACORN_DEFMT_PRINT").unwrap());
    let frames = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-M", "mps2-an385", "-nographic", "-monitor", "none", "-serial", "none", "-nic", "none"]);
    qemu.args(["-semihosting-config", "enable=on,target=native", "-kernel"]).arg(&firmware);
    qemu.stdin(Stdio::null()).stderr(Stdio::null()).stdout(frames.reopen().expect("it is there"));
    let ended = Emulator(qemu.spawn().expect("qemu-system-arm, of Debian's package of that name")).ended();

    let mut print = Command::new(printer);
    print.arg("-e").arg(&firmware).stdin(File::open(frames.path()).expect("it is there"));
    let printed = print.output().expect("defmt-print can be started");
    let log = String::from_utf8_lossy(&printed.stdout);
    assert_eq!(ended.expect("the run ends"), Some(0), "{log}");
    for group in GROUPS {
        assert!(count(&log, group) > Some(0), "nothing of {group}:\n{log}");
    }
}

/// How many vectors of a group were held, none of which failed.
fn count(log: &str, group: &str) -> Option<u32> {
    let told =
        log.lines().find_map(|line| line.split_once(&format!(" {group}: "))?.1.strip_suffix(" vectors, 0 failed"))?;
    told.parse().ok()
}

/// QEMU, which does not outlive the test.
struct Emulator(Child);

impl Emulator {
    /// Its exit code, once it has ended.
    fn ended(mut self) -> Result<Option<i32>> {
        wait_until("the vectors to be through", PATIENCE, || {
            let status = self.0.try_wait().expect("a child can be asked");
            Ok(status.map_or_else(|| Look::NotYet("QEMU runs".into()), |status| Look::Holds(status.code())))
        })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already, or it is to.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
