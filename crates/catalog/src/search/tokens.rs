//! Texts as the words they are searched by: split at case, digits and punctuation, lower-case, stemmed, without stop words.

use std::collections::HashMap;

use rust_stemmers::{Algorithm, Stemmer};

/// Longest word indexed or looked for, in bytes; longer ones are base64 and the like.
const MAX_WORD_BYTES: usize = 64;

/// Words that say nothing about which tool is meant.
const STOP_WORDS: [&str; 70] = [
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "by",
    "can", "could", "did", "do", "does", "for", "from", "had", "has", "have", "how", "i", "if",
    "in", "into", "is", "it", "its", "let", "like", "may", "me", "my", "need", "of", "on", "or",
    "our", "out", "please", "should", "so", "some", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "to", "us", "want", "was", "we", "were", "what",
    "which", "will", "with", "would", "you",
];

/// Turns texts into stems; remembers those of words already seen.
pub(super) struct Stems {
    stemmer: Stemmer,
    known: HashMap<Box<str>, Option<Box<str>>>,
}

impl Stems {
    pub(super) fn new() -> Self {
        Self {
            stemmer: Stemmer::create(Algorithm::English),
            known: HashMap::new(),
        }
    }

    /// The stems of a text in order, stop words left out.
    pub(super) fn of(&mut self, text: &str) -> Vec<Box<str>> {
        words(text)
            .into_iter()
            .filter_map(|word| self.stem(&word))
            .collect()
    }

    fn stem(&mut self, word: &str) -> Option<Box<str>> {
        if let Some(known) = self.known.get(word) {
            return known.clone();
        }
        let stem = (!STOP_WORDS.contains(&word)).then(|| Box::from(&*self.stemmer.stem(word)));
        self.known.insert(Box::from(word), stem.clone());
        stem
    }
}

/// What a character is to word boundaries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
    /// Scripts written without spaces: searched by pairs of characters.
    Ideograph,
    Other,
}

fn class(c: char) -> Class {
    match c {
        '0'..='9' => Class::Digit,
        '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}'
        | '\u{20000}'..='\u{3134f}' => Class::Ideograph,
        c if c.is_uppercase() => Class::Upper,
        c if c.is_alphabetic() => Class::Lower,
        _ => Class::Other,
    }
}

/// Lower-case words: `getHTTPResponse_v2` is `get http response v 2`; `搜索结果` is `搜索 索结 结果`.
pub(super) fn words(text: &str) -> Vec<String> {
    let chars: Vec<(char, Class)> = text.chars().map(|c| (c, class(c))).collect();
    let mut words = Vec::new();
    let mut start = 0;
    while start < chars.len() {
        let end = word_end(&chars, start);
        match chars[start].1 {
            Class::Other => {}
            Class::Ideograph if end - start > 1 => words.extend(
                chars[start..end]
                    .windows(2)
                    .map(|pair| pair.iter().map(|(c, _)| *c).collect::<String>()),
            ),
            _ => words.push(
                chars[start..end]
                    .iter()
                    .flat_map(|(c, _)| c.to_lowercase())
                    .collect(),
            ),
        }
        start = end;
    }
    words.retain(|word| word.len() <= MAX_WORD_BYTES);
    words
}

/// Where the word that starts at `start` ends.
fn word_end(chars: &[(char, Class)], start: usize) -> usize {
    let first = chars[start].1;
    let run = |class: Class, from: usize| {
        from + chars[from..]
            .iter()
            .take_while(|(_, c)| *c == class)
            .count()
    };
    let end = run(first, start);
    if first != Class::Upper
        || chars
            .get(end)
            .is_none_or(|(_, class)| *class != Class::Lower)
    {
        return end;
    }
    // `Word` is one word; of `HTTPServer` the last capital begins the next.
    if end - start == 1 {
        run(Class::Lower, end)
    } else {
        end - 1
    }
}

/// How a name is compared whole: its words, joined. `get-sum`, `getSum` and `Get sum` are one.
pub(crate) fn name_key(name: &str) -> String {
    words(name).join(" ")
}

/// Every key a query could name a tool by: the whole query, and each of its words that is written as an identifier.
pub(crate) fn name_keys_in(query: &str) -> Vec<String> {
    let mut keys = vec![name_key(query)];
    for word in query
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '`' | '"' | '\'' | '(' | ')'))
    {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let identifier = word.contains(['_', '-', '.', ':'])
            || word
                .chars()
                .zip(word.chars().skip(1))
                .any(|(a, b)| a.is_lowercase() && b.is_uppercase());
        if identifier {
            keys.push(name_key(word));
        }
    }
    keys.retain(|key| !key.is_empty());
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_fall_apart_into_their_words() {
        for (text, split) in [
            ("get-sum", "get sum"),
            ("getHTTPResponse_v2", "get http response v 2"),
            ("browser.Take_Screenshot", "browser take screenshot"),
            ("ABCmouse", "ab cmouse"),
            ("Größe", "größe"),
            ("搜索结果 x", "搜索 索结 结果 x"),
            ("", ""),
        ] {
            assert_eq!(words(text).join(" "), split, "{text}");
        }
    }

    #[test]
    fn stems_join_forms_and_stop_words_fall_away() {
        let mut stems = Stems::new();
        let joined = |stems: &mut Stems, text: &str| stems.of(text).join(" ");
        assert_eq!(
            joined(&mut stems, "Searching the searches"),
            "search search"
        );
        assert_eq!(joined(&mut stems, "what is it"), "");
    }

    #[test]
    fn a_sentence_names_tools_by_its_identifiers() {
        assert_eq!(
            name_keys_in("use `everything.get-sum` now")[1],
            "everything get sum"
        );
        assert_eq!(name_keys_in("Get sum"), ["get sum"]);
    }
}
