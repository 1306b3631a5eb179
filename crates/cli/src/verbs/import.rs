//! wip
use crate::failure::Failure;
use crate::output::Output;
use crate::places::Places;
use std::path::Path;
/// wip
pub(crate) fn import(
    _source: &str,
    _write: Option<&Path>,
    _output: &Output,
    _places: &Places,
) -> Result<(), Failure> {
    Ok(())
}
