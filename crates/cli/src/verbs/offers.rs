//! `resources`, `read`, `prompts`, `prompt`: what servers offer besides tools.

use std::fmt::Write as _;

use api::wire::PromptRequest;
use serde_json::{Value, json};

use super::discover::normal_ref;
use super::{Desk, text};
use crate::arguments;
use crate::ask::{Ask, LONG_WAIT};
use crate::content;
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::options::{Prompt, Prompts, Read, Resources};
use crate::output::Mode;
use crate::screen;

/// The bridge's largest page.
const WHOLE_PAGE: &str = "500";

/// Lists resources or resource templates.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn resources(desk: &Desk, resources: &Resources) -> Result<(), Failure> {
    let path = if resources.templates {
        "/v1/resource-templates"
    } else {
        "/v1/resources"
    };
    let ask = Ask::get(path)
        .query("server", resources.server.clone())
        .query("limit", Some(WHOLE_PAGE));
    let body = desk.ask(ask).await?.value()?;
    // As `read` wants it: server and URI, separated by a blank.
    desk.output.list("resources", &body, |item| {
        let uri = ["uri_template", "uri", "name"]
            .iter()
            .map(|name| text(item, name))
            .find(|uri| !uri.is_empty())
            .unwrap_or_default();
        let line = format!("{} {uri}  {}", text(item, "server"), about(item));
        screen::neutral(line.trim_end()).into_owned()
    })
}

/// Lists prompts.
///
/// # Errors
/// As [`resources`].
pub(crate) async fn prompts(desk: &Desk, prompts: &Prompts) -> Result<(), Failure> {
    let ask = Ask::get("/v1/prompts")
        .query("server", prompts.server.clone())
        .query("limit", Some(WHOLE_PAGE));
    let body = desk.ask(ask).await?.value()?;
    desk.output.list("prompts", &body, |item| {
        let line = format!(
            "{}{}  {}",
            text(item, "ref"),
            text(item, "shape"),
            about(item)
        );
        screen::neutral(line.trim_end()).into_owned()
    })
}

fn about(item: &Value) -> String {
    let words = [text(item, "summary"), text(item, "title")];
    screen::one_line(
        words
            .into_iter()
            .find(|words| !words.is_empty())
            .unwrap_or_default(),
    )
}

/// Reads a resource: text to stdout, binary parts to files, or all of it to one file.
///
/// # Errors
/// The bridge's, and when a file cannot be written.
pub(crate) async fn read(desk: &Desk, read: &Read) -> Result<(), Failure> {
    let ask = Ask::get("/v1/resources/read")
        .query("server", Some(read.server.clone()))
        .query("uri", Some(read.uri.clone()))
        .wait(LONG_WAIT);
    let answer = desk.ask(ask).await?;
    let body = answer.value()?;
    let contents = body.get("contents").and_then(Value::as_array);
    let contents = contents.map(Vec::as_slice).unwrap_or_default();
    if let Some(path) = &read.output {
        let mut bytes = Vec::new();
        for part in contents {
            match part.get("blob").and_then(Value::as_str) {
                Some(blob) => bytes.extend(content::decode(blob)?),
                None => bytes.extend_from_slice(text(part, "text").as_bytes()),
            }
        }
        files::replace(path, &bytes, Access::Usual)
            .map_err(|error| Failure::local_io(&path.display().to_string(), &error))?;
        desk.output
            .note(&format!("{} bytes to {}", bytes.len(), path.display()));
        return Ok(());
    }
    if desk.output.mode != Mode::Text {
        return desk.output.json("resource", answer.text()?);
    }
    let shown = content::of_items(contents, "resource", &desk.output)?;
    desk.output.text("resource", &shown)
}

/// Gets a prompt: each message under its role.
///
/// # Errors
/// The bridge's, and when stdout cannot be written.
pub(crate) async fn prompt(desk: &Desk, prompt: &Prompt) -> Result<(), Failure> {
    let typed = arguments::parse(&prompt.arguments)?;
    let body = json!(PromptRequest {
        reference: normal_ref(&prompt.reference),
        arguments: arguments::strings(&typed)?,
        ..PromptRequest::default()
    });
    let ask = Ask::post("/v1/prompts/get", body.to_string().into_bytes()).wait(LONG_WAIT);
    let answer = desk.ask(ask).await?;
    if desk.output.mode != Mode::Text {
        return desk.output.json("prompt", answer.text()?);
    }
    let body = answer.value()?;
    let mut shown = String::new();
    let messages = body.get("messages").and_then(Value::as_array);
    for message in messages.into_iter().flatten() {
        let content = message.get("content").cloned().unwrap_or_default();
        let items = match content {
            Value::Array(items) => items,
            one => vec![one],
        };
        let said = content::of_items(&items, "prompt", &desk.output)?;
        let role = screen::one_line(text(message, "role"));
        let _ = writeln!(shown, "{role}: {said}");
    }
    desk.output.text("prompt", &shown)
}
