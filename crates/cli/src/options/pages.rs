//! Command lines in the documentation are lines this program understands.

use clap::Parser as _;

use super::CommandLine;
use crate::usage::spelled_out;

const PAGES: [(&str, &str); 8] = [
    ("access", include_str!("../../../../docs/access.md")),
    ("audit", include_str!("../../../../docs/audit.md")),
    ("gates", include_str!("../../../../docs/gates.md")),
    ("hosts", include_str!("../../../../docs/hosts.md")),
    ("oauth", include_str!("../../../../docs/oauth.md")),
    ("pins", include_str!("../../../../docs/pins.md")),
    ("secrets", include_str!("../../../../docs/secrets.md")),
    ("tunnel", include_str!("../../../../docs/tunnel.md")),
];
const PROGRAM: &str = "paperbot-mcp";

/// What stands in blocks of code, and in code within the text: what begins with the program, to its end.
fn lines(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        let ends: &[char] = if at % 2 == 1 {
            &['\n', '#', '>', '|']
        } else {
            &['`']
        };
        let mut rest = part;
        while let Some(begin) = rest.find(&format!("{PROGRAM} ")) {
            // Only where it begins the code: `npx paperbot-mcp` is another program's line.
            let opened = rest[..begin].ends_with(['`', '\n', ' ']);
            let line = &rest[begin..];
            let end = line.find(ends).unwrap_or(line.len());
            if opened && (at % 2 == 1 || rest[..begin].ends_with('`')) {
                found.push(line[..end].trim().to_owned());
            }
            rest = &line[end..];
        }
    }
    found
}

/// Words as a shell has them, as far as the pages need one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_command_line_of_the_pages_is_understood() {
    let (mut read, mut wrong) = (0, Vec::new());
    for (name, page) in PAGES {
        for line in lines(page) {
            // A choice is not a line, and a name with `<` in it stands for something.
            if line.contains(['|', '<', '…']) {
                continue;
            }
            let line = line.replace(" HOST", " codex");
            let words = spelled_out(words(&line).into_iter().map(Into::into));
            if let Err(error) = CommandLine::try_parse_from(words) {
                wrong.push(format!("docs/{name}.md: {line}: {error}"));
            }
            read += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 40, "{read} lines");
}
