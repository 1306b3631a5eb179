//! The composition root: configuration, store, broker, routes, listener, reload, and the end of all of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use broker::definition::TransportKind;
use broker::{Broker, BrokerError, BrokerOptions, Definition, Store, StoreError, VaultOptions};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use transports::ServerName;
use url::Url;

use crate::app::{App, FaceLimits, Live};
use crate::config::{ConfigError, File, Source};
use crate::demo;
use crate::first_key;
use crate::front::Front;
use crate::front::address::Addresses;
use crate::front::host::Names;
use crate::front::tries::LoginTries;
use crate::local_runner::Keeper;
use crate::mcp::Mcp;
use crate::pages::Pages;
use crate::places::Places;
use crate::reload::Reloader;
use crate::routes;
use crate::serve::Server;
use crate::tunnels::Tunnels;

/// Wishes to reload waiting for the one task that does it.
const RELOAD_QUEUE: usize = 8;
/// Pause between rounds of the metrics' upkeep.
const UPKEEP: Duration = Duration::from_secs(5);
/// A day.
const DAY: Duration = Duration::from_hours(24);

/// The daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The store cannot be opened.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The broker cannot start, or refuses the servers of the file.
    #[error("{0}")]
    Broker(#[from] BrokerError),
    /// The listener cannot be had.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// Where.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
    /// A directory or the key file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What a daemon is started with.
#[derive(Debug)]
pub struct Start {
    /// Where the configuration comes from; watched for changes when it is a file.
    pub source: Source,
    /// Directories.
    pub places: Places,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    app: Arc<App>,
    server: Server,
    reloader: tokio::task::JoinHandle<()>,
    upkeep: tokio::task::JoinHandle<()>,
    local_agent: Option<tokio::task::JoinHandle<()>>,
    grace: Duration,
}

impl Daemon {
    /// Starts everything; returns when requests are answered. Servers are reached later, when asked for.
    ///
    /// # Errors
    /// [`StartError`]; then nothing runs.
    pub async fn start(start: Start) -> Result<Self, StartError> {
        // Before anything listens or a first key is made.
        check(&start.source).map_err(first_of)?;
        let file = start.source.load()?;
        let listener = listen(&file).await?;
        let address = listener
            .local_addr()
            .map_err(|source| at(&file.listen, source))?;
        // Counters that begin with the broker would be lost without it.
        let metrics = recorder();
        let broker = start_broker(&file, &start.places, address).await?;
        if let Err(error) = settle_in(&broker, &file, &start).await {
            broker.shutdown(Duration::ZERO).await;
            return Err(error);
        }
        let mcp = match Mcp::start(&broker, file.mcp.limits()).await {
            Ok(mcp) => mcp,
            Err(error) => {
                broker.shutdown(Duration::ZERO).await;
                return Err(error.into());
            }
        };
        let (wishes, wanted) = mpsc::channel(RELOAD_QUEUE);
        let app = Arc::new(App {
            broker,
            limits: FaceLimits {
                body_bytes: file.limits.body_bytes,
            },
            mcp,
            live: ArcSwap::from_pointee(live(&file, address)),
            pages: Pages::default(),
            metrics,
            started: Instant::now(),
            closing: CancellationToken::new(),
            connections: AtomicUsize::new(0),
            tunnels: Tunnels::new(),
            open_access: file.auth.is_open(),
            login_tries: LoginTries::new(),
            reload: wishes,
            reload_fault: ArcSwapOption::empty(),
        });
        let grace = Duration::from_secs(file.shutdown.grace_s);
        let front = Front::new(app.clone(), routes::router(app.clone()));
        let server = Server::start(listener, front, app.clone())
            .map_err(|source| at(&file.listen, source))?;
        let local_agent = keep_local_agent(&app, &file, &start.places);
        let reloader = Reloader::new(app.clone(), start.source, (file, address));
        Ok(Self {
            local_agent,
            reloader: tokio::spawn(reloader.run(wanted)),
            upkeep: tokio::spawn(upkeep(app.clone())),
            app,
            server,
            grace,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The operations behind the routes.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.app.broker
    }

    /// Ends: the listener closes at once, calls have the grace of the configuration, then nothing runs.
    pub async fn shutdown(self) {
        let grace = self.grace;
        let drained = self.server.drain(grace + DRAIN_MARGIN);
        tokio::join!(drained, self.app.broker.shutdown(grace));
        self.app.tunnels.end().await;
        self.app.mcp.drained().await;
        // All end by the token that draining cancelled.
        let _ = tokio::join!(self.reloader, self.upkeep);
        if let Some(local_agent) = self.local_agent {
            let _ = local_agent.await;
        }
    }
}

/// Answers of calls that ended with the broker's grace still have to be written.
const DRAIN_MARGIN: Duration = Duration::from_secs(3);

fn at(listen: &str, source: std::io::Error) -> StartError {
    StartError::Listen {
        listen: listen.to_owned(),
        source,
    }
}

async fn listen(file: &File) -> Result<TcpListener, StartError> {
    let found = lookup_host(&file.listen)
        .await
        .map_err(|source| at(&file.listen, source))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if file.auth.is_open() && !addresses.iter().all(|address| address.ip().is_loopback()) {
        let detail = "without auth.keys and auth.jwt the bridge listens on loopback only";
        return Err(ConfigError::at("/listen", detail).into());
    }
    TcpListener::bind(addresses.as_slice())
        .await
        .map_err(|source| at(&file.listen, source))
}

/// Where people's browsers reach the bridge: as configured, else where it listens.
fn base_url(file: &File, address: SocketAddr) -> Option<Url> {
    if let Some(url) = &file.public_url {
        return Url::parse(url).ok();
    }
    let host = if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    };
    Url::parse(&format!("http://{host}/")).ok()
}

async fn start_broker(
    file: &File,
    places: &Places,
    address: SocketAddr,
) -> Result<Broker, StartError> {
    let vault = VaultOptions {
        keys: file.sealing_keys()?,
        base_url: base_url(file, address),
    };
    let url = if let Some(url) = &file.store {
        url.clone()
    } else {
        private_directory(&places.data)?;
        places.store_url()
    };
    let store = Store::open(&url).await?;
    let options = BrokerOptions {
        access: file.auth.access(),
        sessions: file.sessions.limits(),
        calls: file.call_limits(),
        catalog: broker::CatalogLimits {
            max_age: Duration::from_secs(file.catalog_max_age_s),
            ..broker::CatalogLimits::default()
        },
        outbound: file.outbound_policy(),
        vault,
        idempotency_retention: Duration::from_secs(file.idempotency_retention_s),
        retention: DAY.saturating_mul(u32::try_from(file.audit.retention_days).unwrap_or(u32::MAX)),
        on_unavailable: file.audit.on_unavailable,
        local_agent: file.local_agent.enabled,
        policy: file.policy()?,
        confirm_ttl: Duration::from_secs(file.confirm_ttl_s),
        ..BrokerOptions::new(store)
    };
    Ok(Broker::start(options).await?)
}

/// Keeps the bridge's own agent, where there is one.
fn keep_local_agent(
    app: &Arc<App>,
    file: &File,
    places: &Places,
) -> Option<tokio::task::JoinHandle<()>> {
    let runner = app.broker.local_runner()?;
    let orphan = Duration::from_secs(file.local_agent.orphan_s);
    let keeper = Keeper::new(runner, (&places.state, orphan), app.closing.clone());
    Some(tokio::spawn(keeper.run()))
}

fn private_directory(path: &std::path::Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::Write {
            path: path.display().to_string(),
            source,
        })
}

async fn settle_in(broker: &Broker, file: &File, start: &Start) -> Result<(), StartError> {
    if let Some(key) = broker.ensure_admin().await? {
        first_key::keep(&key, &start.places.state).map_err(|source| StartError::Write {
            path: start.places.state.display().to_string(),
            source,
        })?;
    }
    let servers = servers(file, start.source.path.is_some())?;
    broker.apply_file(servers).await.map_err(complaint)?;
    broker.apply_policy(file.policy()?).await;
    Ok(())
}

/// The servers of the file; without a file the demo server.
pub(crate) fn servers(
    file: &File,
    from_file: bool,
) -> Result<BTreeMap<ServerName, Definition>, ConfigError> {
    let mut servers = file.servers()?;
    if !from_file
        && servers.is_empty()
        && let (Ok(name), Some(definition)) = (ServerName::new(demo::NAME), demo_definition())
    {
        servers.insert(name, definition);
    }
    Ok(servers)
}

fn demo_definition() -> Option<Definition> {
    let program = std::env::current_exe().ok()?.to_str()?.to_owned();
    let mut definition: Definition = serde_json::from_value(serde_json::json!({
        "transport": "stdio", "isolation": "shared",
        "description": "Built in, to try the bridge with. Gone as soon as a configuration file is given.",
    }))
    .ok()?;
    definition.transport = TransportKind::Stdio;
    definition.command = vec![program, "demo-server".to_owned()];
    Some(definition)
}

/// The broker's complaints about the file, each with its place.
pub(crate) fn complaint(fault: BrokerError) -> StartError {
    match fault.errors.first() {
        Some(first) => {
            let others = fault.errors.len() - 1;
            let more = if others > 0 {
                format!(" (and {others} more)")
            } else {
                String::new()
            };
            ConfigError::at(&first.pointer, &format!("{}{more}", first.detail)).into()
        }
        None => fault.into(),
    }
}

/// The first of the complaints, and how many more there are.
fn first_of(errors: Vec<ConfigError>) -> StartError {
    let others = errors.len().saturating_sub(1);
    let first = errors.into_iter().next();
    let mut first = first.unwrap_or_else(|| ConfigError::at("config", "cannot be used"));
    if others > 0 {
        first.detail = format!("{} (and {others} more)", first.detail);
    }
    first.into()
}

/// What of the configuration a reload changes.
pub(crate) fn live(file: &File, address: SocketAddr) -> Live {
    let public_url = file
        .public_url
        .as_deref()
        .and_then(|url| Url::parse(url).ok());
    Live {
        names: Names::new(address, public_url.as_ref(), &file.auth.trusted_origins),
        public_url,
        docs_public: file.docs_public,
        basic: file.auth.basic,
        addresses: Addresses::new(&file.auth.ip_allow, &file.auth.trusted_proxies),
        login_ttl: Duration::from_secs(file.auth.login_ttl_s),
    }
}

/// The process's recorder, installed once and shared by every daemon in the process.
fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Refused only when something else in this process has installed one; then `/metrics` is empty.
        let _ = metrics::set_global_recorder(recorder);
        handle
    };
    HANDLE.get_or_init(install).clone()
}

async fn upkeep(app: Arc<App>) {
    let closing = app.closing.clone();
    let metrics = async {
        while closing
            .run_until_cancelled(tokio::time::sleep(UPKEEP))
            .await
            .is_some()
        {
            app.metrics.run_upkeep();
        }
    };
    tokio::join!(metrics, app.mcp.upkeep(&closing));
}

/// Checks a configuration and the servers in it without starting anything; gives the number of servers.
///
/// # Errors
/// Every complaint, each with its place.
pub fn check(source: &Source) -> Result<usize, Vec<ConfigError>> {
    let file = source.load().map_err(|error| vec![error])?;
    let servers = file.servers().map_err(|error| vec![error])?;
    let keys = file.sealing_keys();
    let keys = keys.map_err(|error| vec![source.named(error)])?;
    let (secrets, outbound) = (broker::Secrets::new(keys.is_some()), file.outbound_policy());
    let gate = broker::definition::Gate {
        author: broker::Author::File,
        secrets: &secrets,
        outbound: &outbound,
    };
    let mut complaints = Vec::new();
    for (name, definition) in &servers {
        if let Err(error) = definition.to_target(name, 1, &gate) {
            let place = |detail: broker::PointerDetail| {
                source.named(ConfigError::at(
                    &format!("/servers/{name}{}", detail.pointer),
                    &detail.detail,
                ))
            };
            complaints.extend(error.errors.into_iter().map(place));
        }
    }
    if complaints.is_empty() {
        Ok(servers.len())
    } else {
        Err(complaints)
    }
}
