//! What a client can do for a server: answer questions, sample, list roots.
//!
//! Read from its capabilities; small enough to stand in a session id, so that a restart forgets nothing.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

const ROOTS: u16 = 1;
const ROOTS_CHANGE: u16 = 1 << 1;
const SAMPLING: u16 = 1 << 2;
const SAMPLING_TOOLS: u16 = 1 << 3;
const SAMPLING_CONTEXT: u16 = 1 << 4;
const ELICITATION: u16 = 1 << 5;
const ELICITATION_FORM: u16 = 1 << 6;
const ELICITATION_URL: u16 = 1 << 7;
const TASKS: u16 = 1 << 8;
const TASKS_LIST: u16 = 1 << 9;
const TASKS_CANCEL: u16 = 1 << 10;
const TASKS_SAMPLING: u16 = 1 << 11;
const TASKS_ELICITATION: u16 = 1 << 12;
const TASKS_EXTENSION: u16 = 1 << 13;

/// Name of the tasks extension of 2026-07-28.
pub(super) const TASKS_EXTENSION_NAME: &str = "io.modelcontextprotocol/tasks";

/// Capabilities whose members are empty objects, and those members.
const GROUPS: [(u16, &str); 3] = [
    (SAMPLING, "sampling"),
    (ELICITATION, "elicitation"),
    (TASKS, "tasks"),
];
const MEMBERS: [(u16, &str, &str); 6] = [
    (SAMPLING_TOOLS, "sampling", "tools"),
    (SAMPLING_CONTEXT, "sampling", "context"),
    (ELICITATION_FORM, "elicitation", "form"),
    (ELICITATION_URL, "elicitation", "url"),
    (TASKS_LIST, "tasks", "list"),
    (TASKS_CANCEL, "tasks", "cancel"),
];

/// What a client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abilities(pub(super) u16);

type Flag = Option<IgnoredAny>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Declared {
    roots: Option<Roots>,
    sampling: Option<Sampling>,
    elicitation: Option<Elicitation>,
    tasks: Option<Tasks>,
    extensions: Option<Extensions>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Roots {
    list_changed: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sampling {
    tools: Flag,
    context: Flag,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Elicitation {
    form: Flag,
    url: Flag,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tasks {
    list: Flag,
    cancel: Flag,
    requests: Option<TaskRequests>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TaskRequests {
    sampling: Option<TaskSampling>,
    elicitation: Option<TaskElicitation>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct TaskSampling {
    create_message: Flag,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TaskElicitation {
    create: Flag,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Extensions {
    #[serde(rename = "io.modelcontextprotocol/tasks")]
    tasks: Flag,
}

#[derive(Deserialize)]
struct Mode {
    #[serde(default)]
    mode: Option<String>,
}

impl Abilities {
    /// Reads `ClientCapabilities`. What cannot be read declares nothing.
    pub(super) fn read(raw: &RawValue) -> Self {
        let told: Declared = serde_json::from_str(raw.get()).unwrap_or_default();
        let mut bits = 0;
        let mut set = |flag: u16, told: bool| bits |= if told { flag } else { 0 };
        if let Some(roots) = told.roots {
            set(ROOTS, true);
            set(ROOTS_CHANGE, roots.list_changed == Some(true));
        }
        if let Some(sampling) = told.sampling {
            set(SAMPLING, true);
            set(SAMPLING_TOOLS, sampling.tools.is_some());
            set(SAMPLING_CONTEXT, sampling.context.is_some());
        }
        if let Some(elicitation) = told.elicitation {
            set(ELICITATION, true);
            set(ELICITATION_FORM, elicitation.form.is_some());
            set(ELICITATION_URL, elicitation.url.is_some());
        }
        if let Some(tasks) = told.tasks {
            set(TASKS, true);
            set(TASKS_LIST, tasks.list.is_some());
            set(TASKS_CANCEL, tasks.cancel.is_some());
            let requests = tasks.requests.unwrap_or_default();
            let (sampling, elicitation) = (requests.sampling, requests.elicitation);
            set(
                TASKS_SAMPLING,
                sampling.is_some_and(|s| s.create_message.is_some()),
            );
            set(
                TASKS_ELICITATION,
                elicitation.is_some_and(|e| e.create.is_some()),
            );
        }
        set(
            TASKS_EXTENSION,
            told.extensions.is_some_and(|e| e.tasks.is_some()),
        );
        Self(bits)
    }

    /// As capabilities again: what a resurrected session declares to servers.
    pub(super) fn capabilities(self) -> Arc<RawValue> {
        let empty = || json!({});
        let mut whole = json!({});
        if self.has(ROOTS) {
            whole["roots"] = empty();
            if self.has(ROOTS_CHANGE) {
                whole["roots"]["listChanged"] = true.into();
            }
        }
        for (group, name) in GROUPS {
            if self.has(group) {
                whole[name] = empty();
            }
        }
        for (flag, group, member) in MEMBERS {
            if self.has(flag) {
                whole[group][member] = empty();
            }
        }
        if self.has(TASKS_SAMPLING) {
            whole["tasks"]["requests"]["sampling"]["createMessage"] = empty();
        }
        if self.has(TASKS_ELICITATION) {
            whole["tasks"]["requests"]["elicitation"]["create"] = empty();
        }
        if self.has(TASKS_EXTENSION) {
            whole["extensions"][TASKS_EXTENSION_NAME] = empty();
        }
        to_raw_value(&whole).map_or_else(|_| RawValue::NULL.to_owned().into(), Arc::from)
    }

    /// The same client, as one that knows no tasks.
    pub(super) fn without_tasks(self) -> Self {
        let tasks = TASKS
            | TASKS_LIST
            | TASKS_CANCEL
            | TASKS_SAMPLING
            | TASKS_ELICITATION
            | TASKS_EXTENSION;
        Self(self.0 & !tasks)
    }

    /// It declared the tasks extension.
    pub(super) fn knows_tasks_extension(self) -> bool {
        self.has(TASKS_EXTENSION)
    }

    /// Whether a server may ask it this.
    pub(super) fn can_answer(self, method: &str, params: Option<&RawValue>) -> bool {
        match method {
            "roots/list" => self.has(ROOTS),
            "sampling/createMessage" => self.has(SAMPLING),
            "elicitation/create" => {
                let by_url = Self::is_by_url(params);
                // Without a word on modes forms are meant.
                self.has(ELICITATION)
                    && if by_url {
                        self.has(ELICITATION_URL)
                    } else {
                        self.has(ELICITATION_FORM) || !self.has(ELICITATION_URL)
                    }
            }
            _ => false,
        }
    }

    /// Whether an `elicitation/create` sends the user to a page.
    pub(super) fn is_by_url(params: Option<&RawValue>) -> bool {
        let mode = params.and_then(|raw| serde_json::from_str::<Mode>(raw.get()).ok());
        mode.is_some_and(|told| told.mode.as_deref() == Some("url"))
    }

    fn has(self, flag: u16) -> bool {
        self.0 & flag != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_read_can_be_told_again() {
        for text in [
            "{}",
            r#"{"roots":{}}"#,
            r#"{"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true},"sampling":{"context":{},"tools":{}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
            r#"{"tasks":{"cancel":{},"list":{},"requests":{"elicitation":{"create":{}},"sampling":{"createMessage":{}}}}}"#,
        ] {
            let read = Abilities::read(&raw(text));
            let told: serde_json::Value = serde_json::from_str(read.capabilities().get()).unwrap();
            assert_eq!(
                told,
                serde_json::from_str::<serde_json::Value>(text).unwrap()
            );
            assert_eq!(Abilities::read(&read.capabilities()), read);
        }
        assert_eq!(Abilities::read(&raw("[7]")), Abilities::default());
    }

    #[test]
    fn only_declared_questions_may_be_asked() {
        let forms = Abilities::read(&raw(r#"{"elicitation":{}}"#));
        let url = raw(r#"{"mode":"url","url":"https://example.com"}"#);
        assert!(forms.can_answer("elicitation/create", None));
        assert!(!forms.can_answer("elicitation/create", Some(&url)));
        assert!(!forms.can_answer("sampling/createMessage", None));
        assert!(!forms.can_answer("roots/list", None));
        let pages = Abilities::read(&raw(r#"{"elicitation":{"url":{}},"roots":{}}"#));
        assert!(pages.can_answer("elicitation/create", Some(&url)));
        assert!(!pages.can_answer("elicitation/create", None));
        assert!(pages.can_answer("roots/list", None));
    }
}
