//! `docs/security.md` promises nothing that no test attacks: each test it names is in the tree, and none stands
//! there without its guarantee.

use std::path::Path;

#[test]
fn every_test_the_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut named = 0;
    // What is commented out is shown to nobody.
    let mut rest = page.as_str();
    let mut shown = String::new();
    while let Some((before, after)) = rest.split_once("<!--") {
        shown.push_str(before);
        rest = after.split_once("-->").unwrap().1;
    }
    shown.push_str(rest);
    for row in shown.lines().filter(|line| line.contains("::")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert!(cells.len() == 2 && cells[0].trim().len() > 10, "{row}");
        for test in cells[1].split(',') {
            let test = test.trim().trim_matches('`');
            let (file, name) = test.split_once("::").unwrap();
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(is_test(&source, name), "{test} is no test");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests");
}

/// Whether a source has a test of that name: its function, with the attribute above it.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declared = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let attributed = |at: usize| {
        let above = lines[..at].iter().rev();
        above
            .take_while(|line| line.starts_with('#') || line.starts_with("//"))
            .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    };
    (0..lines.len()).any(|at| declared(lines[at]) && attributed(at))
}
