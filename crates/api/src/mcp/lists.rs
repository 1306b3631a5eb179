//! Lists as a client gets them: built once for each content, kept as bytes, cut into pages.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::operations::passing::RawList;
use catalog::Kind;
use serde_json::value::RawValue;

use super::problem::RpcFault;
use super::tasks;

/// Items of one page. Hosts ask for all pages anyway, and few servers have more than one.
const PAGE_ITEMS: usize = 2000;
/// Bytes of one page, for servers of huge definitions.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of pages kept for all servers.
const KEPT_BYTES: u64 = 64 * 1024 * 1024;
/// Pages nobody asked for are forgotten.
const KEPT_IDLE: Duration = Duration::from_mins(10);

/// In which words a list is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// Those of 2026-07-28.
    Modern,
    /// Those of the revisions before.
    Legacy,
    /// Those of 2025-11-25, of tools that may be run as tasks of the bridge.
    Tasks,
}

/// A page by whose list it is, its content, what it lists, and where it begins.
type Key = (Arc<str>, Kind, usize);

/// Pages ready to be sent.
#[derive(Debug)]
pub(super) struct Lists(moka::sync::Cache<Key, Arc<Page>>);

/// One page.
#[derive(Debug)]
struct Page {
    /// Items with commas between them.
    items: String,
    /// Where the next page begins.
    next: Option<usize>,
}

impl Lists {
    pub(super) fn new() -> Self {
        let weight =
            |_: &Key, page: &Arc<Page>| u32::try_from(page.items.len()).unwrap_or(u32::MAX);
        Self(
            moka::sync::Cache::builder()
                .weigher(weight)
                .max_capacity(KEPT_BYTES)
                .time_to_idle(KEPT_IDLE)
                .build(),
        )
    }

    /// The `result` of a list request. Equal lists of one server are one to all who may see them.
    ///
    /// # Errors
    /// `-32602` for a cursor that is none of this list.
    pub(super) fn result(
        &self,
        (of, kind): (&str, Kind),
        list: &RawList,
        (cursor, words): (Option<&RawValue>, Words),
    ) -> Result<Vec<u8>, RpcFault> {
        let from = begin(cursor, &list.hash)?;
        // The hash is short: only a server itself could find another list of its own with the same one.
        let as_tasks = words == Words::Tasks;
        let shown = if as_tasks { " tasks" } else { "" };
        let key = (Arc::from(format!("{of} {}{shown}", list.hash)), kind, from);
        let page = (self.0).get_with(key, || Arc::new(page(&list.items, (from, as_tasks))));
        let mut json = Vec::with_capacity(page.items.len() + 160);
        json.push(b'{');
        if words == Words::Modern {
            let ttl = list.ttl_ms.unwrap_or_default();
            // Private: what a principal may see is its own business, even where the server says the same to all.
            let head = format!(r#""resultType":"complete","ttlMs":{ttl},"cacheScope":"private","#);
            json.extend_from_slice(head.as_bytes());
        }
        json.extend_from_slice(format!("\"{}\":[", member(kind)).as_bytes());
        json.extend_from_slice(page.items.as_bytes());
        json.push(b']');
        if let Some(next) = page.next {
            let cursor = cursor_at(next, &list.hash);
            json.extend_from_slice(format!(r#","nextCursor":"{cursor}""#).as_bytes());
        }
        json.push(b'}');
        Ok(json)
    }
}

/// The member of the result that holds the items.
fn member(kind: Kind) -> &'static str {
    match kind {
        Kind::Tool => "tools",
        Kind::Resource => "resources",
        Kind::Template => "resourceTemplates",
        Kind::Prompt => "prompts",
    }
}

fn page(items: &[Arc<RawValue>], (from, as_tasks): (usize, bool)) -> Page {
    let mut joined = String::new();
    let mut at = from;
    while let Some(item) = items.get(at) {
        let full = at - from == PAGE_ITEMS || joined.len() + item.get().len() > PAGE_BYTES;
        if full && at > from {
            break;
        }
        if at > from {
            joined.push(',');
        }
        if as_tasks {
            joined.push_str(tasks::supported(item).get());
        } else {
            joined.push_str(item.get());
        }
        at += 1;
    }
    Page {
        items: joined,
        next: (at < items.len()).then_some(at),
    }
}

fn cursor_at(from: usize, hash: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{from} {hash}"))
}

/// Where a cursor points; one of another content is void, since its place may have moved.
fn begin(cursor: Option<&RawValue>, hash: &str) -> Result<usize, RpcFault> {
    let Some(raw) = cursor else { return Ok(0) };
    let read = || {
        let text: String = serde_json::from_str(raw.get()).ok()?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (from, of) = text.split_once(' ')?;
        (of == hash).then(|| from.parse().ok())?
    };
    read().ok_or_else(|| {
        RpcFault::invalid_params(
            "the cursor is none of this list, or the list changed; begin again",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn list(count: usize) -> RawList {
        RawList {
            items: (0..count)
                .map(|n| Arc::from(raw(&format!("{{\"n\":{n}.0}}"))))
                .collect(),
            hash: format!("hash{count}"),
            ttl_ms: Some(5000),
            public: true,
        }
    }

    #[test]
    fn a_short_list_is_one_page_in_the_words_of_its_era() {
        let lists = Lists::new();
        let text = |words| {
            let made = lists
                .result(("w s", Kind::Tool), &list(2), (None, words))
                .unwrap();
            String::from_utf8(made).unwrap()
        };
        assert_eq!(text(Words::Legacy), r#"{"tools":[{"n":0.0},{"n":1.0}]}"#);
        assert_eq!(
            text(Words::Tasks),
            r#"{"tools":[{"n":0.0,"execution":{"taskSupport":"optional"}},{"n":1.0,"execution":{"taskSupport":"optional"}}]}"#
        );
        assert_eq!(
            text(Words::Modern),
            r#"{"resultType":"complete","ttlMs":5000,"cacheScope":"private","tools":[{"n":0.0},{"n":1.0}]}"#
        );
        let none = lists
            .result(("w s", Kind::Template), &list(0), (None, Words::Legacy))
            .unwrap();
        assert_eq!(none, br#"{"resourceTemplates":[]}"#);
    }

    #[test]
    fn a_long_list_is_read_page_by_page_and_a_foreign_cursor_is_void() {
        let lists = Lists::new();
        let whole = list(2 * PAGE_ITEMS + 1);
        let mut cursor: Option<Box<RawValue>> = None;
        let mut sizes = Vec::new();
        loop {
            let made = lists
                .result(
                    ("w s", Kind::Prompt),
                    &whole,
                    (cursor.as_deref(), Words::Legacy),
                )
                .unwrap();
            let page: serde_json::Value = serde_json::from_slice(&made).unwrap();
            sizes.push(page["prompts"].as_array().unwrap().len());
            match page.get("nextCursor") {
                Some(next) => cursor = Some(raw(&next.to_string())),
                None => break,
            }
        }
        assert_eq!(sizes, [PAGE_ITEMS, PAGE_ITEMS, 1]);
        for wrong in [
            "\"\"",
            "7",
            "\"x\"",
            &format!("\"{}\"", cursor_at(1, "other")),
        ] {
            let fault = lists.result(
                ("w s", Kind::Prompt),
                &whole,
                (Some(&raw(wrong)), Words::Legacy),
            );
            assert_eq!(fault.unwrap_err().code, -32602, "{wrong}");
        }
    }
}
