//! The boundaries of this crate where bytes of strangers come in, each with what must hold of any bytes.
//!
//! Called by the fuzz targets (`fuzz/`) and, with their seeds, by the tests. Panics where a promise breaks;
//! never part of a program that is given out.

use crate::config::{File, Source, source};
use crate::mcp::fuzzing as mcp;

/// The body of an MCP request.
///
/// # Panics
/// Where two readers could read two things.
pub fn envelope(data: &[u8]) {
    mcp::envelope(data);
}

/// A header that mirrors the body (first line) and what the body says (the rest).
///
/// # Panics
/// When a header passes that says something else.
pub fn headers(data: &[u8]) {
    mcp::headers(data);
}

/// A configuration file. A first line `#NAME=value` is set as a variable on top of the defaults.
///
/// # Panics
/// When what was read is not read the same once written, or a complaint has no place.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match source::parse(text, "bridge.yaml") {
        Ok(file) => {
            let written = serde_json::to_value(&file).expect("a configuration can be written");
            let read: File = serde_json::from_value(written).expect("and read again");
            assert_eq!(read, file);
            let _ = file.servers();
        }
        Err(error) => assert!(error.place.starts_with("bridge.yaml")),
    }
    let variable = text.lines().next().and_then(|line| line.strip_prefix('#'));
    if let Some((name, value)) = variable.and_then(|line| line.split_once('=')) {
        let source = Source {
            path: None,
            environment: vec![(format!("PAPERBOT__{name}"), value.to_owned())],
        };
        let _ = source.load();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds every seed of a target.
    fn feed(target: &str, boundary: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let seeds = std::fs::read_dir(folder.join(target)).unwrap();
        let fed = seeds
            .map(|seed| boundary(&std::fs::read(seed.unwrap().path()).unwrap()))
            .count();
        assert!(fed > 0, "{target} has seeds");
    }

    #[test]
    fn the_seeds_of_every_target_hold() {
        feed("message", envelope);
        feed("headers", headers);
        feed("config", config);
    }
}
