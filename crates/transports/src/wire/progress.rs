//! The token a progress notification carries.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Notification;

/// The same notification under another progress token; every other byte of it stays. On the wire the
/// token is ours, so that two callers' tokens never meet; their own is put back here.
/// What carries no token comes back as it is.
#[must_use]
pub fn with_progress_token(notification: &Notification, token: &RawValue) -> Notification {
    Notification {
        method: notification.method.clone(),
        params: notification
            .params
            .as_deref()
            .map(|params| replaced(params, token).unwrap_or_else(|| params.to_owned())),
    }
}

fn replaced(params: &RawValue, token: &RawValue) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Carries<'a> {
        #[serde(borrow, rename = "progressToken")]
        token: &'a RawValue,
    }
    let text = params.get();
    let old = serde_json::from_str::<Carries<'_>>(text).ok()?.token.get();
    // The token was borrowed from the text, so this is where in it it stands.
    let start = old.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let (before, after) = (text.get(..start)?, text.get(start + old.len()..)?);
    RawValue::from_string([before, token.get(), after].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn rewritten(params: &str, token: &str) -> String {
        let notification = Notification {
            method: "notifications/progress".into(),
            params: Some(raw(params)),
        };
        let rewritten = with_progress_token(&notification, &raw(token));
        assert_eq!(rewritten.method, notification.method);
        rewritten.params.unwrap().get().to_owned()
    }

    #[test]
    fn only_the_token_changes() {
        let params =
            r#"{ "progress":1.50,"_meta":{"progressToken":7}, "progressToken" : 7 ,"x":[1e2]}"#;
        assert_eq!(
            rewritten(params, "\"mine\""),
            r#"{ "progress":1.50,"_meta":{"progressToken":7}, "progressToken" : "mine" ,"x":[1e2]}"#
        );
    }

    #[test]
    fn what_carries_no_token_stays() {
        for params in [r#"{"level":"info"}"#, "[1]", "null"] {
            assert_eq!(rewritten(params, "1"), params);
        }
    }
}
