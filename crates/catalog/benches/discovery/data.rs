//! Tools and queries of the data sets, as snapshots and plain values.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use catalog::{Entry, Index, Listing, Snapshot};
use serde::Deserialize;
use serde_json::value::RawValue;
use transports::ServerName;

#[derive(Deserialize)]
struct ToolLine {
    id: String,
    server: String,
}

/// One query with the tools it needs: one of each group.
#[derive(Deserialize)]
pub(crate) struct QueryLine {
    pub(crate) query: String,
    pub(crate) gold: Vec<Vec<String>>,
    #[serde(default)]
    pub(crate) steps: Vec<String>,
}

/// A catalogue, and which id of the data each entry is.
pub(crate) struct Tools {
    pub(crate) snapshots: Vec<Arc<Snapshot>>,
    pub(crate) ids: HashMap<String, String>,
}

/// The queries of a set.
pub(crate) struct Queries(pub(crate) Vec<QueryLine>);

impl Tools {
    pub(crate) fn load(dir: &Path, sets: &[&str]) -> Self {
        let lines: Vec<String> = sets
            .iter()
            .flat_map(|set| lines(dir, &format!("{set}.tools.jsonl")))
            .collect();
        Self::of_lines(&lines)
    }

    /// The nine real servers' own lists.
    pub(crate) fn of_servers(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("servers/tools.json")).unwrap_or_default();
        let servers: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&text).unwrap_or_default();
        let mut listed = Vec::new();
        for (server, answer) in &servers {
            for tool in answer["tools"].as_array().into_iter().flatten() {
                let mut line = tool.clone();
                let name = tool["name"].as_str().unwrap_or_default();
                line["id"] = format!("{server}::{name}").into();
                line["server"] = server.as_str().into();
                listed.push(line.to_string());
            }
        }
        Self::of_lines(&listed)
    }

    pub(crate) fn of_lines(lines: &[String]) -> Self {
        let mut servers: BTreeMap<String, Vec<&String>> = BTreeMap::new();
        let mut named: HashMap<String, String> = HashMap::new();
        let mut parsed = Vec::new();
        for line in lines {
            if let Ok(tool) = serde_json::from_str::<ToolLine>(line) {
                let taken = named.len();
                let slug = named
                    .entry(tool.server.clone())
                    .or_insert_with(|| slug(&tool.server, taken));
                servers.entry(slug.clone()).or_default().push(line);
                parsed.push((slug.clone(), tool, line));
            }
        }
        let ids = parsed
            .iter()
            .filter_map(|(slug, tool, line)| {
                let value: serde_json::Value = serde_json::from_str(line).ok()?;
                Some((
                    format!("{slug}.{}", value["name"].as_str()?),
                    tool.id.clone(),
                ))
            })
            .collect();
        let snapshots = servers.iter().filter_map(|(slug, lines)| {
            let server = ServerName::new(slug).ok()?;
            Some(Arc::new(Snapshot::build(&server, &listing(lines))))
        });
        Self {
            snapshots: snapshots.collect(),
            ids,
        }
    }

    pub(crate) fn index(&self) -> Index {
        Index::build(&self.snapshots)
    }

    /// The data's id of an entry.
    pub(crate) fn id(&self, entry: &Entry) -> &str {
        self.ids
            .get(&entry.reference.to_string())
            .map_or("", String::as_str)
    }
}

impl Queries {
    pub(crate) fn load(dir: &Path, set: &str) -> Self {
        let lines = lines(dir, &format!("{set}.queries.jsonl"));
        Self(
            lines
                .iter()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
        )
    }
}

/// All lines of a file of the development half.
pub(crate) fn lines(dir: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(dir.join("dev").join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn listing(lines: &[&String]) -> Listing {
    let raws = lines
        .iter()
        .filter_map(|line| RawValue::from_string((*line).clone()).ok());
    Listing {
        tools: raws.map(Arc::from).collect(),
        ..Listing::default()
    }
}

/// A server name of the data as one of ours, unique even when cut.
fn slug(server: &str, number: usize) -> String {
    let plain: String = server
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(50)
        .collect();
    format!("{}-x{number}", plain.trim_matches('-'))
        .trim_start_matches('-')
        .to_owned()
}
