//! A stranger's tool, from its bytes to a checked call, with what must hold of any bytes.
//!
//! Called by the fuzz targets (`fuzz/`) and, with their seeds, by the tests. Panics where a promise breaks;
//! never part of a program that is given out.

use std::sync::Arc;

use catalog::{Listing, MAX_SHAPE_CHARS, MAX_SUMMARY_CHARS, Snapshot, bounds};
use serde_json::value::RawValue;
use transports::ServerName;

use crate::arguments::{Arguments, judged};

/// A tool's definition: what is shown of it keeps its bounds; a schema that passes its bounds is compiled,
/// and the example we give for it is judged, without a panic and without an end in sight.
///
/// # Panics
/// Where one of these does not hold.
pub fn schema(data: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(data) else {
        return;
    };
    let within = bounds::check(&raw);
    let tool = format!(r#"{{"name":"t","inputSchema":{}}}"#, raw.get());
    let (Ok(tool), Ok(server)) = (RawValue::from_string(tool), ServerName::new("s")) else {
        return;
    };
    let listing = Listing {
        tools: vec![Arc::from(tool), Arc::from(raw)],
        ..Listing::default()
    };
    let snapshot = Snapshot::build(&server, &listing);
    for entry in &snapshot.entries {
        assert!(entry.shape.chars().count() <= MAX_SHAPE_CHARS);
        assert!(entry.summary.chars().count() <= MAX_SUMMARY_CHARS);
        let example = entry.example_arguments();
        if &*entry.reference.name == "t" && within.is_err() {
            assert!(entry.unsupported_schema.is_some(), "over a bound");
        }
        if entry.unsupported_schema.is_none()
            && let Ok(arguments) = Arguments::read(example)
        {
            let _ = judged(entry, &arguments);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seeds_of_the_schema_target_hold() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
        let fed = std::fs::read_dir(folder.join("schema"))
            .unwrap()
            .map(|seed| super::schema(&std::fs::read(seed.unwrap().path()).unwrap()))
            .count();
        assert!(fed > 0);
    }
}
