//! A long series of HTTP requests, for tests that break something in the middle of it.

use super::http;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// How often the progress is told, in requests.
const PROGRESS: u32 = 250;
/// How long one request is tried again before the series is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause before another try. A dial into a broken network fails at once, and a busy loop would take the processor
/// from those who repair it.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends `count` requests one after another, each on a connection of its own and each until it is answered. Prints
/// `N answered` now and then, `request N failed: why` for every try that failed, and at the end `done: F tries failed, S1: n, ...`.
///
/// # Errors
/// When a request is not answered within 30 s.
pub fn run(address: SocketAddr, count: u32) -> Result<(), String> {
    let mut failed = 0;
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    for number in 1..=count {
        let deadline = Instant::now() + PATIENCE;
        let answer = loop {
            match http::get(address) {
                Ok(answer) => break answer,
                Err(error) => {
                    println!("request {number} failed: {error}");
                    failed += 1;
                    if Instant::now() >= deadline {
                        return Err(format!("given up at request {number}: {error}"));
                    }
                }
            }
            thread::sleep(PAUSE);
        };
        let name = answer.lines().next().unwrap_or_default();
        *answers.entry(name.to_owned()).or_default() += 1;
        if number % PROGRESS == 0 {
            println!("{number} answered");
        }
    }
    let counts: Vec<String> = answers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
    println!("done: {failed} tries failed, {}", counts.join(", "));
    Ok(())
}
