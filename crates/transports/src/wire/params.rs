//! The members of an object whose values stay raw.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::encode::push_text;

/// The members of a `params` object in order, values untouched.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<(Cow<'static, str>, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Params;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.push((Cow::Owned(name), value));
                }
                Ok(Params(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl Params {
    /// Takes the members of a raw object. Anything else gives no members.
    #[must_use]
    pub fn from_raw(raw: &RawValue) -> Self {
        serde_json::from_str(raw.get()).unwrap_or_default()
    }

    /// Adds a member.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: Box<RawValue>) -> Self {
        self.0.push((name.into(), value));
        self
    }

    /// Adds a member that holds text.
    #[must_use]
    pub fn with_text(self, name: impl Into<Cow<'static, str>>, text: &str) -> Self {
        self.with(name, raw_text(text))
    }

    /// Takes a raw `params` object apart into its members and those of its `_meta`.
    #[must_use]
    pub fn split_meta(raw: &RawValue) -> (Self, Self) {
        let mut params = Self::from_raw(raw);
        let mut meta = None;
        params.0.retain(|(name, value)| {
            let is_meta = name == "_meta";
            if is_meta && meta.is_none() {
                meta = Some(Self::from_raw(value));
            }
            !is_meta
        });
        (params, meta.unwrap_or_default())
    }

    /// A member's raw value; the first of its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}

/// Text as raw JSON.
#[must_use]
pub fn raw_text(text: &str) -> Box<RawValue> {
    let mut json = String::with_capacity(text.len() + 2);
    push_text(&mut json, text);
    RawValue::from_string(json).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
