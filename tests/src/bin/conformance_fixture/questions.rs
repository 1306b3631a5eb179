//! What the fixture's tools ask, and of whom: the user, the client's model, the client itself.

use rmcp::RoleServer;
use rmcp::service::RequestContext;
use serde_json::{Map, Value, json};

use crate::catalogue::tool;

/// Questions by key.
pub(crate) type Questions = Map<String, Value>;

/// Name, what it says of itself, and what it takes; what it asks is in [`rounds`].
const TOOLS: [(&str, &str, &str); 13] = [
    (
        "test_input_required_result_elicitation",
        "Asks the user for a name.",
        "",
    ),
    (
        "test_input_required_result_sampling",
        "Asks the model for a capital.",
        "",
    ),
    (
        "test_input_required_result_list_roots",
        "Asks the client for its roots.",
        "",
    ),
    (
        "test_input_required_result_request_state",
        "Hands out a state and wants it back.",
        "",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Asks for three things at once.",
        "",
    ),
    (
        "test_input_required_result_multi_round",
        "Asks twice, one after the other.",
        "",
    ),
    (
        "test_input_required_result_tampered_state",
        "Refuses a state that was changed.",
        "",
    ),
    (
        "test_input_required_result_capabilities",
        "Asks for what the client says it can do.",
        "",
    ),
    (
        "test_streaming_elicitation",
        "Asks the user, on a stream.",
        "",
    ),
    ("test_sampling", "Asks the client's model.", "prompt"),
    ("test_elicitation", "Asks the user.", "message"),
    (
        "test_elicitation_sep1034_defaults",
        "Asks with a default for every primitive type.",
        "",
    ),
    (
        "test_elicitation_sep1330_enums",
        "Asks with every kind of enum.",
        "",
    ),
];

/// The tools that ask.
pub(crate) fn tools() -> Vec<Value> {
    let listed = TOOLS.map(|(name, description, argument)| {
        let properties = match argument {
            "" => json!({}),
            argument => json!({argument: {"type": "string"}}),
        };
        tool(name, description, &properties)
    });
    listed.to_vec()
}

/// Whether a tool asks.
pub(crate) fn owns(name: &str) -> bool {
    TOOLS.iter().any(|(owned, _, _)| *owned == name)
}

/// A question to the user with one field.
pub(crate) fn ask_user(message: &str, field: &str, kind: &str) -> Value {
    form(message, &json!({field: {"type": kind}}), &[field])
}

fn form(message: &str, properties: &Value, required: &[&str]) -> Value {
    json!({"method": "elicitation/create", "params": {"message": message, "requestedSchema": {
        "type": "object", "properties": properties, "required": required}}})
}

/// A question to the client's model.
pub(crate) fn ask_model(question: &str) -> Value {
    json!({"method": "sampling/createMessage", "params": {"maxTokens": 100,
        "messages": [{"role": "user", "content": {"type": "text", "text": question}}]}})
}

/// A single question.
pub(crate) fn one(key: &str, question: Value) -> Questions {
    Map::from_iter([(key.to_owned(), question)])
}

fn three() -> Questions {
    Map::from_iter([
        (
            "user_name".to_owned(),
            ask_user("What is your name?", "name", "string"),
        ),
        ("greeting".to_owned(), ask_model("Generate a greeting")),
        ("client_roots".to_owned(), json!({"method": "roots/list"})),
    ])
}

/// What a tool asks, round after round.
pub(crate) fn rounds(
    name: &str,
    arguments: &Value,
    context: &RequestContext<RoleServer>,
) -> Vec<Questions> {
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
    match name {
        "test_input_required_result_elicitation" => {
            vec![one(
                "user_name",
                ask_user("What is your name?", "name", "string"),
            )]
        }
        "test_input_required_result_sampling" => {
            vec![one(
                "capital_question",
                ask_model("What is the capital of France?"),
            )]
        }
        "test_input_required_result_list_roots" => {
            vec![one("client_roots", json!({"method": "roots/list"}))]
        }
        "test_input_required_result_multiple_inputs" => vec![three()],
        "test_input_required_result_multi_round" => vec![
            one(
                "step1",
                ask_user("Step 1: What is your name?", "name", "string"),
            ),
            one(
                "step2",
                ask_user("Step 2: What is your favorite color?", "color", "string"),
            ),
        ],
        "test_input_required_result_capabilities" => vec![only_what_it_can(context)],
        "test_sampling" => vec![one("answer", ask_model(&argument("prompt")))],
        "test_elicitation" => {
            let person = json!({
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"}
            });
            let required = ["username", "email"];
            vec![one(
                "answer",
                form(&argument("message"), &person, &required),
            )]
        }
        "test_elicitation_sep1034_defaults" => {
            vec![one(
                "answer",
                form("Every field has a default.", &defaults(), &[]),
            )]
        }
        "test_elicitation_sep1330_enums" => vec![one("answer", form("Choose.", &enums(), &[]))],
        "test_streaming_elicitation" => {
            vec![one("value", ask_user("Give a value.", "value", "string"))]
        }
        _ => vec![one("confirm", ask_user("Please confirm", "ok", "boolean"))],
    }
}

fn only_what_it_can(context: &RequestContext<RoleServer>) -> Questions {
    let can = context.client_capabilities().unwrap_or_default();
    let mut questions = three();
    questions.retain(|key, _| match key.as_str() {
        "user_name" => can.elicitation.is_some(),
        "greeting" => can.sampling.is_some(),
        _ => can.roots.is_some(),
    });
    questions
}

fn defaults() -> Value {
    json!({
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": true}
    })
}

fn enums() -> Value {
    let titled = |noun: &str| {
        json!([
        {"const": "value1", "title": format!("First {noun}")},
        {"const": "value2", "title": format!("Second {noun}")},
        {"const": "value3", "title": format!("Third {noun}")}])
    };
    let plain = json!(["option1", "option2", "option3"]);
    json!({
        "untitledSingle": {"type": "string", "enum": plain},
        "titledSingle": {"type": "string", "oneOf": titled("Option")},
        "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}}
    })
}
