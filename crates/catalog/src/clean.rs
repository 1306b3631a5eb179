//! Takes out of upstream texts what a reader cannot see: invisible, bidi, control and ANSI sequences.
//!
//! Upstream texts are untrusted; what is hidden from a person may still speak to a model. Never alters a raw definition.

use std::borrow::Cow;

/// How white space is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One line, runs of white space become one space.
    Line,
    /// Line breaks and tabs stay.
    Block,
}

/// Whether a character shows nothing, or changes how others are shown.
pub(crate) fn is_hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a text holds anything [`text`] would take out.
pub(crate) fn holds_hidden(text: &str) -> bool {
    let mut before = '\0';
    text.chars().any(|c| {
        let hidden = is_hidden(c) && !joins_emoji(before, c);
        before = c;
        hidden
    })
}

/// The text without hidden characters; borrowed when there is nothing to do.
pub(crate) fn text(raw: &str, layout: Layout) -> Cow<'_, str> {
    let tidy = layout == Layout::Block || !raw.contains(['\n', '\r', '\t']) && !raw.contains("  ");
    if tidy && raw.trim().len() == raw.len() && !holds_hidden(raw) {
        return Cow::Borrowed(raw);
    }
    let seen = visible(raw);
    Cow::Owned(match layout {
        Layout::Block => seen.trim().to_owned(),
        Layout::Line => seen.split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

/// The text with each hidden or control character shown by its number, such as `\u{200b}`: for people who decide,
/// and who must see what a model would read.
#[must_use]
pub fn revealed(raw: &str) -> Cow<'_, str> {
    let shows = |c: char| !is_hidden(c) && !c.is_control();
    if raw.chars().all(shows) {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len() + 16);
    for c in raw.chars() {
        if shows(c) {
            text.push(c);
        } else {
            text.extend(c.escape_unicode());
        }
    }
    Cow::Owned(text)
}

fn visible(raw: &str) -> String {
    let mut kept = String::with_capacity(raw.len());
    let mut chars = raw.chars().peekable();
    let mut before = '\0';
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\u{9b}' => skip_control_sequence(&mut chars),
            // Separators that break lines in some readers only: a plain space.
            '\u{2028}' | '\u{2029}' => kept.push(' '),
            c if is_hidden(c) && !joins_emoji(before, c) => {}
            c => kept.push(c),
        }
        before = c;
    }
    kept
}

/// A zero-width joiner right after a pictograph is part of an emoji and hides nothing.
fn joins_emoji(before: char, c: char) -> bool {
    c == '\u{200d}'
        && matches!(before, '\u{2600}'..='\u{27bf}' | '\u{fe0f}' | '\u{1f000}'..='\u{1faff}')
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// After ESC: a control sequence, an operating system command, or one character.
fn skip_escape(rest: &mut Rest<'_>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' {
                    return;
                }
                if c == '\u{1b}' {
                    rest.next_if_eq(&'\\');
                    return;
                }
            }
        }
        Some('@'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

/// Parameters and intermediates, then one final byte.
fn skip_control_sequence(rest: &mut Rest<'_>) {
    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
    rest.next_if(|c| matches!(c, '@'..='~'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_bidi_control_and_ansi_characters_go() {
        for (raw, seen) in [
            ("plain", "plain"),
            ("a\u{200b}b\u{202e}c\u{2066}d\u{feff}", "abcd"),
            ("tag\u{e0041}\u{e0042}", "tag"),
            ("\u{1b}[31mred\u{1b}[0m\u{7}", "red"),
            ("\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{9b}2Jcleared\u{0}\u{8}", "cleared"),
            ("soft\u{ad}hyphen\u{3164}", "softhyphen"),
        ] {
            assert_eq!(text(raw, Layout::Line), seen, "{raw:?}");
            assert_eq!(holds_hidden(raw), raw != seen, "{raw:?}");
        }
    }

    #[test]
    fn what_is_hidden_can_be_revealed() {
        assert_eq!(
            revealed("a\u{200b}b\u{1b}[31m\n"),
            r"a\u{200b}b\u{1b}[31m\u{a}"
        );
        assert!(matches!(revealed("plain é"), Cow::Borrowed("plain é")));
    }

    #[test]
    fn emoji_and_other_scripts_stay_whole() {
        for raw in ["👨‍💻 code", "❤️", "使用必应搜索", "naïve Ünïcode", "שלום"]
        {
            assert_eq!(text(raw, Layout::Line), raw);
            assert!(!holds_hidden(raw), "{raw}");
        }
    }

    #[test]
    fn a_line_has_single_spaces_and_a_block_keeps_its_lines() {
        assert_eq!(text(" a \n\t b  c ", Layout::Line), "a b c");
        assert_eq!(text(" a\n\n\tb ", Layout::Block), "a\n\n\tb");
    }
}
