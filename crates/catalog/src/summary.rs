//! The one sentence a catalogue shows of a description.

use crate::clean::{self, Layout};

/// Longest summary and title, in characters: about 11 tokens on average, and one line of a terminal.
pub const MAX_SUMMARY_CHARS: usize = 120;

/// How much of a description is looked at: no first sentence that matters is longer.
const LOOKED_AT_CHARS: usize = 2_000;

/// Endings with a dot that end no sentence.
const ABBREVIATIONS: [&str; 10] = [
    "e.g.", "i.e.", "etc.", "vs.", "approx.", "incl.", "cf.", "no.", "resp.", "max.",
];

/// The first sentence of a description, cleaned, at most [`MAX_SUMMARY_CHARS`] characters.
pub(crate) fn of_description(description: &str) -> String {
    let head: String = description.chars().take(LOOKED_AT_CHARS).collect();
    let block = clean::text(&head, Layout::Block);
    let paragraph = block.split("\n\n").next().unwrap_or_default();
    let line = clean::text(paragraph, Layout::Line);
    cut(first_sentence(&line), MAX_SUMMARY_CHARS)
}

/// A title, cleaned and cut; `None` when nothing is left of it.
pub(crate) fn of_title(title: &str) -> Option<String> {
    let head: String = title.chars().take(LOOKED_AT_CHARS).collect();
    let line = clean::text(&head, Layout::Line);
    (!line.is_empty()).then(|| cut(&line, MAX_SUMMARY_CHARS))
}

fn first_sentence(line: &str) -> &str {
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let last = chars.peek().is_none_or(|(_, next)| next.is_whitespace());
        let ends = match c {
            '。' | '！' | '？' => true,
            '!' | '?' => last,
            '.' => last && !abbreviates(&line[..end]),
            _ => false,
        };
        if ends {
            return &line[..end];
        }
    }
    line
}

fn abbreviates(head: &str) -> bool {
    let word = head.rsplit([' ', '(']).next().unwrap_or_default();
    ABBREVIATIONS
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

/// Cuts at a word where one ends in the second half, else at the character; `…` marks the loss.
fn cut(line: &str, max_chars: usize) -> String {
    if line.chars().count() <= max_chars {
        return line.to_owned();
    }
    let head: String = line.chars().take(max_chars - 1).collect();
    let at = head.rfind(' ').filter(|at| *at > head.len() / 2);
    format!("{}…", head[..at.unwrap_or(head.len())].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_is_shown() {
        for (description, summary) in [
            ("", ""),
            ("Adds numbers. Returns the sum.", "Adds numbers."),
            (
                "Reads v1.2 files e.g. logs. More",
                "Reads v1.2 files e.g. logs.",
            ),
            ("Reads a\nfile\n\nArgs:\n path", "Reads a file"),
            ("使用必应搜索。并返回", "使用必应搜索。"),
            ("Why? Because.", "Why?"),
            ("\u{202e}Evil\u{200b} one. x", "Evil one."),
        ] {
            assert_eq!(of_description(description), summary);
        }
    }

    #[test]
    fn a_long_sentence_is_cut_at_a_word_and_never_inside_a_character() {
        let words = of_description(&"wörd ".repeat(100));
        assert!(words.chars().count() <= MAX_SUMMARY_CHARS);
        assert!(words.ends_with("wörd…"), "{words}");
        let solid = of_description(&"é".repeat(500));
        assert_eq!(solid.chars().count(), MAX_SUMMARY_CHARS);
    }
}
