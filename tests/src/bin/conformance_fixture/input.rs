//! Tools and a prompt that ask the client something before they can end.
//!
//! In 2026-07-28 they answer `input_required` and are called again; before, they ask over the connection and wait.
//! So a client of either era can be asked through a server of either era, which is what a gateway must translate.
#![expect(
    deprecated,
    reason = "sampling and roots are what old clients still offer"
)]

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, InputRequiredResult, InputResponses, ProtocolVersion,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::answers::{complete, text, typed};
use crate::questions::{Questions, ask_user, one, rounds};
use crate::server::Conformance;

/// The prompt that asks first.
pub(crate) const PROMPT: &str = "test_input_required_result_prompt";

/// Those that hand out a state with their questions.
const STATEFUL: [&str; 4] = [
    "test_input_required_result_request_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_tampered_state",
];

/// What asking came to.
pub(crate) enum Asked {
    /// The client has to come back.
    Later(InputRequiredResult),
    /// Everything was answered.
    Answered(InputResponses),
}

/// What a client that came back brought with it.
#[derive(Clone, Copy)]
pub(crate) struct Brought<'a> {
    pub(crate) responses: Option<&'a InputResponses>,
    pub(crate) state: Option<&'a str>,
}

/// Whether a request is one of 2026-07-28.
pub(crate) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version() == Some(ProtocolVersion::V_2026_07_28)
}

/// Calls a tool that asks.
pub(crate) async fn call(
    server: &Conformance,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let arguments = Value::Object(request.arguments.clone().unwrap_or_default());
    let name = request.name.as_ref();
    let rounds = rounds(name, &arguments, context);
    let brought = Brought {
        responses: request.input_responses.as_ref(),
        state: request.request_state.as_deref(),
    };
    let codec = STATEFUL.contains(&name).then_some(server);
    Ok(match ask_all(codec, &rounds, brought, context).await? {
        Asked::Later(required) => required.into(),
        Asked::Answered(answers) => text(said(name, &answers)),
    })
}

/// The prompt that asks first.
pub(crate) async fn prompt(
    request: &GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let question = ask_user("What context should the prompt use?", "context", "string");
    let brought = Brought {
        responses: request.input_responses.as_ref(),
        state: None,
    };
    let rounds = [one("user_context", question)];
    match ask_all(None, &rounds, brought, context).await? {
        Asked::Later(required) => Ok(required.into()),
        Asked::Answered(answers) => {
            let said = answers["user_context"]["content"]["context"].clone();
            let message = json!({"role": "user", "content": {"type": "text",
                "text": said.as_str().unwrap_or_default()}});
            complete::<GetPromptResult>(json!({"messages": [message]})).map(Into::into)
        }
    }
}

fn said(name: &str, answers: &InputResponses) -> String {
    let answer = answers.values().next().cloned().unwrap_or_default();
    match name {
        "test_input_required_result_elicitation" => {
            let name = answer["content"]["name"].as_str().unwrap_or("nobody");
            format!("Hello, {name}!")
        }
        "test_input_required_result_request_state" => "state-ok".to_owned(),
        "test_input_required_result_sampling" | "test_sampling" => {
            format!("LLM response: {}", answer["content"]["text"])
        }
        "test_input_required_result_list_roots" => format!("Roots: {}", answer["roots"]),
        _ => format!(
            "Elicitation completed: action={}, content={}",
            answer["action"].as_str().unwrap_or_default(),
            answer["content"]
        ),
    }
}

/// Asks every round, in the way of the client's era. With a codec, the round travels in a sealed state.
pub(crate) async fn ask_all(
    codec: Option<&Conformance>,
    rounds: &[Questions],
    brought: Brought<'_>,
    context: &RequestContext<RoleServer>,
) -> Result<Asked, ErrorData> {
    if is_modern(context) {
        return ask_later(codec, rounds, brought);
    }
    let mut answers = InputResponses::new();
    for questions in rounds {
        answers.extend(ask_together(questions, context).await?);
    }
    Ok(Asked::Answered(answers))
}

/// The questions of one round are asked at once, and answered in any order.
pub(crate) async fn ask_together(
    questions: &Questions,
    context: &RequestContext<RoleServer>,
) -> Result<InputResponses, ErrorData> {
    let mut asking = JoinSet::new();
    for (key, question) in questions.clone() {
        let context = context.clone();
        asking.spawn(async move { (key, ask_now(&question, &context).await) });
    }
    let answered = asking.join_all().await.into_iter();
    answered
        .map(|(key, answer)| answer.map(|answer| (key, answer)))
        .collect()
}

fn ask_later(
    codec: Option<&Conformance>,
    rounds: &[Questions],
    brought: Brought<'_>,
) -> Result<Asked, ErrorData> {
    let asked_before = match (codec, brought.state) {
        (Some(server), Some(state)) => open(server, state)?,
        (Some(_), None) => 0,
        (None, _) => usize::from(brought.responses.is_some()),
    };
    let given = brought.responses.cloned().unwrap_or_default();
    // Anything but an object answers nothing, and is asked for again.
    let answered = |questions: &Questions| {
        let mut keys = questions.keys();
        keys.all(|key| given.get(key).is_some_and(Value::is_object))
    };
    let done = match asked_before
        .checked_sub(1)
        .and_then(|last| rounds.get(last))
    {
        Some(last) if answered(last) => asked_before,
        Some(_) => asked_before - 1,
        None => 0,
    };
    let Some(next) = rounds.get(done).filter(|questions| !questions.is_empty()) else {
        return Ok(Asked::Answered(given));
    };
    let state = codec.map(|server| seal(server, done + 1)).transpose()?;
    let questions = typed(Value::Object(next.clone()))?;
    Ok(Asked::Later(InputRequiredResult::new(
        Some(questions),
        state,
    )))
}

fn seal(server: &Conformance, round: usize) -> Result<String, ErrorData> {
    let sealed = server.states.seal_json(&round);
    sealed.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The client carried the state, so the state may be anything.
fn open(server: &Conformance, state: &str) -> Result<usize, ErrorData> {
    let opened = server.states.open_json(state);
    opened.map_err(|_| ErrorData::invalid_params("requestState was not issued here", None))
}

/// Asks over the connection, as servers did before 2026-07-28.
pub(crate) async fn ask_now(
    question: &Value,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    let params = question["params"].clone();
    let peer = &context.peer;
    let asked = match question["method"].as_str() {
        Some("elicitation/create") => {
            let asked = peer.create_elicitation(typed(params)?).await;
            asked.map(serde_json::to_value)
        }
        Some("sampling/createMessage") => {
            let asked = peer.create_message(typed(params)?).await;
            asked.map(serde_json::to_value)
        }
        _ => peer.list_roots().await.map(serde_json::to_value),
    };
    let answer = asked.map_err(|error| {
        let said = format!("the client did not answer: {error}");
        ErrorData::internal_error(said, None)
    })?;
    answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))
}
