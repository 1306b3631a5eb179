//! The house's shape: which crate may use which, and that no page names a machine.

#![expect(clippy::unwrap_used, reason = "a step that fails is the test failing")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each crate and what it may use inside the workspace (`docs/ARCHITECTURE.md` § The line).
const ALLOWED: &[(&str, &[&str])] = &[
    ("paperbot-transports", &[]),
    ("paperbot-sessions", &["paperbot-transports"]),
    (
        "paperbot-catalog",
        &["paperbot-transports", "paperbot-sessions"],
    ),
    (
        "paperbot-broker",
        &[
            "paperbot-transports",
            "paperbot-sessions",
            "paperbot-catalog",
        ],
    ),
    (
        "paperbot-api",
        &[
            "paperbot-transports",
            "paperbot-sessions",
            "paperbot-catalog",
            "paperbot-broker",
        ],
    ),
    ("paperbot-cli", &["paperbot-api", "paperbot-transports"]),
    ("paperbot-tests", &[]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_crates_form_a_line() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(
        packages.len(),
        ALLOWED.len(),
        "a crate was added or lost: say why in docs/decisions/"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may_use = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the line"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            // A crate may name itself among its dev-dependencies to switch on its own test feature.
            if used.starts_with("paperbot-") && used != name {
                assert!(
                    may_use.contains(&used),
                    "{name} uses {used}, which stands to its right"
                );
            }
        }
    }
}

#[test]
fn the_cli_takes_only_the_types_of_the_api() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let cli = packages
        .iter()
        .find(|package| package["name"] == "paperbot-cli")
        .unwrap();
    let api = cli["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["name"] == "paperbot-api")
        .unwrap();
    assert_eq!(api["uses_default_features"], false);
    assert_eq!(api["features"].as_array().unwrap().len(), 0);
}

#[test]
fn rmcp_stays_pinned_and_jsonschema_fetches_nothing() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains(r#"rmcp = { version = "=3.9.0""#));
    let jsonschema = manifest
        .lines()
        .find(|line| line.starts_with("jsonschema"))
        .unwrap();
    assert!(
        jsonschema.contains("default-features = false"),
        "its default features fetch remote $ref"
    );
}

#[test]
fn lock_files_hold_no_download_address() {
    for file in [
        "tests/upstreams/package-lock.json",
        "tests/upstreams/requirements.lock",
        "tests/clients/package-lock.json",
        "tests/clients/requirements.lock",
        "tests/rest/requirements.lock",
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(!text.contains("\"resolved\": \"http"), "{file}");
        assert!(
            !text.contains("--index-url") && !text.contains("--find-links"),
            "{file}"
        );
    }
}
