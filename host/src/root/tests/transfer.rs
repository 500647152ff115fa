//! Export and import.

use std::path::Path;

use super::super::{FILE_NAME, OpenError, TransferError, export_store, import_store};
use super::restart::{Random, Step, portrait};
use super::*;

fn open(path: &Path, now: Instant) -> Root {
    Root::open(path, AddressPlan::DEFAULT, SETTINGS, own(), now, UNIX + now.as_millis() / 1_000).unwrap()
}

/// A root on a file with a little of everything.
fn furnished(path: &Path) -> Rig {
    let mut rig = Rig { root: open(path, Instant::ZERO), ..Rig::new() };
    let mut random = Random(0x7777_1234_9999_abcd);
    for _ in 0..120 {
        Step::random(&mut random).run(&mut rig);
    }
    rig.root.begin(rig.now);
    let key = super::super::RequestKey::new("key").unwrap();
    rig.root.once(rig.now, &key, "what", |_| Ok::<_, ()>("answer \u{e9}\n".to_owned())).unwrap();
    rig.root.finish().unwrap();
    let fixed = vec![super::super::FixedAddress { number: 3, address: "fdff::77".parse().unwrap() }];
    let request = ServiceRequest { name: named("kept"), addresses: vec![round_robin(None, None)], fixed };
    rig.root.create_services(rig.now, vec![request]).unwrap();
    rig
}

#[test]
fn what_is_exported_and_imported_is_the_same_root() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join(FILE_NAME), directory.path().join("other.redb"));
    let rig = furnished(&from);
    let busy = export_store(&from).unwrap_err();
    assert!(matches!(busy, TransferError::Open(OpenError::InUse { .. })), "{busy}");
    let now = rig.now;
    drop(rig);
    let before = std::fs::read(&from).unwrap();
    let text = export_store(&from).unwrap();
    assert!(std::fs::read(&from).unwrap() == before, "the file was touched");
    for human in ["\"10.30.0.", "\"fdff::77\"", "kept.test.kept.test", &node_key(1).to_string()] {
        assert!(text.contains(human), "{human}: {text}");
    }
    let rows = import_store(&to, &text, AddressPlan::DEFAULT, UNIX).unwrap();
    assert_eq!(rows + 1, text.lines().count());
    assert_eq!(export_store(&to).unwrap(), text);
    let same = |path: &Path| portrait(&Rig { root: open(path, now), now, ..Rig::new() });
    assert_eq!(same(&to), same(&from));
}

#[test]
fn a_store_that_holds_something_or_is_not_there_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    assert!(matches!(export_store(&path), Err(TransferError::Open(OpenError::Io { .. }))));
    assert!(!path.exists(), "an export makes nothing");
    drop(furnished(&path));
    let text = export_store(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(import_store(&path, &text, AddressPlan::DEFAULT, UNIX), Err(TransferError::NotEmpty { .. })));
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn a_damaged_or_newer_export_is_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join(FILE_NAME), directory.path().join("other.redb"));
    drop(furnished(&from));
    let text = export_store(&from).unwrap();
    let refused = |text: &str, says: &str| {
        let error = import_store(&to, text, AddressPlan::DEFAULT, UNIX).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!to.exists(), "nothing was made");
    };
    let lines: Vec<_> = text.lines().collect();
    refused("", "line 1: it is empty");
    refused("{}", "line 1: it does not begin with the header");
    refused(
        &text.replacen("\"acorn_store\":3", "\"acorn_store\":4", 1),
        "has format 4, this version of acorn knows format 3",
    );
    refused(
        &text.replacen("\"acorn_store\":3", "\"acorn_store\":2", 1),
        "has format 2, this version of acorn reads format 3",
    );
    refused(&lines[..lines.len() - 1].join("\n"), "rows, and");
    refused(&[&lines[..], &lines[1..2]].concat().join("\n"), "twice, or not in its place");
    refused(&text[..text.len() - 20], &format!("in line {}", lines.len()));
    refused(&text.replacen("10.30.0.", "10.31.0.", 1), "does not fit the configured address pools");
    let services: Vec<_> = lines.iter().filter(|line| line.contains("{\"Service\"")).copied().collect();
    let without: Vec<_> = lines[1..].iter().filter(|line| !services.contains(line)).copied().collect();
    let header = format!("{{\"acorn_store\":3,\"rows\":{}}}", without.len());
    refused(&format!("{header}\n{}", without.join("\n")), "contradicts");
}
