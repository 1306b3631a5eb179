//! Names for the questions of a server that gives none (before 2026-07-28): by who is asked, and for what.
//!
//! The same question has the same name in every call, so that whoever asks again may bring the answer along.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest name of a field that becomes part of a name, in bytes.
const MAX_FIELD_BYTES: usize = 64;
/// Names of one call that are told apart; a server that asks for more things is told by number alone.
const MAX_NAMES: usize = 256;

/// The names given in one call.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: BTreeMap<String, u64>,
    /// Questions named since the names ran out.
    more: u64,
}

impl Names {
    /// A name no other question of the call had: what is asked again is numbered (`user_name`, `user_name_2`).
    pub(super) fn next(&mut self, method: &str, params: Option<&RawValue>) -> String {
        let name = name(method, params);
        if self.given.len() >= MAX_NAMES && !self.given.contains_key(&name) {
            self.more += 1;
            return format!("question_{}", self.more);
        }
        let times = self.given.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 {
            name
        } else {
            format!("{name}_{times}")
        }
    }
}

fn name(method: &str, params: Option<&RawValue>) -> String {
    match method {
        "roots/list" => "client_roots".to_owned(),
        "sampling/createMessage" => "model_message".to_owned(),
        "elicitation/create" => {
            let asked = params.and_then(|raw| serde_json::from_str(raw.get()).ok());
            asked.map_or_else(|| "user_input".to_owned(), of_user)
        }
        _ => "client_input".to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Elicitation {
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    requested_schema: Option<Form>,
}

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    properties: BTreeMap<String, Box<RawValue>>,
}

/// A form of one field is named after it.
fn of_user(asked: Elicitation) -> String {
    if asked.mode.as_deref() == Some("url") {
        return "user_visit".to_owned();
    }
    let fields = asked.requested_schema.map(|form| form.properties);
    let mut fields = fields.unwrap_or_default().into_keys();
    match (fields.next(), fields.next()) {
        (Some(field), None) if is_plain(&field) => format!("user_{field}"),
        _ => "user_input".to_owned(),
    }
}

fn is_plain(field: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !field.is_empty() && field.len() <= MAX_FIELD_BYTES && field.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(properties: &str) -> Box<RawValue> {
        let json = format!(r#"{{"message":"?","requestedSchema":{{"properties":{properties}}}}}"#);
        RawValue::from_string(json).unwrap()
    }

    #[test]
    fn a_question_is_named_by_who_is_asked_for_what() {
        let url = RawValue::from_string(r#"{"mode":"url","url":"https://a"}"#.to_owned()).unwrap();
        let mut names = Names::default();
        for (method, params, expected) in [
            ("roots/list", None, "client_roots"),
            ("sampling/createMessage", None, "model_message"),
            (
                "elicitation/create",
                Some(form(r#"{"name":{}}"#)),
                "user_name",
            ),
            (
                "elicitation/create",
                Some(form(r#"{"name":{}}"#)),
                "user_name_2",
            ),
            (
                "elicitation/create",
                Some(form(r#"{"a":{},"b":{}}"#)),
                "user_input",
            ),
            (
                "elicitation/create",
                Some(form(r#"{"a b":{}}"#)),
                "user_input_2",
            ),
            ("elicitation/create", Some(url), "user_visit"),
            ("elicitation/create", None, "user_input_3"),
            ("x/y", None, "client_input"),
        ] {
            assert_eq!(names.next(method, params.as_deref()), expected);
        }
    }

    #[test]
    fn names_are_bounded_and_stay_apart() {
        let mut names = Names::default();
        for field in 0..2 * MAX_NAMES {
            let params = form(&format!(r#"{{"f{field}":{{}}}}"#));
            names.next("elicitation/create", Some(&params));
        }
        assert_eq!(names.given.len(), MAX_NAMES);
        let one = names.next("roots/list", None);
        assert_ne!(one, names.next("roots/list", None));
    }
}
