//! The nearest known word to an unknown one.

/// How alike two words must be (Jaro-Winkler) before one is offered for the other.
const LIKENESS: f64 = 0.8;
/// Most known words that are listed; no list of this version is longer.
const MAX_LISTED: usize = 64;
/// Longest part of a caller's word that is told back.
const MAX_ECHO_CHARS: usize = 64;

/// The known word the unknown one probably meant.
#[must_use]
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|(one, _), (two, _)| one.total_cmp(two))
        .map(|(_, candidate)| candidate)
}

/// `unknown <what> `word`; did you mean `…`?`, or what is known where no word is near.
#[must_use]
pub(crate) fn unknown<'a>(
    what: &str,
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    let shown = shorten(word);
    let known: Vec<&str> = known.into_iter().take(MAX_LISTED).collect();
    match nearest(word, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{shown}`; did you mean `{meant}`?"),
        None if known.is_empty() => format!("unknown {what} `{shown}`"),
        None => format!("unknown {what} `{shown}`; known: {}", known.join(", ")),
    }
}

/// At most [`MAX_ECHO_CHARS`] printable characters of a caller's word.
#[must_use]
pub(crate) fn shorten(word: &str) -> String {
    let printable = |c: &char| !c.is_control();
    let mut shown: String = word
        .chars()
        .filter(printable)
        .take(MAX_ECHO_CHARS)
        .collect();
    if shown.len() < word.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_another_word_is_not() {
        let known = ["arguments", "lane", "timeout_ms"];
        assert_eq!(nearest("argumets", known), Some("arguments"));
        assert_eq!(nearest("Timeout_MS", known), Some("timeout_ms"));
        assert_eq!(nearest("zebra", known), None);
    }

    #[test]
    fn a_word_that_is_near_to_none_is_answered_with_all() {
        let told = unknown("key", "zebra", ["lane", "timeout_ms"]);
        assert_eq!(told, "unknown key `zebra`; known: lane, timeout_ms");
    }

    #[test]
    fn what_is_told_back_is_short() {
        assert_eq!(
            shorten(&"x".repeat(1000)).chars().count(),
            MAX_ECHO_CHARS + 1
        );
        assert_eq!(shorten("a\u{7}b"), "ab…");
    }
}
