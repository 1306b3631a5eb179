//! The server the official conformance suite is pointed at: every tool, resource and prompt its
//! scenarios name, on the official Rust SDK. Written from the scenarios' descriptions.
//!
//! `conformance-fixture [--era legacy|modern|both] [--port N | --stdio]`; over HTTP it prints its URL.
//! It is the yardstick's upstream: what it scores directly is what it must score through the bridge.

mod answers;
mod catalogue;
mod core_tasks;
mod input;
mod questions;
mod server;
mod tasks;
mod tools;

use std::io::Write as _;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use rmcp::ServiceExt as _;
use rmcp::model::ProtocolVersion;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;

use server::{Conformance, Era};

/// Answers a modern request as servers from before 2026-07-28 do: a plain 400, no recognised error.
async fn as_before_2026(request: Request, next: Next) -> Response {
    let version = request.headers().get("mcp-protocol-version");
    if version.is_some_and(|v| v == ProtocolVersion::V_2026_07_28.as_str()) {
        let body = json!({"jsonrpc": "2.0", "id": null,
            "error": {"code": -32000, "message": "Bad Request: unsupported protocol version"}});
        return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
    }
    next.run(request).await
}

async fn serve_http(era: Era, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let fixture = Conformance::new(era);
    let service = StreamableHttpService::new(
        move || Ok(fixture.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let mut router = axum::Router::new().nest_service("/mcp", service);
    if era == Era::Legacy {
        router = router
            .layer(from_fn(core_tasks::layer))
            .layer(from_fn(as_before_2026));
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
    axum::serve(listener, router).await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let era = match option("--era").unwrap_or("both") {
        "legacy" => Era::Legacy,
        "modern" => Era::Modern,
        "both" => Era::Both,
        other => return Err(format!("no era {other}: legacy, modern or both").into()),
    };
    if arguments.iter().any(|argument| argument == "--stdio") {
        let pipes = (tokio::io::stdin(), tokio::io::stdout());
        Conformance::new(era).serve(pipes).await?.waiting().await?;
        return Ok(());
    }
    serve_http(era, option("--port").unwrap_or("0").parse()?).await
}
