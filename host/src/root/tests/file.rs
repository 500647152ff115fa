//! The file itself: made whole, kept to one process, and left alone when it can't be used.

use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};

use super::super::store::{Fault, read_image};
use super::super::{FILE_NAME, OpenError};
use super::restart::Random;
use super::*;

/// The length of redb's own header, with its two commit slots.
const HEADER: usize = 320;

fn open(path: &Path) -> Result<Root, OpenError> {
    Root::open(path, AddressPlan::DEFAULT, SETTINGS, own(), Instant::ZERO, UNIX)
}

fn request(name: &str) -> ServiceRequest {
    ServiceRequest { name: named(name), addresses: vec![round_robin(None, None)], fixed: Vec::new() }
}

/// A directory with a file that has a little of everything.
fn furnished() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let mut root = open(&path).unwrap();
    root.register_node_key(Instant::ZERO, node_key(1)).unwrap();
    let admission = root.hello(Instant::ZERO, sender(1), &hello(1)).unwrap();
    for name in ["a", "b"] {
        root.create_service(Instant::ZERO, request(name)).unwrap();
        let namespace_ip = admission.subnet.namespace_ip(1).unwrap().dual();
        root.attach(
            Instant::ZERO,
            admission.node,
            &Attach { request: 1, kind: new(name), namespace_ip },
            Adjustment::default(),
        )
        .unwrap();
    }
    (directory, path)
}

/// Opens it, expects a refusal, and expects the file to be as before.
fn refusal(path: &Path) -> String {
    let before = std::fs::read(path).unwrap();
    let text = open(path).err().expect("it must be refused").to_string();
    assert!(std::fs::read(path).unwrap() == before, "the file was touched");
    assert!(text.contains(&path.display().to_string()), "{text}");
    text
}

#[test]
fn a_file_keeps_everything_and_belongs_to_one_process_at_a_time() {
    let (directory, path) = furnished();
    let root = open(&path).unwrap();
    assert_eq!(root.services().len(), 2);
    assert_eq!(root.service(&named("b")).unwrap().instances.len(), 1);
    assert!(matches!(open(&path), Err(OpenError::InUse { .. })));
    let names: Vec<_> = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME], "nothing else is left there");
    drop(root);
    assert_eq!(open(&path).unwrap().nodes().len(), 1);
}

#[test]
fn a_start_that_died_while_it_made_the_file_is_no_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(path.with_added_extension("new"), b"half a file").unwrap();
    assert_eq!(open(&path).unwrap().services(), []);
}

#[test]
fn a_directory_that_is_not_there_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let error = open(&directory.path().join("missing").join(FILE_NAME)).err().unwrap();
    assert!(matches!(error, OpenError::Io { .. }));
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_left_alone() {
    let (_directory, path) = furnished();
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<&str, u32>::new("meta")).unwrap().insert("format", 4).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(refusal(&path).contains("has format 4, this version of acorn knows formats up to 3"));
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    for content in [&b""[..], b"x", &[0; 100_000], b"redb\x1a\x0a\xa9\x0d\x0a and nothing behind it"] {
        std::fs::write(&path, content).unwrap();
        assert!(refusal(&path).contains("is damaged"));
    }
    // A redb file, but of somebody else.
    std::fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    assert!(refusal(&path).contains("is damaged"));
}

#[test]
fn a_damaged_file_is_refused_and_left_alone() {
    let (_directory, path) = furnished();
    let good = std::fs::read(&path).unwrap();
    let name = good.windows(4).position(|window| window == b"test").unwrap();
    for harm in [&mut |bytes: &mut Vec<u8>| bytes[name] ^= 1, &mut |bytes: &mut Vec<u8>| bytes.truncate(name)]
        as [&mut dyn FnMut(&mut Vec<u8>); 2]
    {
        let mut bytes = good.clone();
        harm(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        assert!(refusal(&path).contains("is damaged"));
    }
    std::fs::write(&path, &good).unwrap();
    assert!(open(&path).is_ok());
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_or_changes_nothing() {
    let (_directory, path) = furnished();
    let good = std::fs::read(&path).unwrap();
    let rows = read_image(&good).unwrap();
    let mut random = Random(0x0dd_ba11);
    let used: Vec<_> = (0..good.len()).filter(|&at| good[at] != 0).collect();
    let anywhere = (0..400).map(|_| used[random.below(used.len() as u32) as usize]);
    let mut refused = 0;
    for at in (0..HEADER).chain(anywhere).collect::<Vec<_>>() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << random.below(8);
        match read_image(&bytes) {
            Ok(found) => assert_eq!(found, rows, "byte {at}"),
            Err(Fault::Damaged(_)) => refused += 1,
            Err(other) => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(refused > 50, "the harm was seen: {refused}");
}

#[test]
fn a_file_that_does_not_fit_the_plan_is_refused_and_left_alone() {
    let (_directory, path) = furnished();
    let before = std::fs::read(&path).unwrap();
    let other = plan_of("10.31.0.0/16");
    let error = Root::open(&path, other, SETTINGS, own(), Instant::ZERO, UNIX).err().unwrap();
    assert!(error.to_string().contains("service a.test.a.test has the address 10.30.0.1"), "{error}");
    assert!(std::fs::read(&path).unwrap() == before);
    // A larger plan that holds all of it is fine.
    let wider = PlanPools { worker_v4: "10.18.0.0-10.29.255.255".parse().unwrap(), ..PlanPools::DEFAULT };
    let wider = AddressPlan::new(wider).unwrap();
    assert!(Root::open(&path, wider, SETTINGS, own(), Instant::ZERO, UNIX).is_ok());
}
