//! A capture of the packets of an interface of a world, and what it saw: packets by kind, and whether anybody could have
//! read them. The witness is tcpdump, or our own [`packets`](crate::traffic::packets) where tcpdump can't run.

pub(crate) mod pcap;
mod sorted;

pub use pcap::Link;
pub use sorted::Sorted;

use crate::world::{Daemon, Look, Namespace, Result, World, WorldError, io, wait_until};
use nix::sys::signal::Signal;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

/// The text of the datagram that marks the end of a capture.
pub const END: &str = "~ here the capture ends ~";

/// How long the witness may take to start, to write everything, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far from the end of the file the mark is looked for, in bytes. Farther would be more traffic after it than comes
/// between two looks.
const TAIL: u64 = 4 * 1024 * 1024;

/// A running capture. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    witness: Daemon,
    witness_is: &'static str,
    file: PathBuf,
    namespace: Namespace,
    /// The command line that sends the mark.
    mark: Vec<String>,
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
            let line = [traffic, &["capture", interface, &inside]].concat();
            (
                "a packet socket writes packets, though not all of a fast transfer (tcpdump needs root)",
                line,
                "capturing",
            )
        } else {
            // `-Z root`: tcpdump would otherwise become a user who may not write here. `-B` is KiB of kernel buffer.
            let options = ["-n", "-s", "0", "-U", "-B", "65536", "-Z", "root", "-i", interface, "-w", &inside];
            ("tcpdump writes every packet", [&["tcpdump"][..], &options].concat(), "listening on")
        };
        let mut witness = namespace.spawn(name, line)?;
        witness.wait_for_log(ready, PATIENCE)?;
        let mark = traffic.iter().chain(&["mark", interface]).map(|&word| word.to_owned()).collect();
        Ok(Capture { witness, witness_is, file: world.outside(&file), namespace: namespace.clone(), mark })
    }

    /// Who captures, and how completely.
    pub fn witness(&self) -> &'static str {
        self.witness_is
    }

    /// Ends the capture, once everything until now is in its file, and sorts what it saw. `marker` is the text that
    /// nobody should have been able to read.
    ///
    /// # Errors
    /// When the witness ended before, or its file can't be read, or there is nothing in it.
    pub fn finish(mut self, marker: &str) -> Result<Sorted> {
        self.drain()?;
        let sorted = self.sort(marker)?;
        self.witness.stop(Signal::SIGINT, PATIENCE)?;
        if sorted.total() == 0 {
            let seen = "an empty capture".into();
            return Err(WorldError::Unexpected { what: "the capture should have packets".into(), seen });
        }
        Ok(sorted)
    }

    /// Packets lie in the kernel for up to a second before tcpdump gets them, and are lost if it ends earlier. So the
    /// mark is sent until it comes out.
    fn drain(&mut self) -> Result<()> {
        let mut sent = false;
        wait_until("the end of the capture to be written", PATIENCE, || {
            self.witness.check()?;
            if !sent {
                // An interface has no IPv6 address in its first second.
                if let Err(error) = self.namespace.run(&self.mark) {
                    return Ok(Look::NotYet(error.to_string()));
                }
                sent = true;
            }
            let mut tail = Vec::new();
            let mut file = self.open()?;
            let length = file.metadata().map_err(io(self.doing()))?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).map_err(io(self.doing()))?;
            file.read_to_end(&mut tail).map_err(io(self.doing()))?;
            let marked = sorted::contains(&tail, END.as_bytes());
            Ok(if marked { Look::Holds(()) } else { Look::NotYet(format!("{length} bytes without the mark")) })
        })
    }

    /// Sorts the packets before the mark.
    fn sort(&self, marker: &str) -> Result<Sorted> {
        let mut packets = pcap::Reader::new(BufReader::new(self.open()?)).map_err(io(self.doing()))?;
        let link = packets.link();
        let mut sorted = Sorted::default();
        while let Some(packet) = packets.next().map_err(io(self.doing()))? {
            if packet.ends_with(END.as_bytes()) {
                break;
            }
            sorted.add(link, packet, marker.as_bytes());
        }
        Ok(sorted)
    }

    fn open(&self) -> Result<File> {
        File::open(&self.file).map_err(io(self.doing()))
    }

    fn doing(&self) -> String {
        format!("reading the capture {}", self.file.display())
    }
}
