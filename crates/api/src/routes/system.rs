//! The bridge itself: health, metrics, version, documents, reload.

use std::sync::OnceLock;

use axum::Extension;
use axum::extract::State;
use broker::{Asker, ErrorCode};
use bytes::Bytes;
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answer::{self, Answer, JSON};
use crate::app::{Asked, Shared};
use crate::documents;
use crate::front::body::JsonOrDefault;
use crate::problem::Refused;
use crate::wire;

/// Revisions of MCP the bridge speaks with servers, newest first.
const MCP_VERSIONS: [&str; 5] = [
    "2026-07-28",
    "2025-11-25",
    "2025-06-18",
    "2025-03-26",
    "2024-11-05",
];
/// The `/docs` page loads nothing from elsewhere; it has no script.
const DOCS_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(health))
        .routes(routes!(metrics))
        .routes(routes!(openapi))
        .routes(routes!(docs))
        .routes(routes!(version))
        .routes(routes!(reload))
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "system", responses((status = 200, body = Object)))]
async fn healthz() -> Answer {
    Ok(answer::bytes(
        Bytes::from_static(br#"{"status":"ok"}"#),
        JSON,
    ))
}

/// Requests are served: the store answers and no shutdown has begun. Details only for an admin of `default`.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "system",
    responses((status = 200, body = Object), (status = 503, body = Object))
)]
async fn readyz(State(app): State<Shared>, asker: Option<Extension<Asker>>) -> Answer {
    let ready = if app.closing.is_cancelled() {
        Err(ErrorCode::ShuttingDown)
    } else {
        app.broker.ready().await.map_err(|fault| fault.code)
    };
    let status = if ready.is_ok() { "ready" } else { "not_ready" };
    let mut body = json!({ "status": status });
    let root = match &asker {
        Some(Extension(asker)) => app.broker.may_manage_bridge(asker).await.is_ok(),
        None => false,
    };
    if root {
        let config = app.reload_fault.load_full();
        let config = config.map_or_else(|| "ok".to_owned(), |fault| fault.to_string());
        let broker = ready.as_ref().err().map_or("ok", |code| code.as_str());
        let lost = app.broker.lost_rows();
        body["detail"] = json!({"broker": broker, "config": config, "lost_rows": lost});
    }
    let code = if ready.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(answer::with_status(answer::json(&body)?, code))
}

/// Counts only, no ids.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "system", responses((status = 200, body = wire::Health)))]
async fn health(State(app): State<Shared>) -> Answer {
    let closing = app.closing.is_cancelled();
    answer::json(&wire::Health {
        status: if closing { "shutting_down" } else { "ok" }.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: app.started.elapsed().as_secs(),
        connections: app.connections(),
    })
}

/// Prometheus text.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "system",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
async fn metrics(State(app): State<Shared>, Asked(_asker): Asked) -> Answer {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(answer::bytes(app.metrics.render(), kind))
}

/// This contract, made from the code.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "system", responses((status = 200, body = Object)))]
async fn openapi() -> Answer {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| {
        let (_, document) = super::all();
        Bytes::from(document.to_json().unwrap_or_default())
    });
    Ok(answer::bytes(document.clone(), JSON))
}

/// The contract for people.
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "system",
    responses((status = 200, body = String, content_type = "text/html"))
)]
async fn docs() -> Answer {
    static PAGE: OnceLock<Bytes> = OnceLock::new();
    let page = PAGE.get_or_init(|| {
        let (_, document) = super::all();
        Bytes::from(documents::page(&document))
    });
    let mut response = answer::bytes(
        page.clone(),
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    let policy = HeaderValue::from_static(DOCS_POLICY);
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, policy);
    Ok(response)
}

/// Versions of the program, of this contract and of MCP.
#[utoipa::path(get, path = "/v1/version", operation_id = "version", tag = "system", responses((status = 200, body = wire::Version)))]
async fn version() -> Answer {
    answer::json(&wire::Version {
        name: "paperbot-mcpd".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        mcp_versions: MCP_VERSIONS.map(str::to_owned).to_vec(),
    })
}

/// Reads the config file again. A bad file changes nothing and is told here.
#[utoipa::path(
    post, path = "/v1/admin/reload", operation_id = "reload", tag = "system",
    responses((status = 200, body = wire::Reloaded))
)]
async fn reload(
    State(app): State<Shared>,
    Asked(asker): Asked,
    JsonOrDefault(_nothing): JsonOrDefault<wire::system::Nothing>,
) -> Answer {
    app.broker.may_manage_bridge(&asker).await?;
    let (wish, told) = oneshot::channel();
    let busy = |_| Refused::new(ErrorCode::Overloaded, "a reload is already waiting");
    app.reload.try_send(wish).map_err(busy)?;
    let gone = |_| Refused::new(ErrorCode::ShuttingDown, "the bridge is shutting down");
    let changed = told.await.map_err(gone)??;
    answer::json(&changed)
}
