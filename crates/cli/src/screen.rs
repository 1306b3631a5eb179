//! Makes untrusted text harmless for a terminal or a single line. Pure; never decides when to.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Control, bidirectional and invisible formatting characters become visible escapes (`\u{1b}`);
/// line feeds and tabs stay.
#[must_use]
pub(crate) fn neutral(text: &str) -> Cow<'_, str> {
    if !text.chars().any(dangerous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if dangerous(character) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// One line: every run of white space is one blank, the rest as in [`neutral`].
#[must_use]
pub(crate) fn one_line(text: &str) -> String {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    neutral(&joined).into_owned()
}

fn dangerous(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Bidirectional marks, embeddings, overrides and isolates reorder what is read; zero-width
        // and tag characters hide text from people but not from models.
        '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{200b}'
        | '\u{2060}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_bidi_marks_are_shown_not_obeyed() {
        assert_eq!(neutral("a\u{1b}[31mb\r\n\tc"), "a\\u{1b}[31mb\\u{d}\n\tc");
        assert_eq!(neutral("x\u{202e}y\u{9b}z"), "x\\u{202e}y\\u{9b}z");
        assert!(matches!(neutral("plain – ünïcode 文"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("a\n  b\t\u{7}c\r\n"), "a b \\u{7}c");
    }
}
