//! An MCP server on the official Rust SDK: the independent peer our own wire layer is tested against.
//!
//! `fixture-server stdio|http [--era modern|legacy] [--effects FILE]`; over HTTP it prints its URL.
//! Every call of `bump` appends one line to the effects file, so that tests can count real effects.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, ListPromptsResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};

/// Longest `slow` call, so that a forgotten test cannot hold a process for ever.
const MAX_STEPS: u64 = 600;

#[derive(Clone, Debug)]
struct Fixture {
    modern: bool,
    effects: Option<PathBuf>,
    /// Tools added by `grow`, process-wide as the modern era wants it.
    grown: Arc<AtomicUsize>,
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn tool(name: &str, description: &str, properties: &Value, read_only: bool) -> Value {
    let required: Vec<&String> = properties
        .as_object()
        .map(|o| o.keys().collect())
        .unwrap_or_default();
    json!({
        "name": name, "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": required},
        "annotations": {"readOnlyHint": read_only, "destructiveHint": !read_only}
    })
}

impl Fixture {
    fn tools(&self) -> Vec<Value> {
        let mut tools = vec![
            tool(
                "echo",
                "Returns its message unchanged.",
                &json!({"message": {"type": "string"}}),
                true,
            ),
            tool(
                "add",
                "Adds two numbers.",
                &json!({"a": {"type": "number"}, "b": {"type": "number"}}),
                true,
            ),
            tool(
                "bump",
                "Appends one line to the effects file.",
                &json!({"line": {"type": "string"}}),
                false,
            ),
            tool(
                "slow",
                "Reports progress every 50 ms, then answers.",
                &json!({"steps": {"type": "integer", "minimum": 1}}),
                true,
            ),
            tool(
                "slow_bump",
                "Waits, then appends a line.",
                &json!({"line": {"type": "string"}, "steps": {"type": "integer"}}),
                false,
            ),
            tool(
                "grow",
                "Adds a tool and tells that the list changed.",
                &json!({}),
                true,
            ),
            tool("fail", "Answers with isError.", &json!({}), true),
            tool("exit", "Ends the process at once.", &json!({}), false),
        ];
        for number in 0..self.grown.load(Ordering::SeqCst) {
            tools.push(tool(
                &format!("grown_{number}"),
                "A tool that came later.",
                &json!({}),
                true,
            ));
        }
        tools
    }

    fn effect(&self, line: &str) -> Result<(), ErrorData> {
        let path = self
            .effects
            .as_ref()
            .ok_or_else(|| ErrorData::internal_error("no --effects file", None))?;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        writeln!(file, "{line}").map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    async fn steps(&self, count: u64, context: &RequestContext<RoleServer>) -> bool {
        let count = count.min(MAX_STEPS);
        for step in 1..=count {
            tokio::select! {
                () = context.ct.cancelled() => return false,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
            if let Some(token) = context.meta.get_progress_token() {
                #[expect(clippy::cast_precision_loss, reason = "at most MAX_STEPS")]
                let progress = ProgressNotificationParam::new(token, step as f64)
                    .with_total(count as f64)
                    .with_message(format!("step {step}"));
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        true
    }
}

fn text(value: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(value)]).into()
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        typed(json!({
            "protocolVersion": if self.modern { "2026-07-28" } else { "2025-11-25" },
            "capabilities": {"tools": {"listChanged": true}, "resources": {}, "prompts": {}},
            "serverInfo": {"name": "fixture", "version": "1.0.0"},
            "instructions": "A server for tests."
        }))
        .unwrap_or_default()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        if self.modern {
            Cow::Owned(vec![ProtocolVersion::V_2026_07_28])
        } else {
            Cow::Owned(vec![
                ProtocolVersion::V_2025_06_18,
                ProtocolVersion::V_2025_11_25,
            ])
        }
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        typed(json!({"tools": self.tools()}))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let line = arguments["line"].as_str().unwrap_or_default();
        match request.name.as_ref() {
            "echo" => Ok(text(arguments["message"].as_str().unwrap_or_default())),
            "add" => {
                let sum = arguments["a"].as_f64().unwrap_or_default()
                    + arguments["b"].as_f64().unwrap_or_default();
                let mut result = CallToolResult::success(vec![ContentBlock::text(sum.to_string())]);
                result.structured_content = Some(json!({"sum": sum}));
                Ok(result.into())
            }
            "bump" => self.effect(line).map(|()| text("bumped")),
            "slow" => {
                let finished = self
                    .steps(arguments["steps"].as_u64().unwrap_or(1), &context)
                    .await;
                if !finished {
                    self.effect("slow cancelled")?;
                }
                Ok(text(if finished { "finished" } else { "cancelled" }))
            }
            "slow_bump" => {
                if self
                    .steps(arguments["steps"].as_u64().unwrap_or(1), &context)
                    .await
                {
                    self.effect(line)?;
                }
                Ok(text("bumped"))
            }
            "grow" => {
                self.grown.fetch_add(1, Ordering::SeqCst);
                let _ = context.peer.notify_tool_list_changed().await;
                Ok(text("grown"))
            }
            "fail" => Ok(
                CallToolResult::error(vec![ContentBlock::text("this tool always fails")]).into(),
            ),
            "exit" => std::process::exit(7),
            other => Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
        }
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(
            json!({"resources": [{"uri": "fixture://note", "name": "note", "mimeType": "text/plain"}]}),
        )
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != "fixture://note" {
            return Err(ErrorData::resource_not_found("no such note", None));
        }
        let result: ReadResourceResult = typed(
            json!({"contents": [{"uri": request.uri, "mimeType": "text/plain", "text": "a note"}]}),
        )?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(
            json!({"prompts": [{"name": "greet", "description": "Greets somebody.",
            "arguments": [{"name": "who", "required": true}]}]}),
        )
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let who = request
            .arguments
            .as_ref()
            .and_then(|a| a.get("who"))
            .and_then(Value::as_str)
            .unwrap_or("nobody");
        let result: GetPromptResult = typed(
            json!({"messages": [{"role": "user", "content": {"type": "text", "text": format!("Greet {who}.")}}]}),
        )?;
        Ok(result.into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| {
        arguments
            .iter()
            .position(|a| a == name)
            .and_then(|at| arguments.get(at + 1))
    };
    let fixture = Fixture {
        modern: option("--era").is_none_or(|era| era == "modern"),
        effects: option("--effects").map(PathBuf::from),
        grown: Arc::default(),
    };
    if arguments.get(1).is_some_and(|mode| mode == "http") {
        let service = StreamableHttpService::new(
            move || Ok(fixture.clone()),
            Arc::new(LocalSessionManager::default()),
            StreamableHttpServerConfig::default(),
        );
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        writeln!(std::io::stdout(), "http://{}/mcp", listener.local_addr()?)?;
        axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await?;
    } else {
        let running = fixture
            .serve((tokio::io::stdin(), tokio::io::stdout()))
            .await?;
        running.waiting().await?;
    }
    Ok(())
}
