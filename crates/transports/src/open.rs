//! Opens a connection: the carrier, the handshake, and what else is worth trying when one of them fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::carrier::{Carrier, Kind};
use crate::connection::{ConnectOptions, Connection, Inbound};
use crate::error::{CloseReason, ConnectError, Executed, RequestError};
use crate::handshake;
use crate::spec::{Endpoint, Era, EraChoice, ServerSpec};

/// Opens a connection and does the handshake of the era found.
///
/// # Errors
/// [`ConnectError`]; every step has the deadline of [`crate::Timeouts`].
pub async fn connect(
    spec: &ServerSpec,
    options: ConnectOptions,
) -> Result<Arc<Connection>, ConnectError> {
    connect_unless(spec, options, &CancellationToken::new()).await
}

/// As [`connect`], but gives up once `stop` is cancelled. Unlike a dropped future, it then returns only when
/// the process or socket of the attempt is gone.
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::Unreachable`] when given up.
pub async fn connect_unless(
    spec: &ServerSpec,
    options: ConnectOptions,
    stop: &CancellationToken,
) -> Result<Arc<Connection>, ConnectError> {
    let try_with = |known| attempt(spec, &options.inbound, known, stop);
    let first = try_with(options.known_era).await;
    let again = match (&spec.endpoint, &first) {
        // Some old servers leave on a method they do not know: ask again without the probe.
        (
            Endpoint::Stdio(_),
            Err(Refusal {
                left_at_probe: true,
                ..
            }),
        ) => try_with(Some(Era::Legacy)).await,
        // The specification's fallback: an endpoint that knows no POST may be HTTP+SSE.
        (
            Endpoint::StreamableHttp(http),
            Err(Refusal {
                maybe_sse: true, ..
            }),
        ) => {
            let older = ServerSpec {
                endpoint: Endpoint::LegacySse(http.clone()),
                era: EraChoice::Legacy,
                ..spec.clone()
            };
            match attempt(&older, &options.inbound, None, stop).await {
                // That it is no HTTP+SSE either says less than why POST failed.
                Err(_) => first,
                opened => opened,
            }
        }
        _ => first,
    };
    again.map_err(|refusal| refusal.error)
}

/// Why an attempt failed, and what else may be worth trying.
struct Refusal {
    error: ConnectError,
    left_at_probe: bool,
    maybe_sse: bool,
}

fn given_up() -> ConnectError {
    ConnectError::Unreachable {
        detail: "the opening was given up".to_owned(),
    }
}

/// Starts the process or reaches the socket.
async fn start(
    spec: &ServerSpec,
    inbound: &mpsc::Sender<Inbound>,
    stop: &CancellationToken,
) -> Result<Carrier, ConnectError> {
    if stop.is_cancelled() {
        return Err(given_up());
    }
    let opening = tokio::time::timeout(spec.timeouts.connect, Carrier::open(spec, inbound.clone()));
    let opened = match &spec.endpoint {
        // A process that is just being started is waited for, so that it can be ended.
        Endpoint::Stdio(_) => opening.await,
        Endpoint::InProcess(_)
        | Endpoint::StreamableHttp(_)
        | Endpoint::LegacySse(_)
        | Endpoint::Tunnel(_) => {
            tokio::select! {
                opened = opening => opened,
                () = stop.cancelled() => return Err(given_up()),
            }
        }
    };
    opened.unwrap_or(Err(ConnectError::Timeout {
        step: "connect",
        after: spec.timeouts.connect,
    }))
}

async fn attempt(
    spec: &ServerSpec,
    inbound: &mpsc::Sender<Inbound>,
    known: Option<Era>,
    stop: &CancellationToken,
) -> Result<Arc<Connection>, Refusal> {
    let plain = |error| Refusal {
        error,
        left_at_probe: false,
        maybe_sse: false,
    };
    let carrier = Arc::new(start(spec, inbound, stop).await.map_err(plain)?);
    // From here on a child that leaves fails whatever waits for it, the handshake included.
    // It holds the carrier, so it ends with whoever gives this attempt up.
    let watcher = matches!(carrier.kind, Kind::Stdio(_) | Kind::Pipe(_))
        .then(|| AbortOnDropHandle::new(tokio::spawn(watch(Arc::clone(&carrier)))));
    let greeted = tokio::select! {
        greeted = handshake::greet(&carrier, spec, known) => greeted,
        () = stop.cancelled() => Err(given_up()),
    };
    match greeted {
        Ok(info) => {
            match &carrier.kind {
                Kind::Http(http) => http.ready(info.era),
                // It has spoken, so it is there to be seen, and may have to be found later.
                Kind::Stdio(stdio) => stdio.note_server(),
                Kind::Pipe(_) | Kind::Sse(_) | Kind::Tunnel(_) => {}
            }
            let connection = Connection::new(carrier, info, spec.timeouts.close_grace, watcher);
            Ok(Arc::new(connection))
        }
        Err(error) => {
            let maybe_sse = matches!(&carrier.kind, Kind::Http(http) if http.knows_no_post());
            let probed = spec.era == EraChoice::Auto && known != Some(Era::Legacy);
            let left = matches!(&carrier.kind, Kind::Stdio(stdio) if stdio.has_exited());
            // A failed handshake gets no time to leave politely.
            carrier.close(Duration::ZERO).await;
            drop(watcher);
            Err(Refusal {
                left_at_probe: probed && left && matches!(error, ConnectError::Spawn { .. }),
                maybe_sse,
                error,
            })
        }
    }
}

/// Fails what is in flight when the stream ends.
async fn watch(carrier: Arc<Carrier>) {
    match &carrier.kind {
        Kind::Stdio(stdio) => stdio.watch().await,
        Kind::Pipe(pipe) => {
            let reason = pipe.ended().await;
            pipe.pending.end(|| match &reason {
                CloseReason::Asked => RequestError::Closed {
                    executed: Executed::Unknown,
                },
                CloseReason::Exited(detail) | CloseReason::Lost(detail) => RequestError::Protocol {
                    detail: detail.clone(),
                },
            });
        }
        Kind::Http(_) | Kind::Sse(_) | Kind::Tunnel(_) => {}
    }
}
