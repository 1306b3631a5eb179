//! What an older server asked for in vain: it learns by asking what its client cannot do, and then fails in its own
//! words. A modern client is told which capability to declare.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::abilities::Abilities;
use super::problem::{MISSING_CAPABILITY, RpcFault};

/// Capabilities a server asked for in vain, as the client would have declared them.
#[derive(Debug, Default)]
pub(super) struct Lacking(Map<String, Value>);

impl Lacking {
    /// The server asked this, and the client did not declare that it can answer.
    pub(super) fn note(&mut self, method: &str, params: Option<&RawValue>) {
        let (name, needed) = match method {
            "roots/list" => ("roots", json!({})),
            "sampling/createMessage" => ("sampling", json!({})),
            "elicitation/create" if Abilities::is_by_url(params) => {
                ("elicitation", json!({"url": {}}))
            }
            "elicitation/create" => ("elicitation", json!({})),
            // No capability is known that would help.
            _ => return,
        };
        self.0.insert(name.to_owned(), needed);
    }

    /// The server's error as the one that says what the client would have to declare.
    pub(super) fn explain(&self, theirs: RpcFault) -> RpcFault {
        if self.0.is_empty() || theirs.code == MISSING_CAPABILITY {
            return theirs;
        }
        let required = Value::Object(self.0.clone());
        let mut error = RpcFault::missing_capability(&required);
        error.message = format!("{}: {}", error.message, theirs.message);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_after_questions_in_vain_says_what_was_lacking() {
        let mut lacking = Lacking::default();
        let theirs = || RpcFault::invalid_params("no");
        assert_eq!(lacking.explain(theirs()).code, theirs().code);
        let url = RawValue::from_string(r#"{"mode":"url"}"#.to_owned()).unwrap();
        lacking.note("x/unknown", None);
        lacking.note("sampling/createMessage", None);
        lacking.note("elicitation/create", Some(&url));
        let told = lacking.explain(theirs());
        assert_eq!(told.code, MISSING_CAPABILITY);
        assert!(told.message.ends_with(": no"), "{}", told.message);
        assert_eq!(
            told.data.unwrap().get(),
            r#"{"requiredCapabilities":{"elicitation":{"url":{}},"sampling":{}}}"#
        );
    }
}
