//! The vectors of `acorn-vectors`: runs of the router that its model has agreed with, in a form that a microcontroller takes again.
//!
//! They are all regressions, and few of the runs that fuzzing has left behind, but everything is seen in them that is seen in any: see
//! [`Sight`]. Write them anew when the router, the format or what fuzzing has found has changed:
//! `ACORN_WRITE_VECTORS=1 cargo test -p acorn-tests --test sim vectors`.

use std::collections::BTreeSet;
use std::path::Path;

use acorn_core::packet::Checksum;
use acorn_core::stats::DropReason;
use acorn_core::{InstanceId, ServiceId};
use acorn_vectors::router::{self, Action, CHUNK_MAX, Outcome, PACKET_MAX, Replay};
use acorn_vectors::{Stream, WRITE};

use super::build::Sent;
use super::drive;
use super::steps::Step;
use super::wire::{Body, Packet};
use super::world::NODES;

/// The most bytes of the file: it has to stay small beside the program that carries it.
const FILE_MAX: usize = 108 * 1024;
/// The most bytes of a step in the file.
const STEP_MAX: usize = 2 * PACKET_MAX;

/// What makes one packet's fate unlike another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sight {
    is_outbound: bool,
    /// What became of it, and why when it went nowhere.
    fate: String,
    /// What it was; nothing when it is not well formed.
    packet: Option<Kind>,
}

/// What of a packet decides its fate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    v6: bool,
    protocol: u8,
    /// A fragment's place: the first, and the last.
    fragment: Option<(bool, bool)>,
    /// The flags of TCP, the type of ICMP.
    detail: u8,
    /// Whether a checksum is left to the network card, and whether segments are.
    offload: (bool, bool),
    /// IPv4 options, or IPv6 extension headers.
    has_options: bool,
    dont_fragment: bool,
}

/// A run as the file holds it: its steps, and what is seen in each.
struct Recorded {
    steps: Vec<(Vec<u8>, Option<Sight>)>,
}

#[test]
fn the_vectors_are_what_the_router_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/router.bin");
    let [regressions, corpus] = ["fuzz/regressions/router", "fuzz/corpus/router"].map(runs);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, choose(&regressions, &corpus)).expect("the directory can be written to");
    }
    let file = std::fs::read(&path).expect("a readable file");
    let (mut replay, mut room) = (Box::new(Replay::new()), Box::new([0; CHUNK_MAX]));
    let tally = router::judge(&mut replay, &mut room, &file, |failure| println!("{failure:?}"));
    println!("{tally:?} in {} bytes", file.len());
    assert!(
        tally.is_good(),
        "the router does not what the vectors say. If it should not any more, run this test with {WRITE}=1"
    );
    assert!(file.len() <= FILE_MAX, "the vectors have grown to {} bytes", file.len());

    let there = sights_of(&file);
    let missing: Vec<_> = corpus.iter().flat_map(Recorded::sights).filter(|sight| !there.contains(sight)).collect();
    assert!(missing.is_empty(), "not seen in the vectors, so run this test with {WRITE}=1: {missing:#?}");
}

/// The runs that the files of a directory make, in the order of their names.
fn runs(directory: &str) -> Vec<Recorded> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).expect("a directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| record(&std::fs::read(path).expect("a readable file"))).collect()
}

/// Takes the steps that these bytes say, and writes down what comes of them, up to the first packet that is too long for a microcontroller.
fn record(input: &[u8]) -> Recorded {
    let run = drive::play(input);
    let (mut replay, mut recorded, mut now) = (Box::new(Replay::new()), Recorded { steps: Vec::new() }, drive::START);
    recorded.take(&mut replay, Action::Begin(NODES.len() as u8));
    for step in run.story() {
        match &**step {
            Step::Wait(millis) => now += millis,
            step => match action(step, now) {
                Some(action) => recorded.take(&mut replay, action),
                None => return recorded,
            },
        }
    }
    let counters = format!("{:?}", run.counters());
    assert_eq!(format!("{:?}", replay.counters()), counters, "what is recorded is not what the model has agreed with");
    recorded
}

/// A step as a vector has it; none for a packet that is too long.
fn action(step: &Step, now: u64) -> Option<Action<'_>> {
    let instance = |(service, number)| InstanceId { service: ServiceId(service), number };
    Some(match *step {
        Step::Wait(_) => return None,
        Step::Outbound(ref sent) => Action::Outbound(now, packet(sent)?),
        Step::Inbound(node, ref sent) => Action::Inbound(now, node, packet(sent)?),
        Step::Service(id, ref ips) => Action::Service(id, [ips.first().copied(), ips.get(1).copied()]),
        Step::Complete(id, is_complete) => Action::Complete(id, is_complete),
        Step::RemoveService(id) => Action::RemoveService(id),
        Step::Put(placed) => Action::Put {
            id: instance((placed.service, placed.number)),
            node: placed.node,
            instance_ip: placed.instance_ip,
            namespace_ip: placed.namespace_ip,
            alive: placed.alive,
            draining: placed.draining,
        },
        Step::Withdraw(service, number) => Action::Withdraw(instance((service, number))),
        Step::Avoid(node, is_avoided) => Action::Avoid(node, is_avoided),
        Step::Attach(id, instance_ip, namespace_ip) => Action::Attach(instance(id), instance_ip, namespace_ip),
        Step::Detach(id) => Action::Detach(instance(id)),
        Step::Sweep => Action::Sweep,
        Step::Expire => Action::Expire(now),
        Step::OwnMtu(mtu) => Action::OwnMtu(mtu),
        Step::PathMtu(node, mtu) => Action::PathMtu(now, node, mtu),
    })
}

fn packet(sent: &Sent) -> Option<router::Packet<'_>> {
    router::Packet::new(&sent.bytes, sent.offload).filter(|_| sent.bytes.len() <= PACKET_MAX)
}

impl Recorded {
    fn take(&mut self, replay: &mut Replay, action: Action<'_>) {
        let outcome = replay.take(&action).expect("an action that can happen");
        assert_ne!(outcome, Outcome::Refused, "there is room for {action:?}");
        let step = router::Step { action, outcome };
        let mut buffer = [0; STEP_MAX];
        let bytes = acorn_vectors::write(&step, &mut buffer).expect("a step that is short enough").to_vec();
        self.steps.push((bytes, Sight::of(&step)));
    }

    fn sights(&self) -> impl Iterator<Item = &Sight> {
        self.steps.iter().filter_map(|(_, sight)| sight.as_ref())
    }

    /// How many steps it takes to see all of a run that was not seen before, what that is, and how many bytes it takes.
    fn news<'a>(&'a self, seen: &BTreeSet<&Sight>) -> (usize, BTreeSet<&'a Sight>, usize) {
        let (mut end, mut news) = (0, BTreeSet::new());
        for (at, (_, sight)) in self.steps.iter().enumerate() {
            if let Some(sight) = sight.as_ref().filter(|sight| !seen.contains(sight))
                && news.insert(sight)
            {
                end = at + 1;
            }
        }
        (end, news, self.steps[..end].iter().map(|(bytes, _)| bytes.len()).sum())
    }
}

/// The file of all regressions, and of the runs in which most is seen for their length, until all is.
fn choose(regressions: &[Recorded], corpus: &[Recorded]) -> Vec<u8> {
    let mut chosen: Vec<_> = regressions.iter().map(|run| whole(&run.steps)).collect();
    let mut seen: BTreeSet<_> = regressions.iter().flat_map(Recorded::sights).collect();
    loop {
        let all = corpus.iter().map(|run| (run, run.news(&seen)));
        let best = all.max_by_key(|(_, (_, news, bytes))| news.len() * 1_000_000 / (bytes + 1));
        let Some((run, (end, news, _))) = best.filter(|(_, (_, news, _))| !news.is_empty()) else { break };
        seen.extend(news);
        chosen.push(whole(&run.steps[..end]));
    }
    let (mut file, mut chunk) = (Vec::new(), Vec::new());
    for run in chosen {
        assert!(run.len() <= CHUNK_MAX, "a run of {} bytes", run.len());
        if chunk.len() + run.len() > CHUNK_MAX {
            file.extend(packed(&chunk));
            chunk.clear();
        }
        chunk.extend(run);
    }
    file.extend(packed(&chunk));
    file
}

/// A chunk of the file.
fn packed(runs: &[u8]) -> Vec<u8> {
    const BEST: u8 = 10;
    let chunk = miniz_oxide::deflate::compress_to_vec(runs, BEST);
    let mut buffer = [0; CHUNK_MAX + 64];
    acorn_vectors::write(&&chunk[..], &mut buffer).expect("not longer than it was").to_vec()
}

/// A part of a run, with its end.
fn whole(steps: &[(Vec<u8>, Option<Sight>)]) -> Vec<u8> {
    let mut bytes: Vec<_> = steps.iter().flat_map(|(bytes, _)| bytes).copied().collect();
    let mut replay = Box::new(Replay::new());
    for step in Stream::<router::Step<'_>>::new(&bytes) {
        replay.take(&step.expect("it was just written").action).expect("it has happened before");
    }
    let mut buffer = [0; STEP_MAX];
    let end = router::Step { action: Action::End, outcome: replay.take(&Action::End).expect("it can end") };
    bytes.extend(acorn_vectors::write(&end, &mut buffer).expect("a short step"));
    bytes
}

fn sights_of(file: &[u8]) -> BTreeSet<Sight> {
    let (mut sights, mut room) = (BTreeSet::new(), Box::new([0; CHUNK_MAX]));
    for chunk in Stream::<&[u8]>::new(file) {
        let steps = router::unpack(chunk.expect("a readable file"), &mut room).expect("a readable chunk");
        sights.extend(steps.filter_map(|step| Sight::of(&step.expect("a readable step"))));
    }
    sights
}

impl Sight {
    /// What is seen in a step, if it is a packet.
    fn of(step: &router::Step<'_>) -> Option<Self> {
        let (is_outbound, packet) = match &step.action {
            Action::Outbound(_, packet) => (true, packet),
            Action::Inbound(_, _, packet) => (false, packet),
            _ => return None,
        };
        let reason = |place: u8| DropReason::ALL[usize::from(place)].name();
        let fate = match step.outcome {
            Outcome::Forward { .. } => "forward".into(),
            Outcome::Fragment { .. } => "fragment".into(),
            Outcome::Deliver { .. } => "deliver".into(),
            Outcome::Reply { reason: place, .. } => format!("reply for {}", reason(place)),
            Outcome::Wait { asker, .. } => format!("wait, asked by {}", if asker.is_some() { "one" } else { "nobody" }),
            Outcome::Drop { reason: place } => format!("drop for {}", reason(place)),
            other => format!("{other:?}"),
        };
        let mut buffer = [0; PACKET_MAX];
        let len = packet.unfold(&mut buffer).expect("a packet that fits");
        let kind = Kind::of(&buffer[..len], packet);
        Some(Self { is_outbound, fate, packet: kind })
    }
}

impl Kind {
    fn of(bytes: &[u8], packet: &router::Packet<'_>) -> Option<Self> {
        let offload = packet.offload();
        let read = Packet::read(bytes, offload)?;
        let detail = match read.body {
            Body::Tcp { flags, .. } => flags,
            Body::EchoRequest { .. } => 8,
            Body::EchoReply { .. } => 0,
            Body::Message { kind } => kind,
            Body::Udp { .. } | Body::Other | Body::Behind => 0,
        };
        Some(Self {
            v6: read.v6,
            protocol: read.protocol,
            fragment: read.fragment.map(|fragment| (fragment.from == 0, !fragment.more)),
            detail,
            offload: (offload.checksum != Checksum::Full, offload.gso_size > 0),
            has_options: read.body_at > if read.v6 { 40 } else { 20 },
            dont_fragment: read.dont_fragment,
        })
    }
}
