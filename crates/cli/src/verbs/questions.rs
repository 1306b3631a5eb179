//! What a call waits for, in words, and the answers a person or agent gives to it. Asks nothing itself.

use std::fmt::Write as _;

use indexmap::IndexMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{sheet, text};
use crate::arguments::{self, Typed};
use crate::failure::Failure;
use crate::screen;

/// A form or a link for the user.
const ELICITATION: &str = "elicitation/create";

/// A model's completion.
const SAMPLING: &str = "sampling/createMessage";

/// What a call in state `input_required` waits for.
pub(crate) fn of(view: &Value) -> &[Value] {
    let requests = view.get("input_requests").and_then(Value::as_array);
    requests.map_or(&[], Vec::as_slice)
}

/// Each question, what may be answered, and how.
pub(crate) fn shown(call_id: &str, questions: &[Value]) -> String {
    let alone = questions.iter().filter(|one| is_form(one)).count() == 1;
    questions.iter().fold(String::new(), |mut lines, question| {
        let key = screen::one_line(text(question, "key"));
        let method = screen::one_line(text(question, "method"));
        let params = question.get("params").unwrap_or(&Value::Null);
        let asked = screen::one_line(text(params, "message"));
        let line = format!("question {key} ({method}) {asked}");
        let _ = writeln!(lines, "{}", line.trim_end());
        let example = match method.as_str() {
            ELICITATION if is_form(question) => {
                for (name, field) in fields(params) {
                    let _ = writeln!(lines, "  {}", field_line(name, field, required(params, name)));
                }
                if alone {
                    let named = fields(params).map(|(name, _)| format!("{name}=…"));
                    let named = named.collect::<Vec<_>>().join(" ");
                    format!("{named} (or --decline {key}, --cancel {key})")
                } else {
                    format!("{key}:='{{\"action\":\"accept\",\"content\":{{…}}}}' (or --decline {key}, --cancel {key})")
                }
            }
            ELICITATION => {
                let _ = writeln!(lines, "  open {}", screen::one_line(text(params, "url")));
                format!("{key}:='{{\"action\":\"accept\"}}' (or --decline {key}, --cancel {key})")
            }
            SAMPLING => {
                lines.push_str(&indented(params));
                format!("{key}:='{{\"role\":\"assistant\",\"content\":{{\"type\":\"text\",\"text\":\"…\"}},\"model\":\"…\"}}'")
            }
            _ => {
                lines.push_str(&indented(params));
                format!("{key}:=JSON")
            }
        };
        let _ = writeln!(lines, "  answer: paperbot-mcp calls input {call_id} {}", example.trim_start());
        lines
    })
}

/// The answers as the bridge takes them, by key.
///
/// # Errors
/// A usage failure that names what is asked, when the answers do not fit it.
pub(crate) fn answered(
    questions: &[Value],
    typed: Vec<Typed>,
    turned_down: &[(&String, &str)],
) -> Result<IndexMap<String, Box<RawValue>>, Failure> {
    let mut answers = IndexMap::new();
    for (key, action) in turned_down {
        let question = find(questions, key)?;
        if text(question, "method") != ELICITATION {
            let message =
                format!("`{key}` is no question to a user; it is answered with {key}:=JSON");
            return Err(Failure::usage(message));
        }
        answers.insert((*key).clone(), raw(&json!({ "action": action }))?);
    }
    let is_key = |typed: &Typed| questions.iter().any(|one| text(one, "key") == typed.name());
    let (whole, fields): (Vec<Typed>, Vec<Typed>) = typed
        .into_iter()
        .partition(|typed| typed.json().is_some() && is_key(typed));
    for one in whole {
        if let Some(json) = one.json() {
            answers.insert(one.name().to_owned(), json.to_owned());
        }
    }
    if !fields.is_empty() {
        let (key, answer) = form(questions, &fields)?;
        if answers.contains_key(&key) {
            let message = format!("`{key}` is answered twice");
            return Err(Failure::usage(message));
        }
        answers.insert(key, answer);
    }
    if answers.is_empty() {
        return Err(Failure::usage("say what to answer").hint(names(questions)));
    }
    Ok(answers)
}

/// The one form that waits, filled in.
fn form(questions: &[Value], typed: &[Typed]) -> Result<(String, Box<RawValue>), Failure> {
    let mut forms = questions.iter().filter(|one| is_form(one));
    let (Some(form), None) = (forms.next(), forms.next()) else {
        let message = "name=value fills the one form that waits, and there is not exactly one";
        return Err(Failure::usage(message).hint(names(questions)));
    };
    let params = form.get("params").unwrap_or(&Value::Null);
    let known = |name: &str| fields(params).any(|(field, _)| field == name);
    let given = |name: &str| typed.iter().any(|one| one.name() == name);
    let unknown = typed.iter().find(|one| !known(one.name()));
    let missing = fields(params).find(|(name, _)| required(params, name) && !given(name));
    let wrong = match (unknown, missing) {
        (Some(one), _) => Some(format!("the form has no field `{}`", one.name())),
        (None, Some((name, _))) => Some(format!("the form wants `{name}`")),
        (None, None) => None,
    };
    if let Some(message) = wrong {
        let fields =
            fields(params).map(|(name, field)| field_line(name, field, required(params, name)));
        return Err(Failure::usage(message).hint(fields.collect::<Vec<_>>().join("; ")));
    }
    let content = arguments::object(typed, params.get("requestedSchema"))?;
    let answer = IndexMap::from([("action", raw(&json!("accept"))?), ("content", content)]);
    let answer = serde_json::value::to_raw_value(&answer);
    let answer = answer.map_err(|error| Failure::usage(error.to_string()))?;
    Ok((text(form, "key").to_owned(), answer))
}

fn find<'a>(questions: &'a [Value], key: &str) -> Result<&'a Value, Failure> {
    let found = questions.iter().find(|one| text(one, "key") == key);
    found.ok_or_else(|| {
        Failure::usage(format!("nothing called `{key}` is asked")).hint(names(questions))
    })
}

fn names(questions: &[Value]) -> String {
    let names = questions
        .iter()
        .map(|one| format!("{} ({})", text(one, "key"), text(one, "method")));
    format!(
        "asked: {}; `calls get` shows how to answer",
        names.collect::<Vec<_>>().join(", ")
    )
}

/// A form, not a link: forms of older revisions name no mode.
fn is_form(question: &Value) -> bool {
    let mode = question
        .get("params")
        .map_or("", |params| text(params, "mode"));
    text(question, "method") == ELICITATION && mode != "url"
}

fn fields(params: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let schema = params.get("requestedSchema");
    let properties = schema.and_then(|schema| schema.get("properties")?.as_object());
    let all = properties.into_iter().flatten();
    all.map(|(name, field)| (name.as_str(), field))
}

fn required(params: &Value, name: &str) -> bool {
    let schema = params.get("requestedSchema");
    let names = schema.and_then(|schema| schema.get("required")?.as_array());
    names.is_some_and(|names| names.iter().any(|one| one == name))
}

fn field_line(name: &str, field: &Value, required: bool) -> String {
    let choices = field.get("enum").and_then(Value::as_array);
    let kind = match choices {
        Some(choices) => choices
            .iter()
            .map(Value::to_string)
            .collect::<Vec<_>>()
            .join("|"),
        None => text(field, "type").to_owned(),
    };
    let mark = if required { "" } else { "?" };
    let what = ["description", "title"].map(|member| text(field, member));
    let what = what
        .into_iter()
        .find(|what| !what.is_empty())
        .unwrap_or_default();
    let line = format!("{name}{mark}: {kind}  {what}");
    screen::one_line(&line)
}

fn indented(params: &Value) -> String {
    let lines = sheet(params);
    lines
        .lines()
        .fold(String::new(), |all, line| format!("{all}  {line}\n"))
}

fn raw(value: &Value) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::usage(error.to_string()))
}
