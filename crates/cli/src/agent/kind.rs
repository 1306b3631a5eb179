//! Whose configuration a file is: the bridge's or an agent's. Looks at its outermost keys alone.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::de::IgnoredAny;

/// Whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// `bridge.yaml`, read by `paperbot-mcpd`.
    Bridge,
    /// `config.yaml`, read by `paperbot-mcp agent`.
    Agent,
}

/// Keys no bridge's file has.
const AGENTS_OWN: [&str; 3] = ["mcp_servers", "agent", "version"];

/// By content; a file that cannot be parsed is judged by its lines, so that its reader tells the error.
pub(crate) fn of(text: &str) -> Kind {
    let keys: Vec<String> = match crate::yaml::read::<BTreeMap<String, Option<IgnoredAny>>>(text) {
        Ok(members) => members.into_keys().collect(),
        Err(_) => text
            .lines()
            .filter(|line| !line.starts_with([' ', '\t', '#', '-']))
            .filter_map(|line| Some(line.split_once(':')?.0.trim_matches(['"', '\'']).to_owned()))
            .collect(),
    };
    let agents = |key: &String| AGENTS_OWN.contains(&key.as_str());
    if keys.iter().any(agents) {
        Kind::Agent
    } else {
        Kind::Bridge
    }
}
