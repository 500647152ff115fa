//! The files of known answers are what the documents and Wycheproof say, and both of Acorn's WireGuards give these answers: that of
//! the boards here as on target, and the libraries that the host's one is made of.
//!
//! Write the files anew after a change of the documents' vectors, of Wycheproof or of the format:
//! `ACORN_WRITE_VECTORS=1 cargo test -p acorn-vectors --test cryptography`.

mod documents;
mod sanstun;
mod wycheproof;

use std::fmt::Write as _;
use std::path::Path;

use acorn_vectors::cryptography::{
    CHACHA20_POLY1305, Case, Primitives, What, WireGuardSansIo, X25519, XCHACHA20_POLY1305, judge,
};
use acorn_vectors::{Stream, Tally, WRITE};

/// A file, what is in it, and how many of it are for parts that `ring` keeps to itself.
struct File {
    name: &'static str,
    content: &'static [u8],
    hidden: u32,
}

const FILES: [File; 3] = [
    File { name: "x25519.bin", content: X25519, hidden: 0 },
    File {
        name: "chacha20poly1305.bin",
        content: CHACHA20_POLY1305,
        hidden: documents::CHACHA20 + documents::POLY1305,
    },
    File { name: "xchacha20poly1305.bin", content: XCHACHA20_POLY1305, hidden: 0 },
];

#[test]
fn the_files_are_what_the_documents_and_wycheproof_say() {
    for file in FILES {
        let made = match file.name {
            "x25519.bin" => documents::x25519() + &wycheproof::x25519(),
            "chacha20poly1305.bin" => documents::chacha20_poly1305() + &wycheproof::chacha20_poly1305(),
            _ => documents::xchacha20_poly1305() + &wycheproof::xchacha20_poly1305(),
        };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file.name);
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(&path, &made.0).expect("the directory can be written to");
        }
        let is = std::fs::read(&path).expect("a readable file");
        assert!(is == made.0, "{} is out of date: run this test with {WRITE}=1", file.name);
    }
}

#[test]
fn the_cryptography_of_the_boards_gives_the_known_answers() {
    for file in FILES {
        let tally = held::<WireGuardSansIo>(&file);
        assert_eq!(tally.not_offered, 0);
    }
}

#[test]
fn the_cryptography_of_the_host_gives_the_known_answers() {
    for file in FILES {
        let tally = held::<sanstun::Primitives>(&file);
        assert_eq!(tally.not_offered, file.hidden);
    }
}

/// Both ways that data are looked at: genuine and forged, points that are refused and points that are not.
#[test]
fn the_files_hold_what_is_to_be_refused() {
    let cases = |file| Stream::<Case<'_>>::new(file).map(|case| case.expect("a readable file").what);
    let refused = cases(X25519).filter(|what| matches!(what, What::Exchange { shared, .. } if *shared == [0; 32]));
    assert_eq!(refused.count(), wycheproof::ZERO_SHARED_SECRETS);
    for file in [CHACHA20_POLY1305, XCHACHA20_POLY1305] {
        let forged = cases(file).filter(|what| matches!(what, What::Sealed { is_genuine: false, .. }));
        assert_eq!(forged.count(), wycheproof::FORGED);
    }
}

/// Holds an implementation against a file.
fn held<P: Primitives>(file: &File) -> Tally {
    let mut failures = String::new();
    let tally = judge::<P>(file.content, |failure| {
        let origin = failure.origin.map_or_else(|| format!("vector {}", failure.case), |origin| origin.to_string());
        let _ = writeln!(failures, "{origin}: {}", failure.flaw);
    });
    println!("{}: {tally:?}", file.name);
    assert!(tally.is_good(), "{}: {tally:?}\n{failures}", file.name);
    tally
}

/// Cases as a file holds them.
struct Bytes(Vec<u8>);

impl std::ops::Add<&Self> for Bytes {
    type Output = Self;

    fn add(mut self, more: &Self) -> Self {
        self.0.extend(&more.0);
        self
    }
}

impl Bytes {
    fn push(&mut self, case: &Case<'_>) {
        let mut buffer = [0; 2048];
        self.0.extend(acorn_vectors::write(case, &mut buffer).expect("a case of less than 2,048 bytes"));
    }
}
