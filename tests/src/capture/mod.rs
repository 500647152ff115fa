//! A capture of the packets of an interface of a world, and what it saw: packets by kind, and whether anybody could have
//! read them. The witness is tcpdump, or our own [`packets`](crate::traffic::packets) where tcpdump can't run.

pub(crate) mod pcap;
mod sorted;

pub use pcap::Link;
pub use sorted::Sorted;

use crate::world::{Daemon, Namespace, Result, World, WorldError, io};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Duration;

/// How long the witness may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    witness: Daemon,
    witness_is: &'static str,
    file: PathBuf,
}

impl Capture {
    /// Starts to capture whole packets on `interface` (or `any`), and returns once every further packet will be seen.
    /// The capture and its log are called `name`; `traffic` is the command line of [`crate::traffic`].
    ///
    /// # Errors
    /// When the witness does not start.
    pub fn start(
        world: &World,
        namespace: &Namespace,
        name: &str,
        interface: &str,
        traffic: &[&str],
    ) -> Result<Capture> {
        let file = format!("{name}.pcap");
        let inside = world.inside(&file);
        let (witness_is, line, ready) = if world.has_users_of_its_own() {
            (
                "a packet socket writes packets, though not all of a fast transfer (tcpdump needs root)",
                [traffic, &["capture", interface, &inside]].concat(),
                "capturing",
            )
        } else {
            // `-Z root`: tcpdump would otherwise become a user who may not write here. `-B` is KiB of kernel buffer.
            let line = [
                "tcpdump", "-i", interface, "-n", "-s", "0", "-B", "65536", "-Z", "root", "-w",
                &inside,
            ];
            ("tcpdump writes every packet", line.to_vec(), "listening on")
        };
        let mut witness = namespace.spawn(name, line)?;
        witness.wait_for_log(ready, PATIENCE)?;
        Ok(Capture {
            witness,
            witness_is,
            file: world.outside(&file),
        })
    }

    /// Who captures, and how completely.
    pub fn witness(&self) -> &'static str {
        self.witness_is
    }

    /// Ends the capture and sorts what it saw. `marker` is the text that nobody should have been able to read.
    ///
    /// # Errors
    /// When the witness ended before, or its file can't be read.
    pub fn finish(self, marker: &str) -> Result<Sorted> {
        self.witness.stop(Signal::SIGINT, PATIENCE)?;
        let doing = || format!("reading the capture {}", self.file.display());
        let file = File::open(&self.file).map_err(io(doing()))?;
        let mut packets = pcap::Reader::new(BufReader::new(file)).map_err(io(doing()))?;
        let link = packets.link();
        let mut sorted = Sorted::default();
        while let Some(packet) = packets.next().map_err(io(doing()))? {
            sorted.add(link, packet, marker.as_bytes());
        }
        if sorted.total() == 0 {
            let seen = "an empty capture".into();
            return Err(WorldError::Unexpected {
                what: "the capture should have packets".into(),
                seen,
            });
        }
        Ok(sorted)
    }
}
