//! Which revision of the protocol a message speaks.
//!
//! Pure: headers and message in, revision or refusal out.

use http::HeaderMap;

use super::envelope::{Call, Message};
use super::problem::RpcFault;

/// The header that names the revision.
const VERSION_HEADER: &str = "mcp-protocol-version";

/// The revisions spoken here, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Revision {
    /// HTTP+SSE.
    V2024_11_05,
    /// Streamable HTTP, batches.
    V2025_03_26,
    /// No batches, elicitation.
    V2025_06_18,
    /// Tasks in the core, primed streams.
    V2025_11_25,
    /// Stateless.
    V2026_07_28,
}

impl Revision {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// Their names, best first: what `server/discover` and refusals list.
    pub(super) const SUPPORTED: [&'static str; 5] = [
        "2026-07-28",
        "2025-11-25",
        "2025-06-18",
        "2025-03-26",
        "2024-11-05",
    ];
    /// What `initialize` offers to a client that asked for something else.
    pub(super) const LAST_LEGACY: Self = Self::V2025_11_25;

    /// As on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Reads a name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Stateless, with metadata on every request.
    pub(super) fn is_modern(self) -> bool {
        self == Self::V2026_07_28
    }

    /// What `initialize` agrees on.
    pub(super) fn negotiate(asked: &str) -> Self {
        Self::parse(asked)
            .filter(|known| !known.is_modern())
            .unwrap_or(Self::LAST_LEGACY)
    }

    /// Batches were allowed and then forbidden.
    pub(super) fn knows_batches(self) -> bool {
        self <= Self::V2025_03_26
    }

    /// Tasks are in the core.
    pub(super) fn has_core_tasks(self) -> bool {
        self == Self::V2025_11_25
    }

    /// A stream begins with an event of an id and no data, which older clients take for a broken message.
    pub(super) fn primes_streams(self) -> bool {
        self == Self::V2025_11_25
    }
}

/// How a message is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// By itself: everything needed stands in it.
    Modern,
    /// As part of a session; its header named this revision.
    Legacy(Option<Revision>),
}

/// Judges one message.
///
/// # Errors
/// `-32020`, `-32022` or `-32602`, each with HTTP 400.
pub(super) fn judge(headers: &HeaderMap, message: &Message) -> Result<Speech, RpcFault> {
    let header = named(headers)?;
    let call = match message {
        Message::Request(request) => &request.call,
        Message::Notification(call) => call,
        Message::Answer(_) => return answer(header),
    };
    match (header, &call.meta.version) {
        // A client that opens with `initialize` is a legacy one, whatever its library puts into the header.
        (_, None) if call.method == "initialize" => Ok(Speech::Legacy(None)),
        (None, None) => Ok(Speech::Legacy(None)),
        (Some(name), None) => match Revision::parse(name) {
            None => Err(RpcFault::unsupported_version(name)),
            Some(known) if !known.is_modern() => Ok(Speech::Legacy(Some(known))),
            // What notifications must carry is not defined by this revision.
            Some(_) if matches!(message, Message::Notification(_)) => Ok(Speech::Modern),
            Some(_) => Err(RpcFault::invalid_params(
                "params._meta lacks io.modelcontextprotocol/protocolVersion",
            )),
        },
        (None, Some(_)) => Err(RpcFault::header_mismatch(
            "the header MCP-Protocol-Version is missing",
        )),
        (Some(name), Some(told)) if name != told => Err(RpcFault::header_mismatch(
            "MCP-Protocol-Version and params._meta name different revisions",
        )),
        (Some(_), Some(told)) => modern(told, call, message),
    }
}

fn modern(told: &str, call: &Call, message: &Message) -> Result<Speech, RpcFault> {
    if !Revision::parse(told).is_some_and(Revision::is_modern) {
        return Err(RpcFault::unsupported_version(told));
    }
    if matches!(message, Message::Request(_)) && call.meta.capabilities.is_none() {
        return Err(RpcFault::invalid_params(
            "params._meta lacks io.modelcontextprotocol/clientCapabilities",
        ));
    }
    Ok(Speech::Modern)
}

fn answer(header: Option<&str>) -> Result<Speech, RpcFault> {
    let known =
        header.map(|name| Revision::parse(name).ok_or_else(|| RpcFault::unsupported_version(name)));
    match known.transpose()? {
        Some(revision) if revision.is_modern() => Err(RpcFault::invalid_request(
            "this revision knows no answers of a client",
        )),
        revision => Ok(Speech::Legacy(revision)),
    }
}

/// The revision the header names.
///
/// # Errors
/// `-32020` when it stands twice or holds no text.
pub(super) fn named(headers: &HeaderMap) -> Result<Option<&str>, RpcFault> {
    let mut values = headers.get_all(VERSION_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(name) => Ok(Some(name.trim())),
            Err(_) => Err(RpcFault::header_mismatch("MCP-Protocol-Version is no text")),
        },
        (Some(_), Some(_)) => Err(RpcFault::header_mismatch(
            "MCP-Protocol-Version may stand only once",
        )),
    }
}

/// Whether the header, where there is one, names a revision that has sessions.
///
/// # Errors
/// `-32020` as [`named`], `-32022` for a revision nobody here speaks.
pub(super) fn spoken_in_session(headers: &HeaderMap) -> Result<(), RpcFault> {
    match named(headers)? {
        Some(name) if Revision::parse(name).is_none() => Err(RpcFault::unsupported_version(name)),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope::{self, Incoming};
    use super::*;

    fn judged(header: Option<&'static str>, text: &str) -> Result<Speech, i64> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(VERSION_HEADER, value.parse().unwrap());
        }
        let Ok(Incoming::One(message)) = envelope::read(text.as_bytes()) else {
            panic!("{text}")
        };
        judge(&headers, &message).map_err(|fault| fault.code)
    }

    fn request(method: &str, meta: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{{meta}}}}}}}"#)
    }

    const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;

    #[test]
    fn a_message_with_its_own_metadata_is_modern_and_others_belong_to_a_session() {
        let whole = format!(r#"{VERSION},"io.modelcontextprotocol/clientCapabilities":{{}}"#);
        let whole = request("tools/list", &whole);
        assert_eq!(judged(Some("2026-07-28"), &whole), Ok(Speech::Modern));
        assert_eq!(
            judged(None, &request("tools/list", "")),
            Ok(Speech::Legacy(None))
        );
        assert_eq!(
            judged(Some("2025-06-18"), &request("tools/list", "")),
            Ok(Speech::Legacy(Some(Revision::V2025_06_18)))
        );
        for header in [None, Some("2025-11-25"), Some("2026-07-28"), Some("x")] {
            assert_eq!(
                judged(header, &request("initialize", "")),
                Ok(Speech::Legacy(None))
            );
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused_by_its_own_code() {
        let bare = request("tools/list", VERSION);
        assert_eq!(judged(Some("2026-07-28"), &bare), Err(-32602));
        assert_eq!(
            judged(Some("2026-07-28"), &request("tools/list", "")),
            Err(-32602)
        );
        assert_eq!(judged(None, &bare), Err(-32020));
        assert_eq!(judged(Some("2025-11-25"), &bare), Err(-32020));
        let unknown = request(
            "tools/list",
            r#""io.modelcontextprotocol/protocolVersion":"v9""#,
        );
        assert_eq!(judged(Some("v9"), &unknown), Err(-32022));
        assert_eq!(judged(Some("v9"), &request("tools/list", "")), Err(-32022));
        let older = request(
            "tools/list",
            r#""io.modelcontextprotocol/protocolVersion":"2025-11-25""#,
        );
        assert_eq!(judged(Some("2025-11-25"), &older), Err(-32022));
        let answer = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        assert_eq!(judged(Some("2026-07-28"), answer), Err(-32600));
        assert_eq!(judged(None, answer), Ok(Speech::Legacy(None)));
    }

    #[test]
    fn initialize_agrees_on_a_legacy_revision() {
        assert_eq!(Revision::negotiate("2025-03-26"), Revision::V2025_03_26);
        assert_eq!(Revision::negotiate("2026-07-28"), Revision::V2025_11_25);
        assert_eq!(Revision::negotiate("1999-01-01"), Revision::V2025_11_25);
        assert_eq!(Revision::SUPPORTED.len(), Revision::ALL.len());
    }
}
