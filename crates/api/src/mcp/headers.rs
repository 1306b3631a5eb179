//! The headers a modern request mirrors its body into, held against the body (2026-07-28 § Transports).
//!
//! A proxy may have decided by a header: what the body says otherwise is refused, never guessed.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde_json::Value;
use serde_json::value::RawValue;
use transports::Mirror;

use super::envelope::Call;
use super::problem::RpcFault;

/// The header that mirrors the method.
const METHOD: &str = "mcp-method";
/// The header that mirrors the name, URI or task.
const NAME: &str = "mcp-name";
/// How an encoded value begins and ends.
const ENCODED: (&str, &str) = ("=?base64?", "?=");

/// Holds `Mcp-Method` and `Mcp-Name` against a request.
///
/// # Errors
/// `-32020`.
pub(super) fn check(headers: &HeaderMap, call: &Call) -> Result<(), RpcFault> {
    let method = one(headers, METHOD)?.ok_or_else(|| missing("Mcp-Method"))?;
    if method != call.method {
        return Err(differs("Mcp-Method"));
    }
    let Some(member) = mirrored_by(&call.method) else {
        return Ok(());
    };
    let Some(named) = call.params.get(member) else {
        // What the method needs is told by the method.
        return Ok(());
    };
    let value = one(headers, NAME)?.ok_or_else(|| missing("Mcp-Name"))?;
    let value = decoded(value).ok_or_else(|| malformed("Mcp-Name"))?;
    let body: Cow<'_, str> =
        serde_json::from_str(named.get())
            .map(Cow::Owned)
            .map_err(|_: serde_json::Error| {
                RpcFault::invalid_params(format!("params.{member} must be a string"))
            })?;
    if value == body {
        Ok(())
    } else {
        Err(differs("Mcp-Name"))
    }
}

/// The member of `params` that `Mcp-Name` mirrors.
fn mirrored_by(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// Holds `Mcp-Param-…` against the arguments of a tool that wants some of them mirrored.
///
/// # Errors
/// `-32020`.
pub(super) fn check_arguments(
    headers: &HeaderMap,
    arguments: Option<&RawValue>,
    mirrors: &[Mirror],
) -> Result<(), RpcFault> {
    if mirrors.is_empty() {
        return Ok(());
    }
    let arguments: Value = match arguments {
        // Arguments nobody can read are refused by the tool's schema, in its own words.
        Some(raw) => serde_json::from_str(raw.get()).unwrap_or_default(),
        None => Value::Null,
    };
    for mirror in mirrors {
        let name = mirror.header().as_str();
        let header = one(headers, name)?;
        let header = match header {
            Some(value) => Some(decoded(value).ok_or_else(|| malformed(name))?),
            None => None,
        };
        match (mirror.value_in(&arguments), header) {
            (None, None) => {}
            (Some(_), None) => return Err(missing(name)),
            (Some(body), Some(header)) if same(body, &header) => {}
            (_, Some(_)) => return Err(differs(name)),
        }
    }
    Ok(())
}

/// Numbers are compared as numbers: `42.0` is `42`.
fn same(body: &Value, header: &str) -> bool {
    match body {
        Value::String(text) => text == header,
        Value::Bool(truth) => header == if *truth { "true" } else { "false" },
        Value::Number(number) => {
            number.to_string() == header || header.parse::<f64>().ok() == number.as_f64()
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, RpcFault> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
            Err(_) => Err(malformed(name)),
        },
        (Some(_), Some(_)) => Err(RpcFault::header_mismatch(format!(
            "Header mismatch: {name} may stand only once"
        ))),
    }
}

/// The text a header stands for; `None` when it is encoded wrongly.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let inner = value
        .strip_prefix(ENCODED.0)
        .and_then(|rest| rest.strip_suffix(ENCODED.1));
    match inner {
        None => Some(Cow::Borrowed(value)),
        Some(inner) => {
            let bytes = STANDARD.decode(inner).ok()?;
            String::from_utf8(bytes).ok().map(Cow::Owned)
        }
    }
}

fn missing(name: &str) -> RpcFault {
    RpcFault::header_mismatch(format!("Header mismatch: the header {name} is missing"))
}

fn differs(name: &str) -> RpcFault {
    RpcFault::header_mismatch(format!("Header mismatch: {name} is not what the body says"))
}

fn malformed(name: &str) -> RpcFault {
    RpcFault::header_mismatch(format!(
        "Header mismatch: {name} holds no well-formed value"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::envelope::{self, Incoming, Message};
    use super::*;

    fn call(method: &str, params: &str) -> Call {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let Ok(Incoming::One(Message::Request(request))) = envelope::read(text.as_bytes()) else {
            panic!("{text}")
        };
        request.call
    }

    fn checked(pairs: &[(&'static str, &'static str)], call: &Call) -> Result<(), i64> {
        check(&headers(pairs), call).map_err(|fault| fault.code)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn method_and_name_must_be_those_of_the_body() {
        let list = call("tools/list", "{}");
        assert_eq!(checked(&[("mcp-method", "tools/list")], &list), Ok(()));
        for wrong in ["TOOLS/LIST", "prompts/list", ""] {
            assert_eq!(checked(&[("mcp-method", wrong)], &list), Err(-32020));
        }
        assert_eq!(checked(&[], &list), Err(-32020));
        let twice = [("mcp-method", "tools/list"), ("mcp-method", "tools/list")];
        assert_eq!(checked(&twice, &list), Err(-32020));

        let named = call("tools/call", r#"{"name":"Zürich"}"#);
        let with = |name| checked(&[("mcp-method", "tools/call"), ("mcp-name", name)], &named);
        assert_eq!(with("=?base64?WsO8cmljaA==?="), Ok(()));
        assert_eq!(with("=?base64?WsO8cmljaA?="), Err(-32020));
        assert_eq!(with("Zurich"), Err(-32020));
        assert_eq!(
            checked(&[("mcp-method", "tools/call")], &named),
            Err(-32020)
        );
        let read = call("resources/read", r#"{"uri":"a://b"}"#);
        let with = |name| {
            checked(
                &[("mcp-method", "resources/read"), ("mcp-name", name)],
                &read,
            )
        };
        assert_eq!(with("  a://b "), Ok(()));
        let task = call("tasks/get", r#"{"taskId":"t"}"#);
        assert_eq!(checked(&[("mcp-method", "tasks/get")], &task), Err(-32020));
    }

    #[test]
    fn mirrored_arguments_must_be_there_and_alike() {
        let schema = r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
            "n":{"type":"integer","x-mcp-header":"N"}}}"#;
        let mirrors = transports::mirrors(&serde_json::from_str(schema).unwrap());
        let arguments = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let check = |pairs: &[(&'static str, &'static str)], text: &str| {
            check_arguments(&headers(pairs), Some(&arguments(text)), &mirrors)
                .map_err(|fault| fault.code)
        };
        let both = [
            ("mcp-param-region", "=?base64?SGVsbG8=?="),
            ("mcp-param-n", "7.0"),
        ];
        assert_eq!(check(&both, r#"{"region":"Hello","n":7}"#), Ok(()));
        assert_eq!(check(&both, r#"{"region":"hello","n":7}"#), Err(-32020));
        assert_eq!(check(&[], r#"{"region":null}"#), Ok(()));
        assert_eq!(check(&[], r#"{"region":"x"}"#), Err(-32020));
        assert_eq!(check(&[("mcp-param-region", "x")], "{}"), Err(-32020));
        let broken = [("mcp-param-region", "=?base64?SGVs!!!bG8=?=")];
        assert_eq!(check(&broken, r#"{"region":"Hello"}"#), Err(-32020));
        let literal = [("mcp-param-region", "SGVsbG8=")];
        assert_eq!(check(&literal, r#"{"region":"SGVsbG8="}"#), Ok(()));
    }
}
