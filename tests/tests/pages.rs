//! What the documentation shows is so: YAML blocks load, and every route is in the contract. Command lines are parsed by
//! `crates/cli/src/options/pages.rs`.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::path::Path;
use std::process::Stdio;

use testkit::Bridge;
use testkit::grants::Grants;
use testkit::upstreams::built;
use tokio::process::Command;

const PAGES: [&str; 3] = ["access", "gates", "oauth"];
/// Verbs of the contract, as pages write them.
const VERBS: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "PATCH"];

fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    std::fs::read_to_string(docs.join(format!("{name}.md"))).unwrap()
}

/// Blocks of YAML, and files that a block of shell writes.
fn configurations(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        if let Some(yaml) = block.strip_prefix("yaml\n") {
            found.push(yaml.to_owned());
        } else if let Some((_, rest)) = block.split_once("<<'YAML'\n") {
            found.push(rest.split_once("\nYAML\n").unwrap().0.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn every_configuration_of_the_pages_loads() {
    let folder = tempfile::tempdir().unwrap();
    // The only file the pages speak of that must be there.
    let _sections = Grants::sections(folder.path());
    let key = folder.path().join("sealing.key").display().to_string();
    let mut read = 0;
    for name in PAGES {
        for yaml in configurations(&page(name)) {
            let yaml = yaml.replace("/etc/paperbot/sealing.key", &key);
            let file = folder.path().join("bridge.yaml");
            std::fs::write(&file, &yaml).unwrap();
            let checked = Command::new(built("paperbot-mcpd"))
                .args(["config", "check"])
                .arg(&file)
                .stdin(Stdio::null())
                .output()
                .await
                .unwrap();
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "docs/{name}.md: {said}\n{yaml}");
            read += 1;
        }
    }
    assert!(read >= 5, "{read} blocks");
}

/// Routes a page names: the verb, if it says one, and the path with `{}` for what is filled in.
fn routes(page: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    for (at, _) in page.match_indices("/v1/") {
        let ends = |c: char| c.is_whitespace() || "`?\"')|,".contains(c) || c == '…';
        let path = &page[at..];
        let path = &path[..path.find(ends).unwrap_or(path.len())];
        if path == "/v1/" {
            continue; // All of them.
        }
        let parts = path.split('/').map(|part| {
            let filled = part.starts_with(['{', '$']);
            if filled { "{}" } else { part }
        });
        let path = parts.collect::<Vec<_>>().join("/");
        let line = page[..at].rsplit('\n').next().unwrap_or_default();
        let verb = if line.ends_with("$url") {
            // curl: with data it is a POST.
            let rest = page[at..].lines().next().unwrap_or_default();
            Some(if rest.contains(" -d ") { "POST" } else { "GET" }.to_owned())
        } else {
            let word = line.trim_end().rsplit([' ', '`', '(']).next();
            let word = word.filter(|word| VERBS.contains(word));
            word.map(str::to_owned)
        };
        found.push((verb, path));
    }
    found
}

#[tokio::test]
async fn every_route_of_the_pages_is_in_the_contract() {
    let bridge = Bridge::start(Vec::new()).await;
    let contract = bridge.get("/openapi.json").await;
    let known: Vec<(String, Vec<String>)> = contract["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| {
            let parts = path
                .split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part });
            let verbs = item.as_object().map(|item| item.keys());
            let verbs = verbs.into_iter().flatten().map(|verb| verb.to_uppercase());
            (parts.collect::<Vec<_>>().join("/"), verbs.collect())
        })
        .collect();
    let mut read = 0;
    for name in PAGES {
        for (verb, path) in routes(&page(name)) {
            let found = known.iter().find(|(known, _)| *known == path);
            let (_, verbs) = found.unwrap_or_else(|| panic!("docs/{name}.md: no route {path}"));
            if let Some(verb) = verb {
                assert!(verbs.contains(&verb), "docs/{name}.md: {verb} {path}");
            }
            read += 1;
        }
    }
    assert!(read > 20, "{read} routes");
    assert_eq!(contract["openapi"].as_str().map(|v| &v[..2]), Some("3."));
}
