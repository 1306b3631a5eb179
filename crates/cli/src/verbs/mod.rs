//! One module for each group of verbs: what is asked of the bridge and how the answer is shown.

pub(crate) mod agent;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod calls;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod credentials;
pub(crate) mod daemon;
pub(crate) mod discover;
pub(crate) mod doctor;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod mcp;
pub(crate) mod offers;
pub(crate) mod outcome;
pub(crate) mod questions;
pub(crate) mod record;
pub(crate) mod running;
pub(crate) mod servers;
pub(crate) mod sessions;
pub(crate) mod skill;
pub(crate) mod users;

use std::fmt::Write as _;

use serde_json::Value;

use crate::ask::Ask;
use crate::bridge::{Answer, Bridge};
use crate::failure::Failure;
use crate::output::{Mode, Output};
use crate::places::Places;

/// What every verb that talks to the bridge has at hand.
#[derive(Debug)]
pub(crate) struct Desk {
    /// The way to the bridge.
    pub(crate) bridge: Bridge,
    /// The way to the user.
    pub(crate) output: Output,
    /// Where files lie.
    pub(crate) places: Places,
    /// Standard input is not to be waited for.
    pub(crate) no_input: bool,
}

impl Desk {
    /// Asks the bridge, and says so with `--verbose`.
    ///
    /// # Errors
    /// As [`Bridge::ask`].
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, Failure> {
        self.output.detail(&ask.summary());
        self.bridge.ask(ask).await
    }

    /// Asks and shows the answer: the document, or its facts one a line.
    ///
    /// # Errors
    /// As [`Bridge::ask`], and when stdout cannot be written.
    pub(crate) async fn ask_and_show(&self, ask: Ask, label: &str) -> Result<Value, Failure> {
        let body = self.ask(ask).await?.value()?;
        match self.output.mode {
            Mode::Text => self.output.text(label, &sheet(&body))?,
            _ => self.output.json(label, &body.to_string())?,
        }
        Ok(body)
    }
}

/// An object's members, one a line, nested ones as JSON; text with line breaks is indented.
pub(crate) fn sheet(body: &Value) -> String {
    let Value::Object(members) = body else {
        return body.to_string();
    };
    let mut lines = String::new();
    for (name, member) in members {
        let shown = match member {
            Value::Null => continue,
            Value::String(text) => text.trim_end().replace('\n', "\n  "),
            Value::Array(items) if items.iter().any(Value::is_string) => {
                items.iter().fold(String::new(), |list, item| {
                    list + "\n  " + item.as_str().unwrap_or_default()
                })
            }
            Value::Array(items) if items.is_empty() => continue,
            other => other.to_string(),
        };
        let _ = writeln!(lines, "{name}: {shown}");
    }
    lines
}

/// A text member; empty when absent.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The members that are there, as `name=value` in the order named; blank ones are left out.
pub(crate) fn facts(value: &Value, names: &[&str]) -> String {
    let shown = names.iter().filter_map(|name| {
        let member = value.get(name)?;
        let shown = match member {
            Value::Null => return None,
            Value::String(text) if text.is_empty() => return None,
            Value::String(text) => crate::screen::one_line(text),
            other => other.to_string(),
        };
        Some(format!("{name}={shown}"))
    });
    shown.collect::<Vec<_>>().join(" ")
}
