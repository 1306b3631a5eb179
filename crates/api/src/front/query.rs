//! Query strings: known names only, each once unless it may repeat.

use std::collections::BTreeMap;

use url::form_urlencoded;

use crate::problem::Refused;
use crate::suggestion;

/// Most parameters of one request; the longest honest one names 20 refs.
const MAX_PARAMETERS: usize = 64;

/// A decoded query string.
#[derive(Debug, Default)]
pub struct Query {
    values: BTreeMap<String, Vec<String>>,
}

impl Query {
    /// Decodes and checks a query string. Names in `once` may stand once, names in `many` repeat.
    ///
    /// # Errors
    /// `invalid_request` for an unknown or repeated name, with a suggestion.
    pub fn parse(raw: Option<&str>, once: &[&str], many: &[&str]) -> Result<Self, Refused> {
        let mut query = Self::default();
        let pairs = form_urlencoded::parse(raw.unwrap_or_default().as_bytes());
        for (position, (name, value)) in pairs.enumerate() {
            if position >= MAX_PARAMETERS {
                return Err(Refused::invalid("too many query parameters"));
            }
            let known = once.iter().chain(many).copied();
            if !known.clone().any(|known| known == name) {
                let detail = suggestion::unknown("query parameter", &name, known);
                return Err(Refused::invalid(detail));
            }
            let values = query.values.entry(name.clone().into_owned()).or_default();
            if !values.is_empty() && once.contains(&name.as_ref()) {
                return Err(Refused::invalid(format!(
                    "the query parameter `{name}` may stand only once"
                )));
            }
            values.push(value.into_owned());
        }
        Ok(query)
    }

    /// The value of a name, if it stands and is not empty.
    #[must_use]
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values
            .remove(name)?
            .pop()
            .filter(|value| !value.is_empty())
    }

    /// Every value of a name that may repeat.
    #[must_use]
    pub fn all(&mut self, name: &str) -> Vec<String> {
        let mut values = self.values.remove(name).unwrap_or_default();
        values.retain(|value| !value.is_empty());
        values
    }

    /// A value that must stand.
    ///
    /// # Errors
    /// `invalid_request` when it is missing or empty.
    pub fn required(&mut self, name: &str) -> Result<String, Refused> {
        self.text(name)
            .ok_or_else(|| Refused::invalid(format!("the query parameter `{name}` is required")))
    }

    /// A whole number.
    ///
    /// # Errors
    /// `invalid_request` when it is none.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Refused> {
        // An empty one is no number: it is refused, not taken for the default.
        let Some(text) = self.values.remove(name).and_then(|mut all| all.pop()) else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|_| {
            Refused::invalid(format!(
                "the query parameter `{name}` is not a whole number"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_repeat_only_where_they_may() {
        let mut query = Query::parse(
            Some("q=a+b&q=%C3%A9&limit=3&server="),
            &["limit", "server"],
            &["q"],
        )
        .unwrap();
        assert_eq!(query.all("q"), ["a b", "é"]);
        assert_eq!(query.number("limit").unwrap(), Some(3));
        assert_eq!(query.text("server"), None);
        assert!(Query::parse(Some("limit=1&limit=2"), &["limit"], &["q"]).is_err());
        assert!(Query::parse(Some("lmit=1"), &["limit"], &["q"]).is_err());
        for wrong in ["limit=many", "limit=", "limit=-1", "limit=1.0"] {
            let mut query = Query::parse(Some(wrong), &["limit"], &[]).unwrap();
            assert!(query.number("limit").is_err(), "{wrong}");
        }
    }
}
