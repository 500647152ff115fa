//! What the client sees: ping, who answers, and how fast a transfer is.

use super::narrator::Told;
use acorn_tests::capture::Sorted;
use acorn_tests::example;
use acorn_tests::traffic::{MARKER, http};
use acorn_tests::world::Namespace;
use anyhow::{Context, Result, ensure};
use std::net::{IpAddr, SocketAddr};

/// Echo requests per ping.
const PINGS: usize = 3;

/// Pings an address from a namespace. Every echo request must be answered, the first one included.
///
/// # Errors
/// When one is not.
pub fn ping(from: &Namespace, address: IpAddr) -> Result<String> {
    let address = address.to_string();
    let count = PINGS.to_string();
    let output = from.run(["ping", "-n", "-c", &count, "-i", "0.2", "-W", "2", &address])?;
    ensure!(output.contains(&format!(" {PINGS} received")), "not every echo request was answered:\n{output}");
    let times = output.lines().find_map(|line| line.split_once("= ")).context("ping printed no times")?.1;
    let average = times.split('/').nth(1).context("ping printed no average")?;
    Ok(format!("{PINGS} of {PINGS} echo requests to {address} answered, {average} ms on average"))
}

/// HTTP requests through a service IP. S1 and S2 must take strict turns.
///
/// # Errors
/// When a request fails, or somebody answers out of turn.
pub fn turns(client: &Namespace, program: &[&str], service_ip: IpAddr, count: usize) -> Told<()> {
    let address = SocketAddr::new(service_ip, http::PORT);
    let answers = example::answers(client, program, &address.to_string(), count)?;
    let shown = answers.join(" ");
    ensure!(answers.len() == count, "{count} requests to {address}, but {} answers: {shown}", answers.len());
    ensure!(take_turns(&answers), "the instances did not take strict turns: {shown}");
    Ok(((), vec![format!("{count} requests to http://{address}/"), shown]))
}

/// One request to an instance IP, which only that instance may answer.
///
/// # Errors
/// When it fails or another one answers.
pub fn one(client: &Namespace, program: &[&str], instance_ip: IpAddr, name: &str) -> Result<String> {
    let address = SocketAddr::new(instance_ip, http::PORT);
    let answers = example::answers(client, program, &address.to_string(), 1)?;
    ensure!(answers == [name], "{name} should answer at {address}, but it was {}", answers.join(" "));
    Ok(format!("http://{address}/  {name}"))
}

/// The wire must have carried tunnel datagrams and the housekeeping of the link, and nothing else.
///
/// # Errors
/// Names what else there was.
pub fn only_tunnels(wire: &Sorted) -> Told<()> {
    let others: Vec<String> = wire.other.iter().map(|(kind, count)| format!("{count} of {kind}")).collect();
    ensure!(others.is_empty(), "the underlay also carried {}", others.join(", "));
    ensure!(wire.acorn > 0, "the underlay carried no tunnel datagram at all");
    let mebibytes = wire.acorn_bytes as f64 / (1024.0 * 1024.0);
    let lines = vec![
        format!("{} packets, of which", wire.total()),
        format!("{} are UDP from port 50103 to port 50103 ({mebibytes:.1} MiB)", wire.acorn),
        format!("{} are ARP, neighbour discovery and multicast reports of the link itself", wire.link),
        "0 are anything else".into(),
    ];
    Ok(((), lines))
}

/// The text of the application must be in the client's packets, or the search proves nothing, and not on the wire.
///
/// # Errors
/// When it is the other way round.
pub fn unreadable(wire: &Sorted, client: &Sorted) -> Told<()> {
    ensure!(client.readable > 0, "the text of the answers was not even found inside the client's container");
    ensure!(wire.readable == 0, "{} packets on the underlay contain the text of the application", wire.readable);
    let lines = vec![
        format!("searched for \"{MARKER}\""),
        format!("{} packets with it inside the client's container", client.readable),
        "0 packets with it on the underlay".into(),
    ];
    Ok(((), lines))
}

fn take_turns(answers: &[String]) -> bool {
    answers.iter().all(|name| name == "S1" || name == "S2") && answers.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn turns_are_strict_and_may_begin_with_either() {
        assert!(take_turns(&answers("S1 S2 S1 S2")));
        assert!(take_turns(&answers("S2 S1 S2")));
        assert!(!take_turns(&answers("S1 S2 S2 S1")));
        assert!(!take_turns(&answers("S1 S3 S1 S2")));
    }

    #[test]
    fn a_foreign_packet_or_readable_text_on_the_wire_fails() {
        let good = || Sorted { acorn: 5, link: 2, ..Sorted::default() };
        let client = Sorted { readable: 1, ..Sorted::default() };
        assert!(only_tunnels(&good()).is_ok());
        assert!(unreadable(&good(), &client).is_ok());

        let foreign = Sorted { other: [("IPv4 TCP 1 to 80".to_owned(), 1)].into(), ..good() };
        assert!(only_tunnels(&foreign).unwrap_err().to_string().contains("1 of IPv4 TCP 1 to 80"));
        assert!(unreadable(&Sorted { readable: 1, ..good() }, &client).is_err());
        assert!(unreadable(&good(), &good()).is_err(), "a search that finds nothing anywhere proves nothing");
        assert!(only_tunnels(&Sorted::default()).is_err());
    }
}
