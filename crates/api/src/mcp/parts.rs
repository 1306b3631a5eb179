//! The members of a JSON-RPC message, each at most once.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members an envelope may have; others are skipped.
#[derive(Default)]
pub(super) struct Envelope {
    pub(super) jsonrpc: Option<String>,
    pub(super) id: Option<Box<RawValue>>,
    pub(super) method: Option<String>,
    pub(super) params: Option<Box<RawValue>>,
    pub(super) result: Option<Box<RawValue>>,
    pub(super) error: Option<Box<RawValue>>,
    /// A member that stands twice.
    pub(super) twice: Option<&'static str>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Field {
    JsonRpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Envelope;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
                let mut whole = Envelope::default();
                let seen = &mut whole.twice;
                while let Some(field) = map.next_key::<Field>()? {
                    match field {
                        Field::JsonRpc => once(&mut whole.jsonrpc, &mut map, ("jsonrpc", seen))?,
                        Field::Id => once(&mut whole.id, &mut map, ("id", seen))?,
                        Field::Method => once(&mut whole.method, &mut map, ("method", seen))?,
                        Field::Params => once(&mut whole.params, &mut map, ("params", seen))?,
                        Field::Result => once(&mut whole.result, &mut map, ("result", seen))?,
                        Field::Error => once(&mut whole.error, &mut map, ("error", seen))?,
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(whole)
            }
        }
        deserializer.deserialize_map(Whole)
    }
}

fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    place: &mut Option<T>,
    map: &mut A,
    (name, twice): (&'static str, &mut Option<&'static str>),
) -> Result<(), A::Error> {
    if place.replace(map.next_value()?).is_some() {
        *twice = Some(name);
    }
    Ok(())
}
