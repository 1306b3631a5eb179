//! Request headers with a meaning of ours: read strictly, each in one place.

use broker::Trace;
use broker::operations::servers::IfMatch;
use http::HeaderMap;
use http::header::{ACCEPT, IF_MATCH, IF_NONE_MATCH};

use crate::problem::Refused;

/// Longest idempotency key; a UUID with a prefix is 60.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// The trace of a request: the caller's, or a fresh one.
#[must_use]
pub fn trace(headers: &HeaderMap) -> Trace {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text("traceparent")
        .and_then(|parent| Trace::join(parent, text("tracestate")))
        .unwrap_or_else(Trace::mint)
}

/// `Idempotency-Key`.
///
/// # Errors
/// `invalid_request` when it is empty, repeated, too long or not printable ASCII.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut values = headers.get_all("idempotency-key").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key("idempotency-key") {
            Err(Refused::invalid("Idempotency-Key may stand only once"))
        } else {
            Ok(None)
        };
    };
    let key = value.to_str().unwrap_or_default().trim();
    // Structured-field clients send it in quotes.
    let key = key
        .strip_prefix('"')
        .and_then(|key| key.strip_suffix('"'))
        .unwrap_or(key);
    if key.is_empty() || key.len() > MAX_IDEMPOTENCY_KEY_BYTES {
        return Err(Refused::invalid(format!(
            "Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} printable ASCII characters"
        )));
    }
    Ok(Some(key.to_owned()))
}

/// `Prefer: respond-async`.
#[must_use]
pub fn respond_async(headers: &HeaderMap) -> bool {
    lists(headers, "prefer", "respond-async")
}

/// `Accept: text/event-stream`. A client that takes JSON as gladly (MCP clients always say both) gets JSON:
/// it asked for an answer, not for the events on the way.
#[must_use]
pub fn wants_events(headers: &HeaderMap) -> bool {
    let (mut events, mut json) = (None, None);
    for value in headers.get_all(ACCEPT) {
        for member in value.to_str().unwrap_or_default().split(',') {
            let (kind, parameters) = member.split_once(';').unwrap_or((member, ""));
            let kind = kind.trim();
            let told = if kind.eq_ignore_ascii_case("text/event-stream") {
                &mut events
            } else if kind.eq_ignore_ascii_case("application/json") {
                &mut json
            } else {
                continue;
            };
            // Where a type stands twice, its first place counts.
            told.get_or_insert_with(|| weight(parameters));
        }
    }
    events.is_some_and(|events| json.is_none_or(|json| json < events))
}

/// How gladly a member of `Accept` is taken, from 0 to 1.
fn weight(parameters: &str) -> f32 {
    let mut parts = parameters.split(';').map(str::trim);
    let told = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
    told.unwrap_or(1.0)
}

/// `Accept: application/x-ndjson`.
#[must_use]
pub fn wants_lines(headers: &HeaderMap) -> bool {
    lists(headers, ACCEPT.as_str(), "application/x-ndjson")
}

fn lists(headers: &HeaderMap, name: &str, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| {
            let member = member.split(';').next().unwrap_or_default().trim();
            member.eq_ignore_ascii_case(wanted)
        })
}

/// `If-Match` of a versioned thing.
///
/// # Errors
/// `invalid_request` when it is neither `*` nor one quoted version.
pub fn if_match(headers: &HeaderMap) -> Result<IfMatch, Refused> {
    let Some(value) = headers.get(IF_MATCH) else {
        return Ok(IfMatch::Absent);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(IfMatch::Any);
    }
    text.trim_matches('"')
        .parse()
        .map(IfMatch::Version)
        .map_err(|_| Refused::invalid("If-Match must be * or one version in quotes, such as \"3\""))
}

/// Whether `If-None-Match` names this tag (weakly compared, as GET wants it).
#[must_use]
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|member| {
            let member = member.trim().trim_start_matches("W/");
            member == "*" || member.trim_matches('"') == tag
        })
}

/// Where a stream resumes: `Last-Event-ID` before `after`, 16 hex digits or fewer; `0` is the beginning.
///
/// # Errors
/// `invalid_request` when it is no event id.
pub fn resume_after(headers: &HeaderMap, after: Option<String>) -> Result<Option<u64>, Refused> {
    let told = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
        .or(after);
    let Some(text) = told else { return Ok(None) };
    u64::from_str_radix(text.trim(), 16)
        .map(Some)
        .map_err(|_| Refused::invalid("an event id is up to 16 hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn lists_are_read_member_by_member() {
        assert!(respond_async(&headers(&[(
            "prefer",
            "wait=5, Respond-Async"
        )])));
        assert!(!respond_async(&headers(&[(
            "prefer",
            "respond-asynchronously"
        )])));
        assert!(wants_events(&headers(&[(
            "accept",
            "application/json;q=0.1, text/event-stream"
        )])));
    }

    #[test]
    fn an_idempotency_key_stands_once_and_is_bounded() {
        let key = |pairs| idempotency_key(&headers(pairs));
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(
            key(&[("idempotency-key", "\"k1\"")]).unwrap().as_deref(),
            Some("k1")
        );
        assert!(key(&[("idempotency-key", "")]).is_err());
        assert!(key(&[("idempotency-key", "a"), ("idempotency-key", "b")]).is_err());
    }

    #[test]
    fn tags_match_weakly_and_versions_strictly() {
        assert!(none_match(
            &headers(&[("if-none-match", "\"x\", W/\"abc\"")]),
            "abc"
        ));
        assert!(!none_match(&headers(&[("if-none-match", "\"ab\"")]), "abc"));
        assert_eq!(
            if_match(&headers(&[("if-match", "\"7\"")])).unwrap(),
            IfMatch::Version(7)
        );
        assert_eq!(
            if_match(&headers(&[("if-match", "*")])).unwrap(),
            IfMatch::Any
        );
        assert!(if_match(&headers(&[("if-match", "seven")])).is_err());
    }

    #[test]
    fn events_are_for_whoever_wants_them_and_no_json() {
        for (accept, events) in [
            ("text/event-stream", true),
            ("text/event-stream, */*;q=0.1", true),
            ("application/json, text/event-stream", false),
            ("*/*", false),
        ] {
            assert_eq!(
                wants_events(&headers(&[("accept", accept)])),
                events,
                "{accept}"
            );
        }
    }

    #[test]
    fn the_header_wins_over_the_parameter_when_resuming() {
        let map = headers(&[("last-event-id", "00000000000012af")]);
        assert_eq!(resume_after(&map, Some("1".into())).unwrap(), Some(0x12af));
        assert_eq!(
            resume_after(&HeaderMap::new(), Some("0".into())).unwrap(),
            Some(0)
        );
        assert!(resume_after(&HeaderMap::new(), Some("xyz".into())).is_err());
    }
}
