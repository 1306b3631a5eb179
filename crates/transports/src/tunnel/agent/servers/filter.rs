//! Which tools of a server an agent offers. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use wildmatch::WildMatch;

/// What is allowed and what is denied; denied wins.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    allow: Vec<WildMatch>,
    deny: Vec<WildMatch>,
}

/// What an entry or a call is named.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

impl Filter {
    /// From patterns with `*` and `?`. Without a pattern in `allow` everything is allowed.
    pub(super) fn new(allow: &[String], deny: &[String]) -> Self {
        let compiled = |patterns: &[String]| patterns.iter().map(|p| WildMatch::new(p)).collect();
        Self {
            allow: compiled(allow),
            deny: compiled(deny),
        }
    }

    /// Whether a tool of this name is offered.
    pub(super) fn offers(&self, tool: &str) -> bool {
        let fits = |patterns: &[WildMatch]| patterns.iter().any(|pattern| pattern.matches(tool));
        (self.allow.is_empty() || fits(&self.allow)) && !fits(&self.deny)
    }

    /// Whether an entry of `tools/list` is offered; one without a name is not.
    pub(super) fn offers_entry(&self, entry: &RawValue) -> bool {
        name_of(entry).is_some_and(|name| self.offers(&name))
    }
}

/// The `name` of a raw object.
pub(super) fn name_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let named: Named<'_> = serde_json::from_str(raw.get()).ok()?;
    Some(named.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> Filter {
        let owned = |of: &[&str]| of.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Filter::new(&owned(allow), &owned(deny))
    }

    #[test]
    fn nothing_said_offers_everything_and_denied_wins() {
        assert!(filter(&[], &[]).offers("anything"));
        let some = filter(&["read_*", "list?"], &["*_secret*"]);
        for (tool, offered) in [
            ("read_file", true),
            ("read_secret_file", false),
            ("lists", true),
            ("list", false),
            ("write_file", false),
        ] {
            assert_eq!(some.offers(tool), offered, "{tool}");
        }
        assert!(!filter(&[], &["*"]).offers("anything"));
    }

    #[test]
    fn an_entry_without_a_name_is_not_offered() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert!(filter(&[], &[]).offers_entry(&raw(r#"{"name":"a\u0062"}"#)));
        assert!(filter(&["ab"], &[]).offers_entry(&raw(r#"{"name":"a\u0062"}"#)));
        assert!(!filter(&[], &[]).offers_entry(&raw(r#"{"title":"x"}"#)));
    }
}
