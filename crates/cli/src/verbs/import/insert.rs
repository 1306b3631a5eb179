//! Adds servers to a bridge configuration as text, so that its comments stay. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::yaml;

/// Why the text cannot take them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The file is no YAML.
    #[error("{0}")]
    NotYaml(String),
    /// Names would clash.
    #[error("it has a server named `{0}` already")]
    Taken(String),
    /// `servers:` is written in a way that text cannot be put into.
    #[error("its `servers:` is not a plain block of indented entries")]
    NoBlock,
}

/// `old` with the entries of `addition` (a document with `servers:` alone) under its `servers:`.
pub(crate) fn into(old: &str, addition: &str) -> Result<String, Refused> {
    let before = servers(old)?;
    let added = servers(addition)?;
    if let Some(name) = added.keys().find(|name| before.contains_key(*name)) {
        return Err(Refused::Taken(name.clone()));
    }
    let whole = match old.lines().position(is_servers_line) {
        Some(line) => under(old, line, addition),
        None if before.is_empty() => format!("{}\n{addition}", old.trim_end())
            .trim_start()
            .to_owned(),
        None => return Err(Refused::NoBlock),
    };
    // Whatever the text looked like, what counts is what it now says.
    let after = servers(&whole)?;
    let expected: BTreeMap<String, Value> = before.into_iter().chain(added).collect();
    if after == expected {
        Ok(whole)
    } else {
        Err(Refused::NoBlock)
    }
}

fn servers(text: &str) -> Result<BTreeMap<String, Value>, Refused> {
    let document: Value = yaml::read(text).map_err(|error| Refused::NotYaml(error.to_string()))?;
    match document.get("servers") {
        Some(Value::Object(servers)) => Ok(servers.clone().into_iter().collect()),
        _ => Ok(BTreeMap::new()),
    }
}

fn is_servers_line(line: &str) -> bool {
    let rest = line.strip_prefix("servers:").map(str::trim_start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
}

/// Puts the entries right below `servers:`, as deep as those that are there.
fn under(old: &str, servers_line: usize, addition: &str) -> String {
    let lines: Vec<&str> = old.lines().collect();
    let depth = lines
        .iter()
        .skip(servers_line + 1)
        .find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map_or(0, |line| line.len() - line.trim_start().len());
    let depth = if depth == 0 { 2 } else { depth };
    let entries: Vec<&str> = addition.lines().skip(1).collect();
    let own = entries
        .first()
        .map_or(0, |line| line.len() - line.trim_start().len());
    let moved = entries.iter().map(|line| {
        format!(
            "{}{}",
            " ".repeat(depth),
            line.get(own..).unwrap_or_default()
        )
    });
    let head = lines.iter().take(servers_line + 1).map(ToString::to_string);
    let tail = lines.iter().skip(servers_line + 1).map(ToString::to_string);
    let mut whole = head.chain(moved).chain(tail).collect::<Vec<_>>().join("\n");
    whole.push('\n');
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDITION: &str = "servers:\n  new:\n    transport: stdio\n    command:\n      - x\n";

    #[test]
    fn comments_and_depth_stay() {
        let old = "# mine\nlisten: 127.0.0.1:1 # here\nservers:   # all of them\n    # first\n    old: {transport: sse, url: http://x/}\naudit: {retention_days: 1}\n";
        let new = into(old, ADDITION).unwrap();
        assert_eq!(
            new,
            "# mine\nlisten: 127.0.0.1:1 # here\nservers:   # all of them\n    new:\n      transport: stdio\n      command:\n        - x\n    # first\n    old: {transport: sse, url: http://x/}\naudit: {retention_days: 1}\n"
        );
    }

    #[test]
    fn a_file_without_servers_gets_them_at_its_end() {
        let new = into("listen: 127.0.0.1:1\n", ADDITION).unwrap();
        assert_eq!(new, format!("listen: 127.0.0.1:1\n{ADDITION}"));
        assert_eq!(into("servers:\n", ADDITION).unwrap(), ADDITION);
    }

    #[test]
    fn what_cannot_be_done_safely_is_refused() {
        let taken = into(
            "servers:\n  new: {transport: sse, url: http://x/}\n",
            ADDITION,
        );
        assert!(matches!(taken, Err(Refused::Taken(name)) if name == "new"));
        let flow = into("servers: {old: {transport: sse}}\n", ADDITION);
        assert!(matches!(flow, Err(Refused::NoBlock)));
        assert!(matches!(into("a: [", ADDITION), Err(Refused::NotYaml(_))));
    }
}
