//! The commands that end by themselves: those that ask a running daemon, and those that need none.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{
    AttachArgs, Cli, Command, ConfigCommand, CreateArgs, InstanceCommand, NodeCommand, ServiceCommand, SetArgs,
    TokenCommand,
};
use super::client::{Client, ClientError};
use super::firmware::FirmwareCommand;
use super::show::Show;
use super::store::Printed;
use crate::api::types::{
    AdjustRequest, AttachRequest, Attached, Drops, Namespace, Nodes, Service, Services, Status, Table, TokenRequest,
    Tokens,
};
use crate::config::{Config, ConfigError, Overrides};
use crate::firmware::ProvisionError;
use crate::identity::TokenDecodeError;
use crate::root::TransferError;
use crate::sla;
use acorn_core::addr::PlanError;

/// How long `acorn down` waits for the daemon to end.
const DOWN_PATIENCE: Duration = Duration::from_secs(30);
/// How often `acorn down` looks whether the daemon has ended.
const DOWN_LOOK: Duration = Duration::from_millis(20);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The daemon could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A configuration file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A join token is wrong.
    #[error(transparent)]
    Token(#[from] TokenDecodeError),
    /// A board can't be provisioned.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The SLA file can't be read.
    #[error("can't read the SLA {}: {reason}; check the path", .path.display())]
    Sla {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A store can't be exported or imported.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The configured address pools are no pools.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file can't be read.
    #[error("can't read {}: {reason}; check the path", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file can't be written.
    #[error("can't write {}: {reason}; choose another path", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The daemon was asked to end and has not.
    #[error("the daemon on {} is still ending after 30 s; look at its log", .0.display())]
    StillUp(PathBuf),
    /// There is nowhere to print to.
    #[error("can't write the output: {0}")]
    Output(io::Error),
}

/// Runs a command and writes its result to `out`. A daemon is not run here ([`Cli::daemon`]); for those nothing happens.
///
/// # Errors
/// [`CommandError`], whose text is written for the person at the terminal.
pub async fn run(cli: &Cli, out: &mut dyn Write) -> Result<(), CommandError> {
    let text = Session { client: Client::new(cli.socket()), cli }.output().await?;
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads the output has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CommandError::Output),
    }
}

struct Session<'a> {
    client: Client,
    cli: &'a Cli,
}

impl Session<'_> {
    async fn output(&self) -> Result<String, CommandError> {
        match &self.cli.command {
            Command::Root(_) | Command::Cluster(_) | Command::Up(_) | Command::Node { list: None, .. } => {
                Ok(String::new())
            }
            Command::Node { list: Some(NodeCommand::Ls), .. } => self.get::<Nodes>("/v1/nodes").await,
            Command::Status => self.get::<Status>("/v1/status").await,
            Command::Table => self.get::<Table>("/v1/table").await,
            Command::Drops => self.get::<Drops>("/v1/drops").await,
            Command::Down => self.down().await,
            Command::Service(command) => self.service(command).await,
            Command::Instance(InstanceCommand::Attach(args)) => self.attach(args).await,
            Command::Instance(InstanceCommand::Set(args)) => self.set(args).await,
            Command::Instance(InstanceCommand::Detach { service, number }) => {
                let done = format!("detached instance {number} of {service}");
                self.delete(&format!("/v1/instances/{service}/{number}"), &done).await
            }
            Command::Token(TokenCommand::Create { count, expires, endpoint, cluster, via }) => {
                let request = TokenRequest {
                    count: *count,
                    expires_s: *expires,
                    endpoint: *endpoint,
                    cluster: *cluster,
                    via: via.clone(),
                };
                self.post::<Tokens>("/v1/tokens", to_json(&request)).await
            }
            Command::Firmware(FirmwareCommand::Provision(args)) => Ok(self.result(&args.run()?)),
            Command::Store(command) => Ok(match command.run()? {
                Printed::Raw(text) => text,
                Printed::Done(text) => self.done(&text),
            }),
            Command::Config(ConfigCommand::Check { file }) => self.check(file),
        }
    }

    async fn service(&self, command: &ServiceCommand) -> Result<String, CommandError> {
        match command {
            ServiceCommand::Create(args) => self.post::<Services>("/v1/services", sla_of(args)?).await,
            ServiceCommand::Ls => self.get::<Services>("/v1/services").await,
            ServiceCommand::Show { name } => self.get::<Service>(&format!("/v1/services/{name}")).await,
            ServiceCommand::Rm { name } => {
                self.delete(&format!("/v1/services/{name}"), &format!("removed {name}")).await
            }
        }
    }

    async fn attach(&self, args: &AttachArgs) -> Result<String, CommandError> {
        let namespace = match (args.pid, &args.netns) {
            (Some(pid), _) => Namespace::Pid(pid),
            (None, Some(name)) => Namespace::Name(name.clone()),
            (None, None) => unreachable!("the command line demands one of --pid and --netns"),
        };
        let (weight, priority) = (args.weight, args.priority);
        let request = AttachRequest { service: args.service.clone(), number: args.number, namespace, weight, priority };
        self.post::<Attached>("/v1/instances", to_json(&request)).await
    }

    async fn set(&self, args: &SetArgs) -> Result<String, CommandError> {
        let SetArgs { service, number, weight, priority, load, draining } = args;
        let change = AdjustRequest { weight: *weight, priority: *priority, load: *load, draining: *draining };
        self.client.request(Method::PATCH, &format!("/v1/instances/{service}/{number}"), to_json(&change)).await?;
        Ok(self.done(&format!("set instance {number} of {service}: {change}")))
    }

    async fn down(&self) -> Result<String, CommandError> {
        self.client.request(Method::POST, "/v1/down", Vec::new()).await?;
        let socket = self.cli.socket();
        let deadline = Instant::now() + DOWN_PATIENCE;
        while fs::symlink_metadata(socket).is_ok() {
            if Instant::now() > deadline {
                return Err(CommandError::StillUp(socket.to_owned()));
            }
            tokio::time::sleep(DOWN_LOOK).await;
        }
        Ok(self.done("acorn is down"))
    }

    fn check(&self, file: &Path) -> Result<String, CommandError> {
        let config = Config::load(Some(file), &Overrides::default())?;
        if self.cli.json {
            return Ok(format!("{}\n", pretty(&config)));
        }
        let values = toml::to_string(&config).expect("every configuration can be written as TOML");
        Ok(format!("ok\n\n{values}"))
    }

    async fn get<T: Show + DeserializeOwned>(&self, path: &str) -> Result<String, CommandError> {
        let answer = self.client.request(Method::GET, path, Vec::new()).await?;
        self.answer::<T>(&answer)
    }

    async fn post<T: Show + DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<String, CommandError> {
        let answer = self.client.request(Method::POST, path, body).await?;
        self.answer::<T>(&answer)
    }

    async fn delete(&self, path: &str, done: &str) -> Result<String, CommandError> {
        self.client.request(Method::DELETE, path, Vec::new()).await?;
        Ok(self.done(done))
    }

    /// An answer as its JSON, with all that it has, or as text for people.
    fn answer<T: Show + DeserializeOwned>(&self, body: &[u8]) -> Result<String, CommandError> {
        let foreign = |error| self.client.broken(&format!("the answer is not what was expected: {error}"));
        if self.cli.json {
            let json: Value = serde_json::from_slice(body).map_err(foreign)?;
            return Ok(format!("{}\n", pretty(&json)));
        }
        Ok(serde_json::from_slice::<T>(body).map_err(foreign)?.show())
    }

    /// A result that was made here, as JSON or as text for people.
    fn result(&self, value: &(impl Show + Serialize)) -> String {
        if self.cli.json { format!("{}\n", pretty(value)) } else { value.show() }
    }

    /// The output of a command that has nothing to tell but that it worked.
    fn done(&self, text: &str) -> String {
        if self.cli.json { "{}\n".to_owned() } else { format!("{text}\n") }
    }
}

/// The SLA to send: a file as it is, so that the daemon's messages fit it, or one made of the flags.
fn sla_of(args: &CreateArgs) -> Result<Vec<u8>, CommandError> {
    let Some(path) = &args.sla else {
        let name = args.name.as_ref().expect("the command line demands one of --sla and --name");
        return Ok(to_json(&sla::from_flags(name, &args.addresses.wanted)));
    };
    let read = if path == Path::new("-") {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(path)
    };
    read.map_err(|reason| CommandError::Sla { path: path.clone(), reason })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("requests are plain data")
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("answers are plain data")
}

#[cfg(test)]
mod tests;
