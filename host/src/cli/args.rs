//! What the command line takes, and its help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use acorn_core::addr::Subnet4;
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, value_parser};

use super::address_flags::AddressFlags;
use super::firmware::FirmwareCommand;
use super::store::StoreCommand;
use crate::api::types::{LOAD_MAX, NetnsName, TOKEN_EXPIRY_MAX_S, TOKENS_MAX};
use crate::config::{DEFAULT_SOCKET, NodeName, Overrides, Role, Secret};
use crate::net::IfName;
use crate::root::StoreUrl;
use crate::sla::ServiceName;

/// The heading of the flags that every command takes.
const GLOBAL: &str = "Options of every command";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "acorn",
    version,
    about = "An overlay network in which services have stable addresses of their own",
    long_about = "An overlay network in which services have stable addresses of their own. An application dials a service \
                  IP; acorn picks an instance of the service, wherever it runs, and carries the packets there, encrypted.",
    after_help = "A first network on one machine, as root:\n  \
                  acorn up &\n  \
                  acorn service create --name app.prod.web.prod\n  \
                  acorn instance attach --service app.prod.web.prod --netns web1\n  \
                  acorn service show app.prod.web.prod",
    arg_required_else_help = true
)]
pub struct Cli {
    /// The control socket of the daemon [default: /run/acorn/acorn.sock]
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    pub(super) socket: Option<PathBuf>,
    /// Print the API's JSON instead of a table
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,
    /// What to log to stderr: error, warn, info, debug, trace or a filter; the environment variable ACORN_LOG does the same
    #[arg(long, global = true, value_name = "FILTER", help_heading = GLOBAL)]
    pub(super) log: Option<String>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the root of a network: it owns services, addresses and nodes
    #[command(after_help = "Example:\n  acorn root --listen 0.0.0.0:50103 --advertise 198.51.100.7:50103")]
    Root(RootArgs),
    /// Run a node of a network, or list the nodes (`acorn node ls`)
    #[command(after_help = "Examples:\n  acorn node --token-file /etc/acorn/token    join a network and run\n  \
                      acorn node                                  run again\n  \
                      acorn node ls                               list the nodes of the network (asks a root)")]
    Node {
        #[command(subcommand)]
        list: Option<NodeCommand>,
        #[command(flatten)]
        args: WorkerArgs,
    },
    /// Run a cluster: a manager between the root and the nodes of one site, which go on without the root
    #[command(after_help = "Example:\n  acorn cluster --token-file token --advertise 198.51.100.20:50103")]
    Cluster(ClusterArgs),
    /// Run a root and a node in one process: a network on one machine, ready for others to join
    #[command(after_help = "Example:\n  acorn up --subnet 10.18.30.64/26")]
    Up(UpArgs),
    /// End the daemon and remove everything that it made on this host
    #[command(after_help = "Example:\n  acorn down")]
    Down,
    /// Create, list, show and remove services (asks a root)
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Connect, set and disconnect the instances of services on this node
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Make tokens that let nodes join (asks a root)
    #[command(subcommand)]
    Token(TokenCommand),
    /// Show the daemon: its addresses, peers and counters
    #[command(after_help = "Example:\n  acorn status --json")]
    Status,
    /// Show the services and instances that this node knows
    #[command(after_help = "Example:\n  acorn table")]
    Table,
    /// Show why this node dropped packets
    #[command(after_help = "Example:\n  acorn drops")]
    Drops,
    /// Prepare microcontrollers
    #[command(subcommand)]
    Firmware(FirmwareCommand),
    /// Export and import a root's store
    #[command(subcommand)]
    Store(StoreCommand),
    /// Check configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Where a daemon's configuration and state are.
#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct HomeArgs {
    /// The configuration file; without one, defaults and flags
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The directory of the key and the durable state [default: /var/lib/acorn]
    #[arg(long, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
}

/// Where a root's store is.
#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct StoreArgs {
    /// Where the root keeps its state: etcd://HOST:PORT[,HOST:PORT...]/PREFIX [default: a file in the state directory]
    #[arg(long, value_name = "URL")]
    pub(super) store: Option<StoreUrl>,
}

#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct DaemonArgs {
    #[command(flatten)]
    home: HomeArgs,
    /// Where the overlay's UDP socket listens [default: 0.0.0.0:50103]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The endpoint that others reach this machine at, if it is behind a NAT
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<SocketAddr>,
}

/// What brings a node or a cluster into a network.
#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct JoinArgs {
    /// The name in lists [default: the first part of the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
    /// The join token, for the first start; other users of this host can see it in the process list
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<Secret>,
    /// A file with the join token, for the first start
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct RootArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct ClusterArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    join: JoinArgs,
}

#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// The name of the TUN interface [default: acorn0]
    #[arg(long, value_name = "NAME")]
    tun: Option<IfName>,
    /// The worker subnet to ask the root for, like 10.18.30.64/26; without it the root picks one
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<Subnet4>,
    #[command(flatten)]
    join: JoinArgs,
}

#[derive(Debug, Default, PartialEq, Args)]
pub(super) struct UpArgs {
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// List the nodes of the network (asks a root)
    #[command(after_help = "Example:\n  acorn node ls")]
    Ls,
}

#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Reserve the addresses of a service, or of all services of an SLA
    #[command(
        after_help = "A service gets an address under each policy whose flags are there, and under RR when none are. The root \
                            picks what is not given, is `auto` or has no value.\n\n\
                            Examples:\n  acorn service create --name app.prod.web.prod\n  \
                            acorn service create --name app.prod.web.prod --rr-ip 10.30.0.1 --rr-ip-v6 fdff:2000::1\n  \
                            acorn service create --sla web.json"
    )]
    Create(CreateArgs),
    /// List the services
    #[command(after_help = "Example:\n  acorn service ls")]
    Ls,
    /// Show a service, its addresses and its instances
    #[command(after_help = "Example:\n  acorn service show app.prod.web.prod")]
    Show {
        /// The service: app.app_ns.service.service_ns
        name: ServiceName,
    },
    /// Remove a service and free its addresses
    #[command(after_help = "Example:\n  acorn service rm app.prod.web.prod")]
    Rm {
        /// The service: app.app_ns.service.service_ns
        name: ServiceName,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// An SLA in Oakestra's JSON; `-` reads it from stdin
    #[arg(long, value_name = "FILE", required_unless_present = "name", conflicts_with = "name")]
    pub(super) sla: Option<PathBuf>,
    /// The service: app.app_ns.service.service_ns, each part 1 to 30 letters and digits
    #[arg(long)]
    pub(super) name: Option<ServiceName>,
    #[command(flatten)]
    pub(super) addresses: AddressFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// Connect a container or another network namespace as an instance of a service
    #[command(after_help = "Examples:\n  acorn instance attach --service app.prod.web.prod --netns web1\n  \
                            acorn instance attach --service app.prod.web.prod --pid $(pgrep -o nginx)\n  \
                            acorn instance attach --service app.prod.web.prod --number 0 --netns web1    move instance 0 here\n  \
                            acorn instance attach --service app.prod.web.prod --netns spare --priority 1    a spare")]
    Attach(AttachArgs),
    /// Set how an instance of this node is picked for new flows; what is not given stays as it is
    #[command(
        after_help = "Examples:\n  acorn instance set --service app.prod.web.prod --number 0 --draining true    no new flows\n  \
                            acorn instance set --service app.prod.web.prod --number 0 --weight 3\n  \
                            acorn instance set --service app.prod.web.prod --number 0 --load 250    a quarter busy"
    )]
    Set(SetArgs),
    /// Disconnect an instance of this node
    #[command(after_help = "Example:\n  acorn instance detach --service app.prod.web.prod --number 0")]
    Detach {
        /// The service: app.app_ns.service.service_ns
        #[arg(long)]
        service: ServiceName,
        /// The instance's number
        #[arg(long)]
        number: u32,
    },
}

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The service: app.app_ns.service.service_ns
    #[arg(long)]
    pub(super) service: ServiceName,
    /// The instance's number; without it the lowest free one. The number of an instance elsewhere moves it here
    #[arg(long)]
    pub(super) number: Option<u32>,
    /// A process in the network namespace
    #[arg(long, value_parser = value_parser!(u32).range(1..), required_unless_present = "netns", conflicts_with = "netns")]
    pub(super) pid: Option<u32>,
    /// The name of the network namespace, as `ip netns` lists it
    #[arg(long, value_name = "NAME")]
    pub(super) netns: Option<NetnsName>,
    /// Its share under the policy Weighted [default: 1, or what an instance that moves here had]
    #[arg(long, value_name = "N")]
    pub(super) weight: Option<u16>,
    /// Its rank under the policy Failover, the lowest comes first [default: 0, or what an instance that moves here had]
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<u16>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").args(["weight", "priority", "load", "draining"]).required(true).multiple(true))]
pub(super) struct SetArgs {
    /// The service: app.app_ns.service.service_ns
    #[arg(long)]
    pub(super) service: ServiceName,
    /// The instance's number
    #[arg(long)]
    pub(super) number: u32,
    /// Its share under the policy Weighted, 1 is normal
    #[arg(long, value_name = "N")]
    pub(super) weight: Option<u16>,
    /// Its rank under the policy Failover, the lowest comes first
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<u16>,
    /// How busy it is, in thousandths of what it can take; for the policy Underutilized, and forgotten when the root restarts
    #[arg(long, value_name = "0..1000", value_parser = value_parser!(u16).range(..=i64::from(LOAD_MAX)))]
    pub(super) load: Option<u16>,
    /// Whether it is going away: service IPs bring it no new flows, those that it has go on
    #[arg(long, value_name = "true|false")]
    pub(super) draining: Option<bool>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make join tokens, one per line; each admits one node or one cluster
    #[command(
        after_help = "Examples:\n  acorn token create > token\n  acorn token create --count 3 --expires 86400\n  \
                       acorn token create --cluster > cluster-token\n  acorn token create --via site-7 > token"
    )]
    Create {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=i64::from(TOKENS_MAX)))]
        count: u16,
        /// How long they can be used, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = value_parser!(u64).range(1..=TOKEN_EXPIRY_MAX_S))]
        expires: u64,
        /// The endpoint of the root (or of the cluster) as the nodes reach it; without it the one that is known
        #[arg(long, value_name = "ADDR:PORT")]
        endpoint: Option<SocketAddr>,
        /// Each admits a cluster instead of a node
        #[arg(long, conflicts_with = "via")]
        cluster: bool,
        /// The cluster (its name, or its key) through which the nodes are to join
        #[arg(long, value_name = "CLUSTER")]
        via: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration file and print what is in effect
    #[command(after_help = "Example:\n  acorn config check /etc/acorn/acorn.toml")]
    Check {
        /// The file
        file: PathBuf,
    },
}

impl DaemonArgs {
    fn put_into(&self, flags: &mut Overrides) -> &HomeArgs {
        flags.state.clone_from(&self.home.state);
        flags.listen = self.listen;
        flags.advertise = self.advertise;
        &self.home
    }
}

impl JoinArgs {
    fn put_into(&self, flags: &mut Overrides) {
        flags.name.clone_from(&self.name);
        flags.token.clone_from(&self.token);
        flags.token_file.clone_from(&self.token_file);
    }
}

impl WorkerArgs {
    fn put_into(&self, flags: &mut Overrides) -> &HomeArgs {
        flags.tun.clone_from(&self.tun);
        flags.subnet = self.subnet;
        self.join.put_into(flags);
        self.daemon.put_into(flags)
    }
}

impl Cli {
    /// Takes the command line, program name first.
    ///
    /// # Errors
    /// A usage error, or the text of `--help` and `--version`; `clap::Error::exit` prints either and ends the process.
    pub fn read_from<T: Into<OsString> + Clone>(words: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let cli = Self::try_parse_from(words)?;
        match &cli.command {
            // `args_conflicts_with_subcommands` would refuse the global flags as well.
            Command::Node { list: Some(_), args } if *args != WorkerArgs::default() => {
                let message = "`acorn node ls` takes none of the flags that run a node";
                Err(Self::command().error(ErrorKind::ArgumentConflict, message))
            }
            _ => Ok(cli),
        }
    }

    /// For the commands that run a daemon: its role, its configuration file and the flags that win over it.
    pub fn daemon(&self) -> Option<(Role, Option<&Path>, Overrides)> {
        let mut flags = Overrides { socket: self.socket.clone(), log: self.log.clone(), ..Overrides::default() };
        let (role, home) = match &self.command {
            Command::Root(args) => {
                flags.store.clone_from(&args.store.store);
                (Role::Root, args.daemon.put_into(&mut flags))
            }
            Command::Cluster(args) => {
                args.join.put_into(&mut flags);
                (Role::Cluster, args.daemon.put_into(&mut flags))
            }
            Command::Node { list: None, args } => (Role::Node, args.put_into(&mut flags)),
            Command::Up(args) => {
                flags.store.clone_from(&args.store.store);
                (Role::Up, args.worker.put_into(&mut flags))
            }
            _ => return None,
        };
        Some((role, home.config.as_deref(), flags))
    }

    /// The log filter of the command line.
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// The control socket to talk to.
    pub(super) fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(DEFAULT_SOCKET))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sla::OfferedPolicy;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::read_from(line.split(' '))
    }

    #[track_caller]
    fn assert_refused(line: &str, says: &str) {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_help_with_an_example() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says what it is for", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("acorn "), "{} has an example", command.get_name());
            }
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} explains {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn every_example_of_the_help_is_valid() {
        fn visit(command: &clap::Command, checked: &mut u32) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.starts_with("  acorn ")) {
                // What follows is for the shell, or says what the example does.
                let end = [" &", " > ", "    "].iter().filter_map(|end| line.trim_start().find(end)).min();
                let line = line.trim_start();
                let line = line[..end.unwrap_or(line.len())].replace("$(pgrep -o nginx)", "77");
                parse(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                *checked += 1;
            }
            command.get_subcommands().for_each(|command| visit(command, checked));
        }
        let mut checked = 0;
        visit(&Cli::command(), &mut checked);
        assert!(checked > 20, "{checked}");
    }

    #[test]
    fn a_daemon_takes_its_flags() {
        let cli = parse(
            "acorn up --config f --state s --listen 192.0.2.1:7 --advertise 192.0.2.2:8 --tun t0 --subnet 10.18.30.64/26 \
             --name n --token abc --socket k --log debug",
        )
        .unwrap();
        let (role, file, flags) = cli.daemon().unwrap();
        assert_eq!((role, file), (Role::Up, Some(Path::new("f"))));
        assert_eq!(flags.state.as_deref(), Some(Path::new("s")));
        assert_eq!(flags.socket.as_deref(), Some(Path::new("k")));
        assert_eq!(flags.listen, Some("192.0.2.1:7".parse().unwrap()));
        assert_eq!(flags.advertise, Some("192.0.2.2:8".parse().unwrap()));
        assert_eq!(flags.log.as_deref(), Some("debug"));
        assert_eq!(flags.tun.unwrap().as_str(), "t0");
        assert_eq!(flags.subnet.unwrap().to_string(), "10.18.30.64/26");
        assert_eq!(flags.name.unwrap().as_str(), "n");
        assert_eq!(flags.token.unwrap().reveal(), "abc");

        assert_eq!(parse("acorn root").unwrap().daemon().unwrap().0, Role::Root);
        assert_eq!(parse("acorn node --token-file f").unwrap().daemon().unwrap().0, Role::Node);
        assert_refused("acorn root --tun t0", "--tun");
        assert_refused("acorn cluster --store etcd://127.0.0.1:2379/a", "--store");
        assert_refused("acorn node --store etcd://127.0.0.1:2379/a", "--store");
        assert_refused("acorn node --token a --token-file f", "cannot be used with");
        assert_refused("acorn node --subnet 10.18.30.70/26", "write the base address");
        assert_refused("acorn node --listen 50103", "--listen");
    }

    #[test]
    fn node_ls_is_no_daemon() {
        assert!(parse("acorn node ls").unwrap().daemon().is_none());
        for line in ["acorn node ls --json --socket s", "acorn --json node --socket s ls"] {
            let cli = parse(line).unwrap();
            assert!(cli.json && cli.daemon().is_none());
            assert_eq!(cli.socket(), Path::new("s"));
        }
        assert_refused("acorn node --name n ls", "takes none of the flags");
    }

    #[test]
    fn a_service_is_created_from_an_sla_or_from_flags() {
        assert!(parse("acorn service create --sla f.json").is_ok());
        assert!(parse("acorn service create --name a.b.c.d --rr-ip 10.30.0.1 --rr-ip-v6 fdff:2000::1").is_ok());
        let all: String =
            OfferedPolicy::built_in().iter().map(|p| format!(" --{} auto", p.field.replace('_', "-"))).collect();
        let Command::Service(ServiceCommand::Create(create)) =
            parse(&format!("acorn service create --name a.b.c.d{all}")).unwrap().command
        else {
            panic!("another command");
        };
        let wanted: Vec<_> = create.addresses.wanted.into_iter().map(|wanted| wanted.policy).collect();
        assert_eq!(wanted, OfferedPolicy::built_in());
        assert_refused("acorn service create", "--sla");
        assert_refused("acorn service create --rr-ip 10.30.0.1", "--sla");
        assert_refused("acorn service create --sla f --name a.b.c.d", "cannot be used with");
        assert_refused("acorn service create --sla f --rr-ip 10.30.0.1", "cannot be used with");
        assert_refused("acorn service create --name a.b.c", "exactly four parts");
        assert_refused("acorn service create --name a.b.c_d.e", "only ASCII letters and digits");
        assert_refused("acorn service create --name a.b.c.d --rr-ip 10.30.999.1", "--rr-ip");
        assert_refused("acorn service show a..c.d", "1 to 30");
    }

    #[test]
    fn an_instance_is_in_one_namespace() {
        assert!(parse("acorn instance attach --service a.b.c.d --pid 7").is_ok());
        assert!(parse("acorn instance attach --service a.b.c.d --number 4294967295 --netns x").is_ok());
        assert_refused("acorn instance attach --service a.b.c.d", "--pid");
        assert_refused("acorn instance attach --service a.b.c.d --pid 7 --netns x", "cannot be used with");
        assert_refused("acorn instance attach --service a.b.c.d --pid 0", "0");
        assert_refused("acorn instance attach --service a.b.c.d --netns a/b", "ip netns");
        assert_refused("acorn instance attach --pid 7", "--service");
        assert!(parse("acorn instance attach --service a.b.c.d --pid 7 --weight 0 --priority 65535").is_ok());
        assert_refused("acorn instance attach --service a.b.c.d --pid 7 --weight 65536", "65536");
        assert_refused("acorn instance attach --service a.b.c.d --pid 7 --draining true", "--draining");
        assert_refused("acorn instance detach --service a.b.c.d", "--number");
        assert_refused("acorn instance detach --service a.b.c.d --number -1", "-1");
    }

    #[test]
    fn an_instance_is_set_within_limits() {
        assert!(parse("acorn instance set --service a.b.c.d --number 1 --draining false").is_ok());
        assert!(
            parse(
                "acorn instance set --service a.b.c.d --number 1 --weight 2 --priority 3 --load 1000 --draining true"
            )
            .is_ok()
        );
        assert_refused("acorn instance set --service a.b.c.d --number 1", "--weight");
        assert_refused("acorn instance set --service a.b.c.d --load 1", "--number");
        assert_refused("acorn instance set --service a.b.c.d --number 1 --load 1001", "0..=1000");
        assert_refused("acorn instance set --service a.b.c.d --number 1 --draining", "--draining");
        assert_refused("acorn instance set --service a.b.c.d --number 1 --draining yes", "true");
    }

    #[test]
    fn tokens_are_within_their_limits() {
        assert!(parse("acorn token create --count 1000 --expires 2592000 --endpoint [2001:db8::1]:50103").is_ok());
        assert_refused("acorn token create --count 0", "1..=1000");
        assert_refused("acorn token create --count 1001", "1..=1000");
        assert_refused("acorn token create --expires 2592001", "1..=2592000");
        assert_refused("acorn token create --endpoint example.com:50103", "--endpoint");
    }

    #[test]
    fn global_flags_work_before_and_after_the_command() {
        for line in ["acorn --json --socket s status", "acorn status --json --socket s"] {
            let cli = parse(line).unwrap();
            assert!(cli.json);
            assert_eq!(cli.socket(), Path::new("s"));
        }
        assert_eq!(parse("acorn status").unwrap().socket(), Path::new("/run/acorn/acorn.sock"));
    }

    #[test]
    fn help_and_version_are_no_failures() {
        assert_eq!(parse("acorn --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
        assert_eq!(parse("acorn --version").unwrap_err().exit_code(), 0);
        assert_refused("acorn", "Usage");
        assert_refused("acorn frobnicate", "frobnicate");
    }
}
