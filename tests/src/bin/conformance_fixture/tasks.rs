//! Tools of the tasks extension: each becomes a task when the client knows tasks. To clients of before 2026-07-28
//! most are plain tools that take a while, as old servers have them.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateTaskResult,
    InputRequest,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskFuture, TaskOptions};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::answers::{text, typed};
use crate::catalogue::tool;
use crate::core_tasks;
use crate::input::{Asked, Brought, ask_all, ask_now, ask_together, is_modern};
use crate::questions::{ask_user, one};
use crate::server::Conformance;

/// Longest `slow_compute`, so that a forgotten task does not stay for ever.
const MAX_SECONDS: f64 = 60.0;

/// What an old tool takes before it asks or answers: long enough for a gateway to make a task of it.
const A_WHILE: Duration = Duration::from_millis(1500);

const NAMES: [&str; 7] = [
    "greet",
    "slow_compute",
    "failing_job",
    "protocol_error_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];

/// Those that cannot be answered without a task.
const TASK_ONLY: [&str; 4] = [
    "failing_job",
    "confirm_delete",
    "multi_input",
    "test_tool_with_task",
];

/// The tools of this file.
pub(crate) fn tools() -> Vec<Value> {
    let mut compute = tool(
        "slow_compute",
        "Takes its time, then answers.",
        &json!({"seconds": {"type": "number"}, "label": {"type": "string"}}),
    );
    compute["inputSchema"]["required"] = json!([]);
    let mut delete = tool(
        "confirm_delete",
        "Asks the user before it pretends to delete.",
        &json!({"filename": {"type": "string"}}),
    );
    delete["inputSchema"]["required"] = json!([]);
    let plain = |name, description| tool(name, description, &json!({}));
    vec![
        tool(
            "greet",
            "Greets at once.",
            &json!({"name": {"type": "string"}}),
        ),
        compute,
        plain("failing_job", "Ends with isError after a second."),
        plain("protocol_error_job", "Ends with a protocol error."),
        delete,
        plain("multi_input", "Asks the user two things at once."),
        plain(
            "test_tool_with_task",
            "Asks for a name first, then runs as a task.",
        ),
    ]
}

/// Whether a tool is one of this file.
pub(crate) fn owns(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a tool of this file.
pub(crate) async fn call(
    server: &Conformance,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let name = request.name.as_ref();
    let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
    let knows_tasks = context
        .client_capabilities()
        .is_some_and(|can| can.supports_tasks());
    if !is_modern(context) && name != core_tasks::TOOL {
        return call_plainly(name, &arguments, context).await;
    }
    if TASK_ONLY.contains(&name) && !knows_tasks {
        let needed = typed(json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}))?;
        return Err(ErrorData::missing_required_client_capability(needed));
    }
    let spawn = |work: fn(Value, TaskContext) -> TaskFuture, arguments: Value| {
        let options = TaskOptions::default().with_poll_interval_ms(200);
        let task = server
            .tasks
            .spawn(options, move |context| work(arguments, context));
        Ok(CreateTaskResult::new(task).into())
    };
    match name {
        "greet" => {
            let name = arguments["name"].as_str().unwrap_or("nobody");
            Ok(text(format!("Hello, {name}!")))
        }
        "slow_compute" if knows_tasks => spawn(compute, arguments),
        "slow_compute" => {
            tokio::time::sleep(seconds(&arguments)).await;
            Ok(computed(&arguments).into())
        }
        "protocol_error_job" if knows_tasks => spawn(break_down, arguments),
        "protocol_error_job" => Err(broken()),
        "failing_job" => spawn(fail, arguments),
        "confirm_delete" => spawn(confirm, arguments),
        "multi_input" => spawn(ask_twice, arguments),
        _ => {
            let question = ask_user("What is your name?", "name", "string");
            let rounds = [one("user_name", question)];
            let brought = Brought {
                responses: request.input_responses.as_ref(),
                state: None,
            };
            match ask_all(None, &rounds, brought, context).await? {
                Asked::Later(required) => Ok(required.into()),
                Asked::Answered(answers) => {
                    spawn(greet_later, answers["user_name"]["content"].clone())
                }
            }
        }
    }
}

/// The same without tasks, for a client of before 2026-07-28.
async fn call_plainly(
    name: &str,
    arguments: &Value,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let pause = || tokio::time::sleep(A_WHILE);
    match name {
        "greet" => Ok(text(format!(
            "Hello, {}!",
            arguments["name"].as_str().unwrap_or("nobody")
        ))),
        "slow_compute" => {
            tokio::time::sleep(seconds(arguments)).await;
            Ok(computed(arguments).into())
        }
        "protocol_error_job" => {
            pause().await;
            Err(broken())
        }
        "confirm_delete" => {
            pause().await;
            let file = arguments["filename"].as_str().unwrap_or("a file");
            let question = ask_user(&format!("Delete {file}?"), "confirm", "boolean");
            let answer = ask_now(&question, context).await?;
            Ok(text(format!(
                "Deleting {file}: {}",
                answer["content"]["confirm"]
            )))
        }
        "multi_input" => {
            pause().await;
            let mut both = one("first", ask_user("The first value?", "first", "string"));
            both.extend(one(
                "second",
                ask_user("The second value?", "second", "string"),
            ));
            let answers = ask_together(&both, context).await?;
            Ok(text(format!(
                "Got {} and {}.",
                answers["first"]["content"], answers["second"]["content"]
            )))
        }
        _ => {
            let question = ask_user("What is your name?", "name", "string");
            let answer = ask_now(&question, context).await?;
            pause().await;
            let name = answer["content"]["name"].as_str().unwrap_or("nobody");
            Ok(text(format!("Hello, {name}!")))
        }
    }
}

fn said(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn seconds(arguments: &Value) -> Duration {
    let wanted = arguments["seconds"].as_f64().unwrap_or(1.0);
    Duration::from_secs_f64(wanted.clamp(0.0, MAX_SECONDS))
}

fn computed(arguments: &Value) -> CallToolResult {
    let label = arguments["label"].as_str().unwrap_or("compute");
    said(format!("{label} took {:?}.", seconds(arguments)))
}

fn compute(arguments: Value, context: TaskContext) -> TaskFuture {
    Box::pin(async move {
        tokio::select! {
            () = context.cancelled() => Err(TaskExit::Cancelled),
            () = tokio::time::sleep(seconds(&arguments)) => Ok(computed(&arguments)),
        }
    })
}

fn fail(_arguments: Value, _context: TaskContext) -> TaskFuture {
    Box::pin(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(CallToolResult::error(vec![ContentBlock::text(
            "This job always fails.",
        )]))
    })
}

fn broken() -> ErrorData {
    ErrorData::internal_error("This job breaks the protocol's way.", None)
}

fn break_down(_arguments: Value, _context: TaskContext) -> TaskFuture {
    Box::pin(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Err(TaskExit::Error(broken()))
    })
}

async fn ask(
    context: &TaskContext,
    key: &str,
    message: &str,
    field: (&str, &str),
) -> Result<Value, TaskExit> {
    let question: InputRequest =
        typed(ask_user(message, field.0, field.1)).map_err(TaskExit::Error)?;
    let answer = context.request_input(key, question).await?;
    Ok(answer["content"][field.0].clone())
}

fn confirm(arguments: Value, context: TaskContext) -> TaskFuture {
    Box::pin(async move {
        let file = arguments["filename"].as_str().unwrap_or("a file");
        let message = format!("Delete {file}?");
        let confirmed = ask(&context, "confirm", &message, ("confirm", "boolean")).await?;
        Ok(said(format!("Deleting {file}: {confirmed}")))
    })
}

fn ask_twice(_arguments: Value, context: TaskContext) -> TaskFuture {
    Box::pin(async move {
        let field = ("value", "string");
        let (first, second) = tokio::try_join!(
            ask(&context, "first", "The first value?", field),
            ask(&context, "second", "The second value?", field)
        )?;
        Ok(said(format!("Got {first} and {second}.")))
    })
}

fn greet_later(given: Value, _context: TaskContext) -> TaskFuture {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let name = given["name"].as_str().unwrap_or("nobody");
        Ok(said(format!("Hello, {name}!")))
    })
}
