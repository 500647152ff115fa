//! The command as it is typed, and what a board reads then. There is no daemon.

use std::fs;
use std::path::Path;

use acorn_core::provision::{Provisioning, Underlay, decode};

use super::*;
use crate::cli::{self, Cli};

const FAR: u64 = 4_000_000_000;

fn token(endpoint: &str, expires: u64) -> String {
    JoinToken::generate(NodeKey([9; 32]), &[endpoint.parse().unwrap()], expires).unwrap().0.encode()
}

/// Runs `acorn firmware provision` with words and gives what it prints.
fn provision(words: &[&str]) -> Result<String, String> {
    let words = ["acorn", "firmware", "provision"].into_iter().chain(words.iter().copied());
    let cli = Cli::read_from(words).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut out = Vec::new();
    runtime.block_on(cli::run(&cli, &mut out)).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn read(path: &Path) -> Provisioning {
    decode(&fs::read(path).unwrap()).unwrap()
}

fn public(provisioning: &Provisioning) -> NodeKey {
    Identity::from(crate::identity::PrivateKey::from(zeroize::Zeroizing::new(*provisioning.key.as_bytes()))).public()
}

#[test]
fn a_board_reads_what_was_typed() {
    let dir = tempfile::tempdir().unwrap();
    let (file, blob) = (dir.path().join("token"), dir.path().join("board.bin"));
    fs::write(&file, format!("{}\n", token("192.168.1.2:50104", FAR))).unwrap();
    let words = "--name greenhouse-7 --ip 192.168.1.20/24 --gateway 192.168.1.1 --port 7 --serve farm.prod.telemetry.prod \
                 --call 10.30.0.1:80 --every 5";
    let mut words: Vec<&str> = words.split_whitespace().collect();
    words.extend(["--token-file", file.to_str().unwrap(), "--output", blob.to_str().unwrap()]);
    let shown = provision(&words).unwrap();
    let told = read(&blob);
    assert_eq!((told.name.as_str(), told.port), ("greenhouse-7", 7));
    let (address, gateway) = ([192, 168, 1, 20].into(), Some([192, 168, 1, 1].into()));
    assert_eq!(told.underlay, Underlay::Static { address, prefix: 24, gateway });
    assert_eq!(told.serve, Some("farm.prod.telemetry.prod".parse().unwrap()));
    assert_eq!(told.call, Some(Call { address: [10, 30, 0, 1].into(), port: 80, period_s: 5 }));
    assert_eq!(told.managers[0].endpoint.get(), Some("192.168.1.2:50104".parse().unwrap()));
    assert!(shown.contains(&format!("key      {}\n", public(&told))), "{shown}");
    assert!(shown.contains(&format!("firmware flash --board BOARD --provisioning {}\n", blob.display())), "{shown}");

    let error = provision(&words).unwrap_err();
    assert!(error.contains("board.bin exists"), "{error}");
    assert_eq!(read(&blob), told);
    words.push("--force");
    provision(&words).unwrap();
    assert_ne!(public(&read(&blob)), public(&told), "every run makes a new key");
}

#[test]
fn what_is_not_typed_has_a_default() {
    let dir = tempfile::tempdir().unwrap();
    let blob = dir.path().join("board.bin");
    let (token, output) = (token("192.0.2.1:50103", FAR), blob.to_str().unwrap());
    let shown =
        provision(&["--token", &token, "--name", "b", "--output", output, "--call", "10.30.0.1:80", "--json"]).unwrap();
    let told = read(&blob);
    assert_eq!((told.underlay, told.port, &told.serve), (Underlay::Dhcp, 50103, &None));
    assert_eq!(told.call.unwrap().period_s, 30);
    let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let expected = serde_json::json!({
        "name": "b",
        "node_key": public(&told).to_string(),
        "manager_key": NodeKey([9; 32]).to_string(),
        "manager_endpoint": "192.0.2.1:50103",
        "token_expires": FAR,
        "file": output,
        "bytes": fs::metadata(&blob).unwrap().len(),
    });
    assert_eq!(json, expected);
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let blob = dir.path().join("board.bin");
    let (good, output) = (token("192.0.2.1:50103", FAR), blob.to_str().unwrap());
    let (old, v6) = (token("192.0.2.1:50103", 1), token("[2001:db8::1]:50103", FAR));
    let with = |token: &str, more: &[&str]| {
        let error = provision(&[&["--token", token, "--name", "b", "--output", output], more].concat()).unwrap_err();
        assert!(!blob.exists(), "{error}");
        error
    };
    for (error, says) in [
        (with(&old, &[]), "expired: make a new one with `acorn token create`"),
        (with(&v6, &[]), "only [2001:db8::1]:50103: boards speak IPv4"),
        (with(&good[..40], &[]), "the join token is damaged"),
        (with("hello", &[]), "not a join token"),
        (with(&good, &["--token-file", "f"]), "cannot be used with"),
        (with(&good, &["--ip", "192.168.1.20"]), "like 192.168.1.20/24"),
        (with(&good, &["--ip", "192.168.1.0/24"]), "not that of a host in its network"),
        (with(&good, &["--ip", "192.168.1.20/24"]), "`--gateway`"),
        (with(&good, &["--ip", "192.168.1.20/24", "--gateway", "192.168.2.1"]), "the gateway is not another host"),
        (with(&good, &["--gateway", "192.168.1.1"]), "--ip"),
        (with(&good, &["--port", "0"]), "1..=65535"),
        (with(&good, &["--serve", "farm.prod"]), "exactly four parts"),
        (with(&good, &["--call", "10.30.0.1"]), "--call"),
        (with(&good, &["--call", "0.0.0.0:80"]), "the address of a service"),
        (with(&good, &["--every", "30"]), "--call"),
        (with(&good, &["--call", "10.30.0.1:80", "--every", "0"]), "1..=65535"),
    ] {
        assert!(error.contains(says), "{says}: {error}");
    }
    let error = provision(&["--name", "b", "--output", output]).unwrap_err();
    assert!(error.contains("--token <TOKEN>|--token-file <FILE>"), "{error}");
    let error = provision(&["--name", "b_7", "--token", &good, "--output", output]).unwrap_err();
    assert!(error.contains("not a node name"), "{error}");
    let missing = dir.path().join("missing");
    let error = provision(&["--name", "b", "--token-file", missing.to_str().unwrap(), "--output", output]).unwrap_err();
    assert!(error.contains("missing: can't be read") && !blob.exists(), "{error}");
}
