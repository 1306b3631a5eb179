//! Did-you-mean: the refs closest to a wrong one. Bounded work however long the wrong one is.

use crate::entry::Ref;
use crate::search::name_key;

/// Longest wrong ref compared, in characters; a longer one is like nothing.
const MAX_WRONG_CHARS: usize = 256;

/// One edit in this many characters is taken for a slip.
const CHARS_PER_EDIT: usize = 3;

/// The closest refs, nearest first, then by ref. The bare name counts too, for a wrong or missing server.
pub(crate) fn nearest<'a>(
    candidates: impl Iterator<Item = &'a Ref>,
    wrong: &str,
    limit: usize,
) -> Vec<String> {
    if wrong.chars().count() > MAX_WRONG_CHARS {
        return Vec::new();
    }
    let (server, name) = wrong.split_once('.').unwrap_or(("", wrong));
    let wrong = Wrong {
        whole: folded(wrong),
        name: folded(name),
        server: folded(server),
    };
    let mut near: Vec<(usize, &Ref)> = candidates
        .filter_map(|reference| Some((wrong.edits(reference)?, reference)))
        .collect();
    near.sort();
    near.truncate(limit);
    near.into_iter()
        .map(|(_, reference)| reference.to_string())
        .collect()
}

struct Wrong {
    whole: String,
    name: String,
    server: String,
}

impl Wrong {
    /// Edits between the two, if they are few enough for a slip. A right name at a wrong server is one more.
    fn edits(&self, reference: &Ref) -> Option<usize> {
        let name = folded(&reference.name);
        let server = folded(reference.server.as_str());
        let elsewhere = usize::from(server != self.server);
        let by_name = slip(&self.name, &name).map(|edits| edits + elsewhere);
        let by_whole = slip(&self.whole, &format!("{server} {name}"));
        // A server left out: everything is the name.
        let by_bare = slip(&self.whole, &name).map(|edits| edits + 1);
        // Words of the name in another order, or a part of them.
        let by_part = (self.name.len() >= 4 && name.split(' ').eq(self.name.split(' ').rev()))
            .then_some(CHARS_PER_EDIT);
        [by_name, by_whole, by_bare, by_part]
            .into_iter()
            .flatten()
            .min()
    }
}

fn folded(text: &str) -> String {
    name_key(text)
}

fn slip(wrong: &str, right: &str) -> Option<usize> {
    let longer = wrong.chars().count().max(right.chars().count());
    let allowed = (longer / CHARS_PER_EDIT).max(1);
    if wrong.chars().count().abs_diff(right.chars().count()) > allowed || wrong.is_empty() {
        return None;
    }
    let edits = strsim::osa_distance(wrong, right);
    (edits <= allowed).then_some(edits)
}
