//! Searching and looking up over the snapshots of many servers. Pure; rebuilt per catalogue hash, never per query.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::entry::{Entry, Hash, Kind, Ref};
use crate::hash;
use crate::nearness;
use crate::search::{self, Builder, Inverted, Match};
use crate::snapshot::Snapshot;

/// Sub-queries of one search that count; a task has rarely more steps.
pub const MAX_QUERIES: usize = 16;

/// Longest sub-query that counts, in characters; the rest is cut.
pub const MAX_QUERY_CHARS: usize = 1_000;

/// How well the best hit must fit for its query to count as answered: its share of the best possible score, times
/// the square root of how much the query says (a long query is never matched in most of its words). Set low with
/// the `discovery` benchmark, for a wrong refusal costs more than five poor hits: of queries written for a catalogue it
/// refuses none to 3.4 %, of those written for others 18 to 32 %, of nonsense all.
const FITS: f32 = 0.14;

/// Keeps every share below that of an entry named whole.
const BELOW_NAMED: f32 = 0.95;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Sub-queries, merged into one ranking. Empty = everything, by ref.
    pub texts: Vec<String>,
    /// Only this server.
    pub server: Option<String>,
    /// Only these kinds; empty = all.
    pub kinds: Vec<Kind>,
}

/// Ranked or listed entries.
#[derive(Debug, Clone)]
pub struct Ranked {
    /// Best first (or by ref), with a score for searches in (0, 1].
    pub hits: Vec<(Arc<Entry>, Option<f32>)>,
    /// The search found nothing that clears the threshold.
    pub nothing_fits: bool,
}

/// The merged, searchable catalogue of one set of snapshots.
#[derive(Debug)]
pub struct Index {
    entries: Vec<Arc<Entry>>,
    hash: Hash,
    inverted: Inverted,
    /// Entries by their whole name, bare and with their server, as [`search::name_key`] writes it.
    named: HashMap<Box<str>, Vec<u32>>,
}

impl Index {
    /// Builds the index. Of two entries with one kind and ref the first stays. CPU-bound; call it off the async threads.
    #[must_use]
    pub fn build(snapshots: &[Arc<Snapshot>]) -> Self {
        let mut entries: Vec<Arc<Entry>> = snapshots
            .iter()
            .flat_map(|snapshot| snapshot.entries.iter().cloned())
            .collect();
        entries.sort_by(|a, b| (a.kind, &a.reference).cmp(&(b.kind, &b.reference)));
        entries.dedup_by(|a, b| a.kind == b.kind && a.reference == b.reference);
        let mut builder = Builder::new();
        let mut named: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (document, entry) in (0_u32..).zip(&entries) {
            builder.add(&search::texts_of(entry));
            let name = search::name_key(&entry.reference.name);
            let with_server = format!(
                "{} {name}",
                search::name_key(entry.reference.server.as_str())
            );
            for key in [name, with_server] {
                named
                    .entry(key.into_boxed_str())
                    .or_default()
                    .push(document);
            }
        }
        Self {
            hash: hash::of_catalogue(entries.iter().map(|e| (e.kind, &e.reference, &e.hash))),
            entries,
            inverted: builder.build(),
            named,
        }
    }

    /// Over the sorted (ref, hash) list of all snapshots.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// All entries, by kind and ref.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, kind: Kind, reference: &Ref) -> Option<&Arc<Entry>> {
        let at = self
            .entries
            .binary_search_by(|entry| (entry.kind, &entry.reference).cmp(&(kind, reference)));
        self.entries.get(at.ok()?)
    }

    /// Bytes held for searching, roughly; the entries themselves belong to their snapshots.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let names: usize = self
            .named
            .iter()
            .map(|(key, at)| key.len() + 56 + at.len() * 4)
            .sum();
        self.inverted.size_bytes() + names + self.entries.len() * size_of::<Arc<Entry>>()
    }

    /// Refs of `kind` closest to a wrong one, for did-you-mean; at most `limit`. `visible` is asked first.
    #[must_use]
    #[expect(
        clippy::too_many_arguments,
        reason = "four values that belong to one question"
    )]
    pub fn near(
        &self,
        kind: Kind,
        wrong: &str,
        limit: usize,
        visible: &dyn Fn(&Entry) -> bool,
    ) -> Vec<String> {
        let candidates = self
            .entries
            .iter()
            .filter(|entry| entry.kind == kind && visible(entry))
            .map(|entry| &entry.reference);
        nearness::nearest(candidates, wrong, limit)
    }

    /// Searches or lists; `visible` filters before ranking. Blank queries count as none. Same index and query, same order.
    #[must_use]
    pub fn find(&self, query: &Query, visible: &dyn Fn(&Entry) -> bool) -> Ranked {
        let wanted = |entry: &Entry| {
            let server = query.server.as_deref();
            server.is_none_or(|server| entry.reference.server.as_str() == server)
                && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
                && visible(entry)
        };
        let texts = query.texts.iter().map(|text| text.trim());
        let texts: Vec<&str> = texts
            .filter(|text| !text.is_empty())
            .take(MAX_QUERIES)
            .collect();
        if texts.is_empty() {
            let all = self.entries.iter().filter(|entry| wanted(entry));
            return Ranked {
                hits: all.map(|entry| (Arc::clone(entry), None)).collect(),
                nothing_fits: false,
            };
        }
        let rankings: Vec<_> = texts
            .iter()
            .filter_map(|text| self.ranking(text, &wanted))
            .collect();
        let hits = search::merged(&rankings);
        Ranked {
            nothing_fits: hits.is_empty(),
            hits: hits
                .into_iter()
                .map(|(document, score)| {
                    (Arc::clone(&self.entries[document as usize]), Some(score))
                })
                .collect(),
        }
    }

    /// One query's hits, best first, entries it names whole before all others; `None` when nothing fits.
    fn ranking(&self, text: &str, wanted: &dyn Fn(&Entry) -> bool) -> Option<Vec<Match>> {
        let cut = text.char_indices().nth(MAX_QUERY_CHARS);
        let text = cut.map_or(text, |(end, _)| &text[..end]);
        let sees = |document: u32| wanted(&self.entries[document as usize]);
        let found = self.inverted.matches(text, &sees);
        let mut hits = found.hits;
        let named = self.named_in(text, &sees);
        hits.retain(|hit| !named.contains(&hit.document));
        for hit in &mut hits {
            hit.share *= BELOW_NAMED;
        }
        hits.extend(named.iter().map(|&document| Match {
            document,
            share: 1.0,
        }));
        let order = |a: &Match, b: &Match| {
            let by_share = b.share.total_cmp(&a.share);
            by_share.then(a.document.cmp(&b.document))
        };
        // A total order, so that the cut is the same each time.
        if hits.len() > search::MAX_HITS {
            hits.select_nth_unstable_by(search::MAX_HITS, order);
            hits.truncate(search::MAX_HITS);
        }
        hits.sort_unstable_by(order);
        let best = hits.first()?.share;
        (!named.is_empty() || best * found.rare_words.sqrt() >= FITS).then_some(hits)
    }

    /// Entries a query names whole.
    fn named_in(&self, text: &str, sees: &dyn Fn(u32) -> bool) -> BTreeSet<u32> {
        search::name_keys_in(text)
            .iter()
            .filter_map(|key| self.named.get(key.as_str()))
            .flatten()
            .copied()
            .filter(|document| sees(*document))
            .collect()
    }
}

#[cfg(test)]
mod tests;
