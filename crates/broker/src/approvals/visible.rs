//! Texts a person decides by, with everything shown that an eye would miss. Changes nothing else.

use std::fmt::Write as _;

/// The text with invisible, directional and control characters written out as `<U+202E>`.
#[must_use]
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for one in text.chars() {
        if is_hidden(one) {
            // Writing to a String cannot fail.
            let _ = write!(shown, "<U+{:04X}>", u32::from(one));
        } else {
            shown.push(one);
        }
    }
    shown
}

/// Whether an eye cannot see it, or would see what follows in another order.
fn is_hidden(one: char) -> bool {
    one.is_control()
        || matches!(one,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_shown_and_what_is_seen_stays() {
        assert_eq!(visible("pay \u{202e}001 to ann"), "pay <U+202E>001 to ann");
        assert_eq!(
            visible("a\u{200b}b\u{e0041}\u{1b}[2J\n"),
            "a<U+200B>b<U+E0041><U+001B>[2J<U+000A>"
        );
        assert_eq!(visible("żółć 日本 €"), "żółć 日本 €");
    }
}
