//! Lexical search: tokens, weighted fields, one inverted index, several queries merged. Knows no rights and no refs.

mod bm25f;
mod fields;
mod merge;
mod tokens;

pub(crate) use bm25f::{Builder, Inverted, Match};
pub(crate) use fields::texts_of;
pub(crate) use merge::{MAX_HITS, merged};
pub(crate) use tokens::{name_key, name_keys_in};
