//! `paperbot-mcpd`: the daemon's command line. Everything it does is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use api::config::{self, Source};
use api::daemon::{Daemon, Start, StartError};
use api::places::Places;
use api::{demo, local_runner, logging};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a configuration that cannot be used, as the CLI has it for bad arguments.
const BAD_CONFIG: u8 = 2;
/// Exit code after a second signal.
const FORCED: u8 = 1;
/// Open files wanted: connections, children's pipes and sockets of ten thousand sessions.
const WANTED_FILES: u64 = 65_536;

/// The bridge between MCP servers and whoever wants their tools.
#[derive(Debug, Parser)]
#[command(name = "paperbot-mcpd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the bridge (also without any command).
    Serve {
        /// The configuration file; without one the built-in demo server is there.
        #[arg(long, env = "PAPERBOT_CONFIG")]
        config: Option<PathBuf>,
    },
    /// The configuration file's schema and check.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The built-in demo server, on stdin and stdout.
    DemoServer,
    /// Runs servers for a daemon of the same user and outlives it; started by the daemon alone.
    #[command(hide = true)]
    LocalAgent {
        /// Where it listens.
        #[arg(long)]
        socket: PathBuf,
        /// Under which id the daemon knows it.
        #[arg(long)]
        id: String,
        /// How long it lives without a daemon.
        #[arg(long)]
        orphan_ms: u64,
    },
    /// The version.
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints the JSON Schema of the file.
    Schema,
    /// Checks a file, and the servers in it, without starting anything.
    Check {
        /// The file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    // First: before threads and before a runtime, this process may have to be a supervisor.
    transports::supervise::run_if_supervisor();
    let arguments = Arguments::parse();
    let outcome = match arguments.command.unwrap_or(Command::Serve {
        config: std::env::var_os("PAPERBOT_CONFIG").map(PathBuf::from),
    }) {
        Command::Serve { config } => serve(config),
        Command::Config(ConfigCommand::Schema) => schema(),
        Command::Config(ConfigCommand::Check { file }) => return check(file),
        Command::DemoServer => demo_server(),
        Command::LocalAgent {
            socket,
            id,
            orphan_ms,
        } => local_agent(socket, &id, Duration::from_millis(orphan_ms)),
        Command::Version => {
            println!("paperbot-mcpd {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        // A `StartError` tells its cause itself.
        let start = error.downcast_ref::<StartError>();
        match start {
            Some(told) => eprintln!("paperbot-mcpd: {told}"),
            None => eprintln!("paperbot-mcpd: {error:#}"),
        }
        let bad_config = matches!(start, Some(StartError::Config(_)))
            || error.downcast_ref::<config::ConfigError>().is_some();
        ExitCode::from(if bad_config { BAD_CONFIG } else { FORCED })
    })
}

fn serve(path: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    keep_off_huge_pages();
    keep_to_itself();
    let source = Source::new(path);
    // Before a key is made or anything listens.
    if let Err(errors) = api::daemon::check(&source) {
        return Ok(refused(&errors));
    }
    logging::start(&source.load()?.telemetry.log);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let places = Places::from_environment();
        let daemon = Daemon::start(Start { source, places }).await?;
        eprintln!("listening on http://{}", daemon.address());
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("shutting down; a second signal ends at once");
        tokio::select! {
            () = daemon.shutdown() => Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => Ok(ExitCode::from(FORCED)),
            _ = interrupt.recv() => Ok(ExitCode::from(FORCED)),
        }
    });
    // After a second signal nothing is waited for.
    runtime.shutdown_background();
    outcome
}

/// Best effort: the allocator asks for pages of 2 MiB, of which an idle bridge would use a few KiB each (11 MiB of 34
/// when it was measured).
fn keep_off_huge_pages() {
    let _ = nix::sys::prctl::set_thp_disable(true);
}

/// Its memory and its environment hold secrets: no other process of the same user may look into them, and
/// they end up in no core dump. (Root may all the same.)
fn keep_to_itself() {
    let _ = nix::sys::prctl::set_dumpable(false);
}

/// Best effort: a low limit shows when connections are refused, and is logged there.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = WANTED_FILES.clamp(soft, hard.max(soft));
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

fn schema() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&config::schema())?);
    Ok(ExitCode::SUCCESS)
}

fn check(file: PathBuf) -> ExitCode {
    match api::daemon::check(&Source::new(Some(file))) {
        Ok(count) => {
            println!("valid: {count} servers");
            ExitCode::SUCCESS
        }
        Err(errors) => refused(&errors),
    }
}

/// Says every complaint about a configuration.
fn refused(errors: &[config::ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("{error}");
    }
    ExitCode::from(BAD_CONFIG)
}

fn local_agent(socket: PathBuf, id: &str, orphan: Duration) -> anyhow::Result<ExitCode> {
    local_runner::agent::leave_session();
    logging::start(&config::File::default().telemetry.log);
    let id = transports::tunnel::AgentId::new(id)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let start = local_runner::agent::Start { socket, id, orphan };
    runtime.block_on(local_runner::agent::run(start))?;
    Ok(ExitCode::SUCCESS)
}

fn demo_server() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(demo::serve())
        .map_err(|error| anyhow::anyhow!(error))
        .context("the demo server could not speak with its client")?;
    Ok(ExitCode::SUCCESS)
}
