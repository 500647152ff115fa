//! A reading: how the node is, as one line of JSON.

use acorn_core::ids::NODE_NAME_MAX;
use acorn_embassy::{Clashes, NodeStatus, Standing, Status};
use embassy_time::Instant;
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::board::Meter;

/// Room for the longest reading in bytes. It fits one datagram of the overlay.
pub const READING_MAX: usize = 800;

/// Where readings come from.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) name: heapless::String<NODE_NAME_MAX>,
    pub(crate) boot: u32,
    pub(crate) status: NodeStatus<'static>,
    pub(crate) clashes: &'static Clashes,
    pub(crate) meter: &'static dyn Meter,
}

impl Source {
    /// Writes a reading of now. What has no room is left out, the last first.
    pub(crate) fn read<'o>(&self, out: &'o mut [u8; READING_MAX]) -> &'o [u8] {
        let status = self.status.get();
        for detail in [Detail::All, Detail::Short] {
            let reading = Reading { source: self, status: &status, detail };
            if let Ok(len) = serde_json_core::to_slice(&reading, out) {
                return out.get(..len).unwrap_or(&[]);
            }
        }
        b"{}"
    }

    /// The node's standing, for people.
    pub(crate) fn standing(&self) -> Standing {
        self.status.get().standing
    }
}

/// How much a reading says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    /// Without the drops one by one.
    Short,
}

struct Reading<'a> {
    source: &'a Source,
    status: &'a Status,
    detail: Detail,
}

impl Serialize for Reading<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (status, source) = (self.status, self.source);
        let mut reading = serializer.serialize_struct("Reading", 13)?;
        reading.serialize_field("name", source.name.as_str())?;
        reading.serialize_field("uptime_s", &Instant::now().as_secs())?;
        reading.serialize_field("boot", &source.boot)?;
        reading.serialize_field("standing", status.standing.meaning())?;
        let (services, instances, nodes) = status.table;
        reading.serialize_field("services", &services)?;
        reading.serialize_field("instances", &instances)?;
        reading.serialize_field("nodes", &nodes)?;
        reading.serialize_field("flows", &status.flows)?;
        reading.serialize_field("tunnels", &status.tunnels.1)?;
        reading.serialize_field("clashes", &source.clashes.clashes())?;
        reading.serialize_field("counters", &CountersOf(status))?;
        reading.serialize_field("board", &BoardOf(source.meter))?;
        if self.detail == Detail::All {
            reading.serialize_field("drops", &DropsOf(status))?;
        }
        reading.end()
    }
}

/// The counters that are not 0.
struct CountersOf<'a>(&'a Status);

impl Serialize for CountersOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counters = &self.0.counters;
        let mut map = serializer.serialize_map(None)?;
        let own = [
            ("packets_out", counters.packets_out),
            ("packets_in", counters.packets_in),
            ("dropped", counters.dropped),
            ("overlay_full", counters.overlay_full),
            ("underlay_dropped", counters.underlay_dropped),
            ("underlay_strange", counters.underlay_strange),
            ("flows_evicted", counters.flows_evicted),
            ("pages", counters.sync.pages),
            ("table_full", counters.sync.table_full),
            ("interests_full", counters.sync.interests_full),
            ("resolve_timeouts", counters.sync.resolve_timeouts),
        ];
        let all = own.into_iter().chain(counters.tunnels.iter());
        for (name, count) in all.filter(|(_, count)| *count > 0) {
            map.serialize_entry(name, &count)?;
        }
        map.end()
    }
}

struct DropsOf<'a>(&'a Status);

impl Serialize for DropsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (reason, count) in self.0.drops() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

struct BoardOf(&'static dyn Meter);

impl Serialize for BoardOf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut outcome = Ok(());
        self.0.each(&mut |name, value| {
            if outcome.is_ok() {
                outcome = map.serialize_entry(name, &value);
            }
        });
        outcome?;
        map.end()
    }
}
