//! The built-in demo server: so that a first `find` and `call` answer something without any configuration.
//!
//! A small MCP server on the official SDK, spoken to over stdio like any other. It reaches nothing.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, ListPromptsResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Name of the server when no file names others.
pub const NAME: &str = "demo";
/// Longest `slow` call: a minute.
const MAX_STEPS: u64 = 600;
/// One step of `slow`.
const STEP: Duration = Duration::from_millis(100);
/// The one resource.
const WELCOME_URI: &str = "demo://welcome";
const WELCOME: &str =
    "This is PaperBot MCP Bridge. Add servers under `servers:` in its configuration file.";

/// The demo server.
#[derive(Debug, Clone, Copy)]
struct Demo;

/// Serves MCP on stdin and stdout until stdin ends.
///
/// # Errors
/// When the handshake fails.
pub async fn serve() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let running = Demo
        .serve((tokio::io::stdin(), tokio::io::stdout()))
        .await?;
    running.waiting().await?;
    Ok(())
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn tools() -> Value {
    let reads = json!({"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false});
    json!([
        {
            "name": "echo", "description": "Returns its message unchanged.", "annotations": reads,
            "inputSchema": {
                "type": "object", "properties": {"message": {"type": "string", "description": "What to return"}},
                "required": ["message"]
            }
        },
        {
            "name": "add", "description": "Returns the sum of two numbers.", "annotations": reads,
            "inputSchema": {
                "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                "required": ["a", "b"]
            },
            "outputSchema": {"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]}
        },
        {
            "name": "time_now", "description": "Tells the present time in UTC.", "annotations": reads,
            "inputSchema": {"type": "object", "properties": {}}
        },
        {
            "name": "uuid", "description": "Makes a random UUID.", "annotations": reads,
            "inputSchema": {"type": "object", "properties": {}}
        },
        {
            "name": "slow", "description": "Works for some tenths of a second and reports its progress.",
            "annotations": reads,
            "inputSchema": {
                "type": "object",
                "properties": {"steps": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS, "default": 10}}
            }
        }
    ])
}

fn text(value: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(value)]).into()
}

fn add(arguments: &Value) -> CallToolResponse {
    let number = |name: &str| arguments[name].as_f64().unwrap_or_default();
    let sum = number("a") + number("b");
    let mut result = CallToolResult::success(vec![ContentBlock::text(sum.to_string())]);
    result.structured_content = Some(json!({ "sum": sum }));
    result.into()
}

async fn slow(arguments: &Value, context: &RequestContext<RoleServer>) -> CallToolResponse {
    let steps = arguments["steps"]
        .as_u64()
        .unwrap_or(10)
        .clamp(1, MAX_STEPS);
    for step in 1..=steps {
        tokio::select! {
            () = context.ct.cancelled() => return text("cancelled"),
            () = tokio::time::sleep(STEP) => {}
        }
        if let Some(token) = context.meta.get_progress_token() {
            #[expect(clippy::cast_precision_loss, reason = "at most MAX_STEPS")]
            let progress = ProgressNotificationParam::new(token, step as f64)
                .with_total(steps as f64)
                .with_message(format!("step {step} of {steps}"));
            // A client that stopped listening is told by its own cancellation.
            let _ = context.peer.notify_progress(progress).await;
        }
    }
    text(format!("{steps} steps done"))
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        typed(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
            "serverInfo": {"name": "paperbot-demo", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "A demonstration: harmless tools to try the bridge with."
        }))
        .unwrap_or_default()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        typed(json!({ "tools": tools() }))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        match request.name.as_ref() {
            "echo" => Ok(text(arguments["message"].as_str().unwrap_or_default())),
            "add" => Ok(add(&arguments)),
            "time_now" => Ok(text(
                chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            )),
            "uuid" => Ok(text(uuid::Uuid::new_v4().to_string())),
            "slow" => Ok(slow(&arguments, &context).await),
            _ => Err(ErrorData::invalid_params("no such tool", None)),
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        typed(json!({"resources": [{
            "uri": WELCOME_URI, "name": "welcome", "description": "What this is.", "mimeType": "text/plain"
        }]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != WELCOME_URI {
            return Err(ErrorData::resource_not_found("no such resource", None));
        }
        let contents = json!([{"uri": WELCOME_URI, "mimeType": "text/plain", "text": WELCOME}]);
        let result: ReadResourceResult = typed(json!({ "contents": contents }))?;
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        typed(json!({"prompts": [{
            "name": "greet", "description": "Greets somebody.",
            "arguments": [{"name": "who", "description": "Whom to greet", "required": true}]
        }]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != "greet" {
            return Err(ErrorData::invalid_params("no such prompt", None));
        }
        let arguments = request.arguments.unwrap_or_default();
        let who = arguments
            .get("who")
            .and_then(Value::as_str)
            .unwrap_or("nobody");
        let content =
            json!({"type": "text", "text": format!("Greet {who} in one friendly sentence.")});
        let result: GetPromptResult =
            typed(json!({"messages": [{"role": "user", "content": content}]}))?;
        Ok(result.into())
    }
}
