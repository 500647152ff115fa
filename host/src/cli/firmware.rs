//! `acorn firmware`: what a microcontroller needs before it is flashed. Asks no daemon.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use acorn_core::NodeKey;
use acorn_core::provision::{Call, DEFAULT_PORT};
use clap::{ArgGroup, Args, Subcommand, value_parser};
use serde::Serialize;

use super::command::CommandError;
use super::show::{Show, duration};
use super::text_table::TextTable;
use crate::config::{NodeConfig, NodeName, Secret};
use crate::firmware::{self, HostAddress, Order, ProvisionError};
use crate::identity::{Identity, JoinToken};
use crate::sla::ServiceName;

/// How often a board calls its collector unless it is told otherwise, in seconds.
const CALL_PERIOD_S: u16 = 30;

#[derive(Debug, Subcommand)]
pub(super) enum FirmwareCommand {
    /// Write the file that tells a board who it is: a new key, its manager, and what it serves
    #[command(after_help = "Each run makes a new key. A token admits one board.\n\n\
                            Examples:\n  acorn firmware provision --token-file token --name greenhouse-7 --output greenhouse-7.bin\n  \
                            acorn firmware provision --token-file token --name greenhouse-7 --ip 192.168.1.20/24 --gateway 192.168.1.1 \
                            --serve farm.prod.telemetry.prod --call 10.30.0.1:80 --output greenhouse-7.bin")]
    Provision(ProvisionArgs),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("join").args(["token", "token_file"]).required(true))]
pub(super) struct ProvisionArgs {
    /// The join token; other users of this host can see it in the process list
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// A file with the join token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The board's name in lists
    #[arg(long, value_name = "NAME")]
    name: NodeName,
    /// The board's address on the network that it is plugged into, like 192.168.1.20/24; without it the board asks by DHCP
    #[arg(long, value_name = "ADDR/PREFIX")]
    ip: Option<HostAddress>,
    /// The router of that network
    #[arg(long, value_name = "ADDR", requires = "ip")]
    gateway: Option<Ipv4Addr>,
    /// The UDP port of the overlay on the board
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT, value_parser = value_parser!(u16).range(1..))]
    port: u16,
    /// The service that the board is an instance of: app.app_ns.service.service_ns
    #[arg(long, value_name = "SERVICE")]
    serve: Option<ServiceName>,
    /// A service IP and its TCP port, which the board calls again and again
    #[arg(long, value_name = "ADDR:PORT")]
    call: Option<SocketAddrV4>,
    /// The seconds between two calls [default: 30]
    #[arg(long, value_name = "SECONDS", requires = "call", value_parser = value_parser!(u16).range(1..))]
    every: Option<u16>,
    /// The file to write; it holds the board's private key
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

/// What was written.
#[derive(Debug, Serialize)]
pub(super) struct Provisioned {
    name: NodeName,
    /// The board's public key.
    node_key: NodeKey,
    manager_key: NodeKey,
    manager_endpoint: SocketAddrV4,
    /// When the token ends, in seconds since 1970.
    token_expires: u64,
    file: PathBuf,
    bytes: usize,
    /// How long the token lives on, in seconds.
    #[serde(skip)]
    token_left_s: u64,
}

impl ProvisionArgs {
    /// Makes a key and writes the file.
    pub(super) fn run(&self) -> Result<Provisioned, CommandError> {
        let order = self.order()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let identity = Identity::generate().map_err(ProvisionError::Entropy)?;
        let provisioning = order.provisioning(&identity, now)?;
        let bytes = firmware::write(&self.output, &provisioning, self.force)?;
        Ok(Provisioned {
            name: order.name.clone(),
            node_key: identity.public(),
            manager_key: order.token.manager(),
            manager_endpoint: order.manager_endpoint()?,
            token_expires: order.token.expires(),
            file: self.output.clone(),
            bytes,
            token_left_s: order.token.expires().saturating_sub(now),
        })
    }

    fn order(&self) -> Result<Order, CommandError> {
        let join =
            NodeConfig { token: self.token.clone(), token_file: self.token_file.clone(), ..NodeConfig::default() };
        let token = join.read_token()?.expect("the command line demands one of --token and --token-file");
        let period_s = self.every.unwrap_or(CALL_PERIOD_S);
        Ok(Order {
            token: JoinToken::decode(token.reveal())?,
            name: self.name.clone(),
            address: self.ip,
            gateway: self.gateway,
            port: self.port,
            serve: self.serve.clone(),
            call: self.call.map(|at| Call { address: *at.ip(), port: at.port(), period_s }),
        })
    }
}

impl Show for Provisioned {
    fn show(&self) -> String {
        let mut facts = TextTable::new(["", ""]);
        let mut fact = |name: &str, value: String| facts.row([name.to_owned(), value]);
        fact("name", self.name.to_string());
        fact("key", self.node_key.to_string());
        fact("manager", format!("{} at {}", self.manager_key, self.manager_endpoint));
        fact("token", format!("ends in {}; it admits this board alone", duration(self.token_left_s)));
        fact("file", format!("{}, {} bytes; it holds the board's private key", self.file.display(), self.bytes));
        let next = format!("cargo xtask firmware flash --board BOARD --provisioning {}", self.file.display());
        fact("next", next);
        // The heading of the facts is an empty line.
        facts.to_string().trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests;
