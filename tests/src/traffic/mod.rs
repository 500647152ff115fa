//! The applications of the tests and the demo: an HTTP server and client, and a bulk transfer. They know nothing of
//! Acorn, only dial addresses, and write a text over the wire that is easily recognised: [`MARKER`].
//!
//! They run inside a namespace as `acorn-traffic ...` (or `xtask traffic ...`, which is the same):
//! - `serve NAME`: HTTP on port 80 and a sink on port 5001, IPv4 and IPv6; writes `serving` when both are open.
//! - `get ADDRESS:PORT [COUNT]`: COUNT requests one after another, each on a connection of its own; prints who answered.
//! - `send ADDRESS:PORT MEBIBYTES`: sends that much to a sink; prints the rate in Mbit/s.
//! - `capture INTERFACE FILE`: writes every packet to a pcap file; writes `capturing` when it does.
//! - `series ADDRESS:PORT COUNT`: COUNT requests one after another, each until it is answered; prints what failed.
//! - `socket tcp|udp|raw-PROTOCOL 4|6`: makes a socket and passes it out through its standard input ([`crate::sockets`]).
//! - `mark INTERFACE`: sends the datagram that marks the end of a capture.

pub mod bulk;
pub mod http;
pub mod mark;
pub mod packets;
pub mod series;

use crate::sockets::{self, Kind};
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;

/// In every HTTP answer and all over every bulk transfer. Whoever finds it in a capture could read the traffic.
pub const MARKER: &str = "~ plain text of the application, for nobody else to read ~";

const USAGE: &str = "usage: serve NAME | get ADDRESS:PORT [COUNT] | send ADDRESS:PORT MEBIBYTES \
                     | series ADDRESS:PORT COUNT | socket tcp|udp|raw-PROTOCOL 4|6 | capture INTERFACE FILE | mark INTERFACE";

/// Runs one of the programs. The exit status is 0 when everything worked.
pub fn main(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["serve", name] => serve(name),
        ["get", address] => get(parsed(address)?, 1),
        ["get", address, count] => get(parsed(address)?, parsed(count)?),
        ["send", address, mebibytes] => send(parsed(address)?, parsed(mebibytes)?),
        ["series", address, count] => series::run(parsed(address)?, parsed(count)?),
        ["socket", kind, family @ ("4" | "6")] => {
            let kind = Kind::of(kind).ok_or(USAGE)?;
            sockets::pass_out(kind, *family == "6").map_err(failed("passing a socket out"))
        }
        ["capture", interface, file] => packets::write(interface, Path::new(file), || println!("capturing"))
            .map_err(failed(&format!("capturing on {interface}"))),
        ["mark", interface] => mark::send(interface).map_err(failed(&format!("marking on {interface}"))),
        _ => Err(USAGE.into()),
    }
}

fn serve(name: &str) -> Result<(), String> {
    let http = http::Server::bind(http::PORT).map_err(failed("opening HTTP port 80"))?;
    let sink = bulk::Sink::bind(bulk::PORT).map_err(failed("opening the sink's port 5001"))?;
    println!("serving");
    thread::spawn(move || sink.run());
    http.run(name);
    Ok(())
}

fn get(address: SocketAddr, count: u32) -> Result<(), String> {
    for _ in 0..count {
        let answer = http::get(address).map_err(failed(&format!("GET http://{address}/")))?;
        println!("{}", answer.lines().next().unwrap_or_default());
    }
    Ok(())
}

fn send(address: SocketAddr, mebibytes: u32) -> Result<(), String> {
    let rate = bulk::send(address, mebibytes).map_err(failed(&format!("sending to {address}")))?;
    println!("{rate:.0}");
    Ok(())
}

fn parsed<T: FromStr<Err: Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("{word}: {error}\n{USAGE}"))
}

fn failed<E: Display>(doing: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{doing}: {error}")
}
