//! `agent run`: this machine's tools behind the bridge, in the foreground, until it is told to end.
//! stdout stays empty; what happens is told on stderr.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::SecretString;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use transports::tunnel::agent::{
    AgentConfig, AgentError, AgentServer, AgentStatus, SpoolError, WebSocketDialer,
    run as run_agent,
};
use transports::tunnel::id::AgentId;

use crate::agent::check::{Plan, TokenSource};
use crate::agent::home::{Home, Written};
use crate::agent::log::{Redactions, StderrLog};
use crate::agent::{find, setting};
use crate::failure::Failure;
use crate::options::AgentFileOption;
use crate::output::Output;
use crate::places::Places;
use crate::verbs::config;

/// The status file is written no more often than this.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Runs the agent.
///
/// # Errors
/// 2 when its file or a secret is not right, 10 when it runs already.
pub(crate) fn run(
    options: &AgentFileOption,
    output: &Output,
    places: &Places,
) -> Result<(), Failure> {
    let file = find::find(options.config.as_deref(), places)?;
    let plan = config::plan(&file)?;
    let home = Home::of(&plan, places);
    let redactions = Redactions::default();
    let agent = configured(&plan, &home, &redactions)?;
    let dialer = dialer(&plan, redactions.clone())?;
    let least = if output.verbose {
        Level::DEBUG
    } else {
        Level::INFO
    };
    // Refused only when something else of this process logs already; there is nothing else.
    let _ = tracing::subscriber::set_global_default(StderrLog::new(least, redactions));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local_io("runtime", &error))?;
    let written = Written {
        agent_id: plan.id.clone(),
        url: plan.url.to_string(),
        config: std::path::absolute(&file).unwrap_or(file),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: unix_now(),
        status: AgentStatus::default(),
    };
    runtime.block_on(until_told(agent, dialer, (home, written)))
}

async fn until_told(
    agent: AgentConfig,
    dialer: WebSocketDialer,
    (home, written): (Home, Written),
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::local_io("signals", &error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let (status, told) = watch::channel(AgentStatus::default());
    let writing = tokio::spawn(write_status(home, written, told));
    let running = run_agent(agent, dialer, status, stop.clone());
    tokio::pin!(running);
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if asked {
            tracing::warn!("ending at once; what runs is answered when the agent is started again");
            return Ok(());
        }
        asked = true;
        tracing::info!("ending; a second signal ends at once");
        stop.cancel();
    };
    // The sender is gone with the run, so this ends after the last word.
    let _ = writing.await;
    ended.map_err(failure)
}

fn failure(error: AgentError) -> Failure {
    match error {
        AgentError::Spool(SpoolError::InUse(folder)) => {
            let mut failure = Failure::usage(format!(
                "this agent runs already (its state is in {})",
                folder.display()
            ))
            .hint("`paperbot-mcp agent status` shows it; another agent needs another id");
            "conflict".clone_into(&mut failure.code);
            failure.exit = 10;
            failure
        }
        AgentError::Spool(error) => {
            Failure::local_io("the agent's state", &std::io::Error::other(error))
        }
    }
}

/// The file with its secrets read.
fn configured(plan: &Plan, home: &Home, redactions: &Redactions) -> Result<AgentConfig, Failure> {
    let id = AgentId::new(&plan.id).map_err(|error| Failure::usage(error.to_string()))?;
    let mut agent = AgentConfig::new(id, home.spool());
    agent.label.clone_from(&plan.label);
    for server in &plan.servers {
        let secrets = |secret: SecretString| redactions.add(secret);
        let spec = server.resolve(&secrets).map_err(Failure::usage)?;
        agent.servers.push(AgentServer {
            name: server.name.to_string(),
            spec,
            allow_tools: server.allow_tools.clone(),
            deny_tools: server.deny_tools.clone(),
        });
    }
    agent.chunk_buffer_bytes = plan.chunk_buffer_bytes.unwrap_or(agent.chunk_buffer_bytes);
    agent.chunk_frame_bytes = plan.chunk_frame_bytes.unwrap_or(agent.chunk_frame_bytes);
    agent.reconnect_initial = plan.reconnect_initial.unwrap_or(agent.reconnect_initial);
    let longest = plan.reconnect_max.unwrap_or(agent.reconnect_max);
    agent.reconnect_max = longest.max(agent.reconnect_initial);
    Ok(agent)
}

fn dialer(plan: &Plan, redactions: Redactions) -> Result<WebSocketDialer, Failure> {
    let source = Arc::new(plan.token.clone());
    // Told now rather than with every attempt to connect.
    read_token(&source).map_err(Failure::usage)?;
    let reader = move || {
        let token = read_token(&source)?;
        redactions.add(token.clone());
        Ok(token)
    };
    WebSocketDialer::new(plan.url.clone(), reader)
        .map_err(|error| Failure::usage(error.to_string()))
}

fn read_token(source: &TokenSource) -> Result<SecretString, String> {
    use secrecy::ExposeSecret as _;
    let token = match source {
        TokenSource::Setting(setting) => setting.resolve()?,
        TokenSource::File(path) => {
            SecretString::from(setting::read_file(path).map_err(|why| {
                format!("the token file {why}; `paperbot-mcp agent pair` makes one")
            })?)
        }
    };
    let trimmed = token.expose_secret().trim();
    if trimmed.is_empty() || !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it is empty or holds characters no token has".to_owned());
    }
    Ok(SecretString::from(trimmed))
}

/// Writes each change down, until there are no more.
async fn write_status(home: Home, written: Written, mut told: watch::Receiver<AgentStatus>) {
    loop {
        let status = told.borrow_and_update().clone();
        let now = Written {
            status,
            ..written.clone()
        };
        if let Err(error) = home.write(&now) {
            let path: PathBuf = home.path().to_path_buf();
            tracing::warn!(%error, path = %path.display(), "the status cannot be written");
        }
        if told.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(STATUS_EVERY).await;
    }
}

fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
