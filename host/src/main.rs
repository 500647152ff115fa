//! The `acorn` command: runs a daemon, or asks one that runs.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use acorn::cli::{self, Cli};
use acorn::config::Config;
use anyhow::anyhow;
use tokio::runtime;
use tracing_subscriber::EnvFilter;

/// Sets the log filter where `--log` does not.
const LOG_VARIABLE: &str = "ACORN_LOG";

fn main() -> ExitCode {
    let cli = Cli::read_from(env::args_os()).unwrap_or_else(|error| error.exit());
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let Some((role, file, flags)) = cli.daemon() else {
        init_log(cli.log(), "warn")?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        return Ok(runtime.block_on(cli::run(cli, &mut io::stdout().lock()))?);
    };
    let config = Config::load(file, &flags)?;
    init_log(cli.log(), &config.daemon.log)?;
    // Control only: the data plane has OS threads of its own.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(acorn::daemon::run(config, role))
}

/// Logs to stderr, by the first filter of: the flag, the environment, what is otherwise in effect.
fn init_log(flag: Option<&str>, otherwise: &str) -> anyhow::Result<()> {
    let variable = env::var(LOG_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let (source, filter) = match (flag, &variable) {
        (Some(flag), _) => ("--log", flag),
        (None, Some(variable)) => (LOG_VARIABLE, variable.as_str()),
        (None, None) => ("the log filter", otherwise),
    };
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        anyhow!("{source}: `{filter}` is no log filter ({error}); write a level like info, or info,acorn=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}
