//! MCP content as text: text as it is, binary parts as files whose paths are printed.

use api::wire::CallDone;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::failure::Failure;
use crate::output::Output;
use crate::screen;

/// The text of a result: its content, or its structured content when there is no other.
///
/// # Errors
/// When a binary part cannot be kept.
pub(crate) fn of_result(result: &Value, label: &str, output: &Output) -> Result<String, Failure> {
    let empty = Vec::new();
    let content = result
        .get("content")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    let structured = ["structured_content", "structuredContent"]
        .iter()
        .find_map(|name| result.get(name))
        .filter(|value| !value.is_null());
    match structured {
        Some(structured) if content.is_empty() => Ok(structured.to_string()),
        _ => of_items(content, label, output),
    }
}

/// The text of a finished call's content.
///
/// # Errors
/// As [`of_result`], and when the content is no list.
pub(crate) fn of_done(done: &CallDone, output: &Output) -> Result<String, Failure> {
    let unreadable =
        |error| Failure::protocol(format!("the call's content is not readable: {error}"));
    let items: Vec<Value> = serde_json::from_str(done.content.get()).map_err(unreadable)?;
    match &done.structured_content {
        Some(structured) if items.is_empty() => Ok(structured.get().to_owned()),
        _ => of_items(&items, &done.call_id, output),
    }
}

/// The text of content items, one after the other.
///
/// # Errors
/// As [`of_result`].
pub(crate) fn of_items(items: &[Value], label: &str, output: &Output) -> Result<String, Failure> {
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        parts.push(of_item(item, label, output)?);
    }
    Ok(parts.join("\n"))
}

fn of_item(item: &Value, label: &str, output: &Output) -> Result<String, Failure> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match text("type") {
        Some("resource") => match item.get("resource") {
            Some(inner) => of_item(inner, label, output),
            None => Ok(item.to_string()),
        },
        Some("resource_link") => Ok(screen::one_line(text("uri").unwrap_or_default())),
        _ => {
            if let Some(plain) = text("text") {
                return Ok(plain.to_owned());
            }
            match text("data").or_else(|| text("blob")) {
                Some(encoded) => keep_binary(encoded, text("mimeType"), label, output),
                None => Ok(item.to_string()),
            }
        }
    }
}

fn keep_binary(
    encoded: &str,
    mime: Option<&str>,
    label: &str,
    output: &Output,
) -> Result<String, Failure> {
    let bytes = decode(encoded)?;
    let path = output.keep(&format!("{label}.{}", extension(mime)), &bytes)?;
    Ok(path.display().to_string())
}

/// The bytes of a base64 text.
///
/// # Errors
/// A protocol failure when it is none.
pub(crate) fn decode(encoded: &str) -> Result<Vec<u8>, Failure> {
    STANDARD
        .decode(encoded.trim())
        .map_err(|error| Failure::protocol(format!("binary content is no base64: {error}")))
}

/// A file name's end that opens in the right program; nothing from the server but letters of its type.
fn extension(mime: Option<&str>) -> String {
    let mime = mime.unwrap_or("application/octet-stream");
    let essence = mime.split(';').next().unwrap_or_default().trim();
    let known = match essence {
        "image/jpeg" => "jpg",
        "image/svg+xml" => "svg",
        "audio/mpeg" => "mp3",
        "text/plain" => "txt",
        "application/octet-stream" => "bin",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let subtype = essence.rsplit('/').next().unwrap_or_default();
    let plain = !subtype.is_empty()
        && subtype.len() <= 8
        && subtype.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain {
        subtype.to_ascii_lowercase()
    } else {
        "bin".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_gives_a_harmless_extension() {
        assert_eq!(extension(Some("image/png")), "png");
        assert_eq!(extension(Some("image/jpeg; q=1")), "jpg");
        assert_eq!(extension(Some("x/../../etc/passwd")), "passwd");
        assert_eq!(extension(Some("a/b.c")), "bin");
        assert_eq!(extension(None), "bin");
    }
}
