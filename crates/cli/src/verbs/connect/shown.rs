//! The difference as it is shown: the lines around the entry are other servers', and their secrets are
//! nobody's business here. Pure.

use similar::TextDiff;

use super::super::import::secrets;

/// A longer line is no configuration anybody reads.
const MAX_LINE_CHARS: usize = 240;

/// A unified diff without the secrets that stand in it.
pub(crate) fn difference(path: &str, before: Option<&str>, after: &str) -> String {
    let old = if before.is_some() { path } else { "/dev/null" };
    let whole = TextDiff::from_lines(before.unwrap_or_default(), after)
        .unified_diff()
        .header(old, path)
        .to_string();
    let mut flag = false;
    let lines = whole.lines().map(|line| hidden(line, &mut flag));
    lines.collect::<Vec<_>>().join("\n")
}

/// `flag`: the word before was a command's `--token` or the like.
fn hidden(line: &str, flag: &mut bool) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, text, after)) = quoted(rest) {
        shown.push_str(before);
        let is_name = after.trim_start().starts_with([':', '=']);
        let name = name_before(&shown).unwrap_or_default();
        let secret = !is_name && is_secret(name, text, *flag);
        *flag = text.starts_with('-') && !text.contains('=') && secrets::is_secret_name(text);
        shown.push('"');
        shown.push_str(if secret { "…" } else { text });
        shown.push('"');
        rest = after;
    }
    shown.push_str(rest);
    if shown.chars().count() > MAX_LINE_CHARS {
        shown = shown.chars().take(MAX_LINE_CHARS).collect();
        shown.push('…');
    }
    shown
}

fn is_secret(name: &str, text: &str, after_flag: bool) -> bool {
    let reference = text.contains('$') || text.contains("{env:") || text.contains("{file:");
    let in_flag = text.split_once('=').is_some_and(|(flag, value)| {
        flag.starts_with('-') && !value.is_empty() && secrets::is_secret_name(flag)
    });
    let named = secrets::is_secret_name(name) && !name.ends_with("_env_var");
    secrets::is_secret_value(text) || in_flag || ((named || after_flag) && !reference)
}

/// The next text in double quotes: what is before it, what is in it, what follows.
fn quoted(line: &str) -> Option<(&str, &str, &str)> {
    let start = line.find('"')?;
    let inner = &line[start + 1..];
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&line[..start], &inner[..end], &inner[end + 1..]))
}

/// The name a value stands after: `name = ` or `"name": `.
fn name_before(text: &str) -> Option<&str> {
    let text = text.trim_end().strip_suffix([':', '='])?.trim_end();
    let text = text.strip_suffix('"').unwrap_or(text);
    let name = text
        .rsplit(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c)))
        .next()?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        hidden(line, &mut false)
    }

    #[test]
    fn literal_secrets_are_hidden_and_references_are_not() {
        for (line, expected) in [
            (
                r#"  "GITHUB_TOKEN": "hunter2","#,
                r#"  "GITHUB_TOKEN": "…","#,
            ),
            (r#"  "X": "ghp_0123456789abcdef""#, r#"  "X": "…""#),
            (r#"+ API_KEY = "hunter2" # a"#, r#"+ API_KEY = "…" # a"#),
            (
                r#" env = { API_KEY = "a\"b", B = "c" }"#,
                r#" env = { API_KEY = "…", B = "c" }"#,
            ),
            (
                r#"  "args": ["--token", "hunter2", "--x=1", "--api-key=k"]"#,
                r#"  "args": ["--token", "…", "--x=1", "…"]"#,
            ),
        ] {
            assert_eq!(shown(line), expected);
        }
        for plain in [
            r#"+      "Authorization": "Bearer ${PAPERBOT_TOKEN}""#,
            r#"+bearer_token_env_var = "PAPERBOT_TOKEN""#,
            r#"  "url": "http://127.0.0.1:8787/mcp","#,
            r#"  "token": { "a": "b" }"#,
        ] {
            assert_eq!(shown(plain), plain);
        }
    }

    #[test]
    fn a_secret_on_the_line_after_its_flag_is_hidden_too() {
        let before = "{\n  \"args\": [\n    \"--password\",\n    \"hunter2\"\n  ]\n}\n";
        let difference = difference(
            "x",
            Some(before),
            &before.replace("\n}", ",\n  \"a\": 1\n}"),
        );
        assert!(!difference.contains("hunter2"), "{difference}");
    }
}
