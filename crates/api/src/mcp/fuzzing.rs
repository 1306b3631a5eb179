//! What a client sends to the MCP endpoints: its body and the headers that mirror it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::envelope::{self, Incoming, Message};
use super::headers;

/// A body: what is read is what any reader of JSON reads, and nothing that two readers read differently.
pub(crate) fn envelope(data: &[u8]) {
    let Ok(incoming) = envelope::read(data) else {
        return;
    };
    let Ok(seen) = serde_json::from_slice::<Value>(data) else {
        // Only what is skipped or passed on raw can be deeper than a reader into values goes.
        return;
    };
    match &incoming {
        Incoming::One(message) => compare(message, &seen),
        Incoming::Batch(messages) => {
            let seen = seen.as_array().map(Vec::as_slice).unwrap_or_default();
            assert_eq!(messages.len(), seen.len());
            for (message, seen) in messages.iter().zip(seen) {
                if let Ok(message) = message {
                    compare(message, seen);
                }
            }
        }
    }
}

fn compare(message: &Message, seen: &Value) {
    assert_eq!(seen["jsonrpc"], "2.0");
    let call = match message {
        Message::Request(request) => {
            assert_eq!(value(request.id.raw()), seen["id"]);
            &request.call
        }
        Message::Notification(call) => {
            assert!(seen.get("id").is_none());
            call
        }
        Message::Answer(answer) => {
            assert_eq!(value(answer.id.raw()), seen["id"]);
            assert!(seen.get("method").is_none());
            if let Ok(result) = &answer.outcome {
                assert_eq!(value(result.get()), seen["result"]);
            }
            return;
        }
    };
    assert_eq!(seen["method"], *call.method);
    for (name, raw) in &call.params.0 {
        assert_eq!(value(raw.get()), seen["params"][name.as_ref()]);
    }
    let named = seen["params"].as_object().map_or(0, |params| {
        params.len() - usize::from(params.contains_key("_meta"))
    });
    assert_eq!(call.params.0.len(), named);
}

fn value(raw: &str) -> Value {
    serde_json::from_str(raw).unwrap_or_default()
}

/// Mirrored headers: the first line is a header, the rest what the body says. A header passes exactly when
/// it says the same, plainly or encoded.
pub(crate) fn headers(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == b'\n');
    let header = halves.next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(halves.next().unwrap_or_default()) else {
        return;
    };
    let encoded = format!("=?base64?{}?=", STANDARD.encode(text));
    assert!(passes(encoded.as_bytes(), text), "encoded it is the same");
    if passes(header, text) {
        let said = String::from_utf8_lossy(header);
        let said = said.trim_matches([' ', '\t']);
        let inner = said
            .strip_prefix("=?base64?")
            .and_then(|rest| rest.strip_suffix("?="));
        match inner.map(|inner| STANDARD.decode(inner)) {
            None => assert_eq!(said, text),
            Some(decoded) => assert_eq!(decoded.ok().as_deref(), Some(text.as_bytes())),
        }
    }
}

/// Whether a header is taken for what the body says, as a name and as an argument alike.
fn passes(header: &[u8], text: &str) -> bool {
    let Ok(header) = HeaderValue::from_bytes(header) else {
        return false;
    };
    let mut map = HeaderMap::new();
    map.insert("mcp-method", HeaderValue::from_static("tools/call"));
    map.insert("mcp-name", header.clone());
    map.insert("mcp-param-text", header);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": text}});
    let Ok(Incoming::One(Message::Request(request))) = envelope::read(body.to_string().as_bytes())
    else {
        panic!("a call is read");
    };
    let schema = json!({"properties": {"text": {"type": "string", "x-mcp-header": "Text"}}});
    let arguments: Option<Box<RawValue>> = to_raw_value(&json!({"text": text})).ok();
    let mirrors = transports::mirrors(&schema);
    let argument = headers::check_arguments(&map, arguments.as_deref(), &mirrors).is_ok();
    let name = headers::check(&map, &request.call).is_ok();
    assert_eq!(name, argument, "one way to read a header");
    name
}
