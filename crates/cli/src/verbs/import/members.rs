//! Members of a foreign server, taken out one by one, so that what is left has no place in ours. Pure.

use serde_json::{Map, Value};

/// Longest server name: one DNS label.
const MAX_NAME_BYTES: usize = 63;

/// Whether it is reached over HTTP.
pub(super) fn has_url(members: &Map<String, Value>) -> bool {
    ["url", "httpUrl", "serverUrl"]
        .iter()
        .any(|name| members.contains_key(*name))
}

/// The first of these members that is text.
pub(super) fn take_text(members: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    let found = names
        .iter()
        .find(|name| members.get(**name).is_some_and(Value::is_string))?;
    match members.remove(*found) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Text by name; numbers and flags as they are written.
pub(super) fn take_pairs(
    members: &mut Map<String, Value>,
    names: &[&str],
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for name in names {
        if let Some(Value::Object(found)) = members.remove(*name) {
            pairs.extend(
                found
                    .into_iter()
                    .map(|(name, value)| (name, as_text(&value))),
            );
        }
    }
    pairs
}

/// Each value as text.
pub(super) fn texts(values: &[Value]) -> Vec<String> {
    values.iter().map(as_text).collect()
}

fn as_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Loopback and private addresses: the other program reached them, so the bridge may.
pub(super) fn is_private(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback() || address.is_private(),
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unique_local(),
        None => false,
    }
}

/// Lower case letters, digits and `-`; everything else becomes one `-`.
pub(super) fn our_name(name: &str) -> String {
    let mut ours = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_alphanumeric() {
            ours.push(character.to_ascii_lowercase());
        } else if !ours.is_empty() && !ours.ends_with('-') {
            ours.push('-');
        }
    }
    ours.truncate(MAX_NAME_BYTES);
    ours.truncate(ours.trim_end_matches('-').len());
    ours
}

#[cfg(test)]
mod tests {
    use super::our_name;

    #[test]
    fn names_are_kept_when_they_can_be() {
        assert_eq!(our_name("my-server-2"), "my-server-2");
        assert_eq!(our_name("My_Server (dev)"), "my-server-dev");
        assert_eq!(our_name("@scope/pkg.name"), "scope-pkg-name");
        assert_eq!(our_name("文"), "");
        assert_eq!(our_name(&"a".repeat(80)).len(), 63);
    }
}
