//! YAML in and out. Errors name line and column and never quote the text, which may hold secrets.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads a document.
///
/// # Errors
/// What is wrong and where, in words.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(
        text,
        serde_saphyr::options! {
            with_snippet: false,
        },
    )
}

/// Writes a document.
///
/// # Errors
/// For values YAML cannot hold.
pub(crate) fn write<T: Serialize>(value: &T) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(value)
}
