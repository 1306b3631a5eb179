//! Request bodies: bounded in size and time, read once, and complaints that point without quoting.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use broker::{ErrorCode, Fault, PointerDetail};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::app::Shared;
use crate::problem::Refused;
use crate::suggestion;

/// How long a whole body may take to arrive: 10 MiB at 350 KB/s, and far less for what people send.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body of a known shape, whatever its Content-Type says: `curl -d` says a form, and pages are kept
/// out by their Origin.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for Json<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refused> {
        let (head, body) = request.into_parts();
        json(app, &head.headers, body).await.map(Self)
    }
}

/// Reads a JSON body of a known shape.
///
/// # Errors
/// `invalid_request`, `payload_too_large`.
pub async fn json<T: DeserializeOwned>(
    app: &Shared,
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Refused> {
    let bytes = read(body, headers, app.limits.body_bytes).await?;
    parse(&bytes)
}

/// As [`Json`], but an empty body stands for the default.
#[derive(Debug)]
pub struct JsonOrDefault<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Shared> for JsonOrDefault<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refused> {
        let (head, body) = request.into_parts();
        let bytes = read(body, &head.headers, app.limits.body_bytes).await?;
        if bytes.trim_ascii().is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

/// Reads a body whole.
///
/// # Errors
/// `invalid_request`, `payload_too_large`.
pub async fn read(body: Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Refused> {
    let told = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|told| told > limit) {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(Refused::invalid("the body broke off")),
        Err(_elapsed) => Err(Refused::invalid(format!(
            "the body did not arrive within {} s",
            BODY_TIMEOUT.as_secs()
        ))),
    }
}

fn too_large(limit: usize) -> Refused {
    Refused::new(
        ErrorCode::PayloadTooLarge,
        format!("the body is larger than {limit} bytes"),
    )
}

/// Reads a JSON document; the complaint names the place, never the content.
///
/// # Errors
/// `invalid_request` with line and column, or pointer and suggestion.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    // A list would be taken for the members in their order, whatever the document says.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Refused::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|error| complaint::<T>(bytes, &error))
}

/// As [`parse`] for a part of a body at `pointer`.
///
/// # Errors
/// As [`parse`].
pub fn parse_part<T: DeserializeOwned>(text: &str, pointer: &str) -> Result<T, Refused> {
    serde_json::from_str(text).map_err(|error| {
        let mut fault = fault_of::<T>(text.as_bytes(), &error);
        for complaint in &mut fault.errors {
            complaint.pointer.insert_str(0, pointer);
        }
        fault.into()
    })
}

fn complaint<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Refused {
    fault_of::<T>(bytes, error).into()
}

fn fault_of<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> broker::BrokerError {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        return Fault::new(
            ErrorCode::InvalidRequest,
            format!("the body is not valid JSON: line {line}, column {column}"),
        );
    }
    // A second parse on the failing path alone finds the place; the first one stays cheap.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let tracked = serde_path_to_error::deserialize::<_, T>(&mut json);
    let (mut pointer, message) = match tracked {
        Err(error) => (pointer_of(error.path()), error.into_inner().to_string()),
        Ok(_) => (String::new(), error.to_string()),
    };
    let detail = reworded(&message, &mut pointer);
    let mut fault = Fault::new(
        ErrorCode::InvalidRequest,
        format!("{detail} (line {line}, column {column})"),
    );
    fault.errors.push(PointerDetail { pointer, detail });
    fault
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .fold(String::new(), |pointer, segment| match segment {
            Segment::Seq { index } => format!("{pointer}/{index}"),
            Segment::Map { key } => {
                let key = suggestion::shorten(key)
                    .replace('~', "~0")
                    .replace('/', "~1");
                format!("{pointer}/{key}")
            }
            Segment::Enum { .. } | Segment::Unknown => pointer,
        })
}

/// serde's messages quote values; these do not.
fn reworded(message: &str, pointer: &mut String) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let field = rest.split('`').next().unwrap_or_default();
        let key = suggestion::shorten(field);
        if !pointer.ends_with(&format!("/{key}")) {
            pointer.push('/');
            pointer.push_str(&key);
        }
        return suggestion::unknown("field", field, quoted.into_iter().skip(1));
    }
    if message.starts_with("unknown variant `") {
        let variant = quoted.first().copied().unwrap_or_default();
        return suggestion::unknown("value", variant, quoted.into_iter().skip(1));
    }
    if message.starts_with("missing field") || message.starts_with("duplicate field") {
        let field = quoted.first().copied().unwrap_or_default();
        let kind = if message.starts_with('m') {
            "missing"
        } else {
            "repeated"
        };
        return format!("the field `{field}` is {kind}");
    }
    match message.split_once("expected ") {
        Some((_, expected)) => {
            let expected = expected.split(" at line ").next().unwrap_or(expected);
            format!("expected {expected}")
        }
        None => "this value is not what is expected here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{CallRequest, CreateUser};

    fn problem<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> serde_json::Value {
        let error = parse::<T>(text.as_bytes()).unwrap_err();
        let json = serde_json::to_value(format!("{error:?}")).unwrap();
        let fault = match serde_json::from_slice::<T>(text.as_bytes()) {
            Err(error) => fault_of::<T>(text.as_bytes(), &error),
            Ok(value) => panic!("{value:?} {json}"),
        };
        serde_json::to_value(crate::problem::of(&fault, "", "")).unwrap()
    }

    #[test]
    fn an_unknown_field_is_named_with_the_one_that_was_meant() {
        let told = problem::<CallRequest>(r#"{"ref":"a.b","argumets":{}}"#);
        assert_eq!(told["errors"][0]["pointer"], "/argumets");
        assert_eq!(
            told["errors"][0]["detail"],
            "unknown field `argumets`; did you mean `arguments`?"
        );
    }

    #[test]
    fn a_wrong_type_is_pointed_at_and_not_quoted() {
        let told = problem::<CallRequest>(r#"{"ref":"a.b","timeout_ms":"hunter2-secret"}"#);
        assert_eq!(told["errors"][0]["pointer"], "/timeout_ms");
        assert!(!told.to_string().contains("hunter2"), "{told}");
        let told =
            problem::<CreateUser>(r#"{"user":"u","workspaces":[{"workspace":1,"roles":[]}]}"#);
        assert_eq!(told["errors"][0]["pointer"], "/workspaces/0/workspace");
    }

    #[test]
    fn a_list_is_no_body_whatever_its_members_would_fit() {
        let refused = parse::<CallRequest>(b" [\"a.b\", {}]").unwrap_err();
        let told = format!("{refused:?}");
        assert!(told.contains("the body must be a JSON object"), "{told}");
    }

    #[test]
    fn broken_json_is_located_and_not_quoted() {
        let told = problem::<CallRequest>("{\n  \"ref\": hunter2\n}");
        assert_eq!(told["code"], "invalid_request");
        assert!(
            told["detail"].as_str().unwrap().contains("line 2"),
            "{told}"
        );
        assert!(!told.to_string().contains("hunter2"), "{told}");
    }

    #[test]
    fn a_missing_field_is_named() {
        let told = problem::<CallRequest>("{}");
        assert_eq!(told["errors"][0]["detail"], "the field `ref` is missing");
    }
}
