//! The tools that answer without asking anything: at once, with logs, with progress.
#![expect(deprecated, reason = "logging is what old clients still use")]

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::answers::{PNG, WAV, content, text, typed};
use crate::catalogue::CUSTOM_HEADER_TOOL;
use crate::input::{self, is_modern};
use crate::questions;
use crate::server::Conformance;

/// Between two notifications, so that they are seen one by one.
const BEAT: Duration = Duration::from_millis(50);

/// Calls one of the tools that need neither rounds nor tasks.
pub(crate) async fn call(
    server: &Conformance,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let arguments = Value::Object(request.arguments.unwrap_or_default());
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    match request.name.as_ref() {
        "test_tool_with_logging" => Ok(log_thrice(&context).await),
        "test_tool_with_progress" => Ok(report_thrice(&context).await),
        "test_logging_tool" => Ok(log_if_asked(&context).await),
        "test_reconnection" => {
            tokio::time::sleep(BEAT * 2).await;
            Ok(text("Still here after the stream may have broken."))
        }
        CUSTOM_HEADER_TOOL => Ok(text(argument("value"))),
        "json_schema_2020_12_tool" => Ok(text(arguments.to_string())),
        "test_trigger_tool_change" | "test_trigger_prompt_change" => {
            let tools = request.name.contains("tool_change");
            Ok(tell_of_change(server, &context, tools).await)
        }
        "test_missing_capability" => needs_sampling(&context).await,
        name => still(name),
    }
}

fn still(name: &str) -> Result<CallToolResponse, ErrorData> {
    let said = |text: &str| json!({"type": "text", "text": text});
    let image = json!({"type": "image", "data": PNG, "mimeType": "image/png"});
    let resource = |uri: &str, mime: &str, text: &str| {
        json!({"type": "resource",
        "resource": {"uri": uri, "mimeType": mime, "text": text}})
    };
    match name {
        "test_simple_text" => content(&json!([said(
            "This is a simple text response for testing."
        )])),
        "test_image_content" => content(&json!([image])),
        "test_audio_content" => {
            content(&json!([{"type": "audio", "data": WAV, "mimeType": "audio/wav"}]))
        }
        "test_embedded_resource" => content(&json!([resource(
            "test://embedded-resource",
            "text/plain",
            "This is an embedded resource content."
        )])),
        "test_multiple_content_types" => content(&json!([
            said("Multiple content types test:"),
            image,
            resource(
                "test://mixed-content-resource",
                "application/json",
                r#"{"test":"data","value":123}"#
            )
        ])),
        "test_error_handling" => {
            let said = ContentBlock::text("This tool intentionally returns an error for testing");
            Ok(CallToolResult::error(vec![said]).into())
        }
        other => Err(ErrorData::invalid_params(format!("no tool {other}"), None)),
    }
}

async fn log(context: &RequestContext<RoleServer>, level: LoggingLevel, said: &str) {
    let message = LoggingMessageNotificationParam::new(level, json!(said)).with_logger("fixture");
    // A client that left hears nothing; the call ends either way.
    let _ = context.peer.notify_logging_message(message).await;
}

async fn log_thrice(context: &RequestContext<RoleServer>) -> CallToolResponse {
    log(context, LoggingLevel::Info, "Tool execution started").await;
    tokio::time::sleep(BEAT).await;
    log(context, LoggingLevel::Info, "Tool processing data").await;
    tokio::time::sleep(BEAT).await;
    log(context, LoggingLevel::Info, "Tool execution completed").await;
    text("Logged three messages.")
}

async fn log_if_asked(context: &RequestContext<RoleServer>) -> CallToolResponse {
    if let Some(level) = context.meta.log_level() {
        log(context, level, "A level was asked for.").await;
    }
    text("Logged what was asked for.")
}

async fn report_thrice(context: &RequestContext<RoleServer>) -> CallToolResponse {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
            let _ = context.peer.notify_progress(progress).await;
        }
        tokio::time::sleep(BEAT).await;
    }
    text("Reported three times.")
}

async fn tell_of_change(
    server: &Conformance,
    context: &RequestContext<RoleServer>,
    tools: bool,
) -> CallToolResponse {
    server.change(tools);
    for listener in server.listeners() {
        // A listener of other things, or one that left, is no failure of this call.
        let _ = if tools {
            listener.notify_tool_list_changed().await
        } else {
            listener.notify_prompt_list_changed().await
        };
    }
    if !is_modern(context) {
        let _ = if tools {
            context.peer.notify_tool_list_changed().await
        } else {
            context.peer.notify_prompt_list_changed().await
        };
    }
    text("Changed.")
}

/// A modern client says in each request what it can do; an old one is asked, and refuses.
async fn needs_sampling(
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    if !is_modern(context) {
        let answer = input::ask_now(&questions::ask_model("Are you there?"), context).await?;
        return Ok(text(answer["content"]["text"].to_string()));
    }
    let declared = context.client_capabilities().unwrap_or_default();
    if declared.sampling.is_some() {
        return Ok(text("The client can sample."));
    }
    let needed = typed(json!({"sampling": {}}))?;
    Err(ErrorData::missing_required_client_capability(needed))
}
