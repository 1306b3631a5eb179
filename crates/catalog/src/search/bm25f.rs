//! One inverted index with weighted fields (BM25F). Everything a query needs is worked out while building.

use std::collections::{HashMap, HashSet};

use crate::search::fields::{FIELDS, Texts};
use crate::search::tokens::Stems;

/// Saturation of repeated words.
const K1: f32 = 1.2;

/// How much longer fields count for less.
const B: f32 = 0.75;

/// Weights of name, title, description, argument names, argument descriptions, server.
const WEIGHTS: [f32; FIELDS] = [4.0, 1.0, 1.0, 0.5, 0.25, 1.0];

/// Distinct stems of one query that count; a longer query is cut, so that its time is bounded.
pub(super) const MAX_QUERY_STEMS: usize = 64;

/// A document that holds a stem, and what that is worth.
#[derive(Debug, Clone, Copy)]
struct Posting {
    document: u32,
    worth: f32,
}

/// A stem's postings and how rare it is.
#[derive(Debug, Clone, Copy)]
struct Term {
    start: u32,
    end: u32,
    rarity: f32,
}

/// The index. Immutable.
#[derive(Debug, Default)]
pub(crate) struct Inverted {
    terms: HashMap<Box<str>, Term>,
    postings: Vec<Posting>,
    documents: usize,
}

/// A document's share of the best score a query could have, in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Match {
    pub(crate) document: u32,
    pub(crate) share: f32,
}

/// What matched a query.
#[derive(Debug)]
pub(crate) struct Matches {
    /// Unordered.
    pub(crate) hits: Vec<Match>,
    /// How much the query says, counted in words that only one document has.
    pub(crate) rare_words: f32,
}

impl Inverted {
    /// Documents that match. A word said twice counts once: long tasks repeat themselves.
    pub(crate) fn matches(&self, query: &str, visible: &dyn Fn(u32) -> bool) -> Matches {
        let mut stems = Stems::new().of(query);
        let mut seen = HashSet::new();
        stems.retain(|stem| seen.len() < MAX_QUERY_STEMS && seen.insert(stem.clone()));
        let mut best_possible = 0.0;
        let mut scores = vec![0.0_f32; self.documents];
        let mut touched: Vec<u32> = Vec::new();
        for stem in &stems {
            let Some(term) = self.terms.get(stem) else {
                best_possible += rarity(self.documents, 0);
                continue;
            };
            best_possible += term.rarity;
            for posting in &self.postings[term.start as usize..term.end as usize] {
                let score = &mut scores[posting.document as usize];
                if *score == 0.0 {
                    // Asked once for each document: what a caller may not see is not ranked.
                    if !visible(posting.document) {
                        *score = f32::NEG_INFINITY;
                        continue;
                    }
                    touched.push(posting.document);
                }
                *score += posting.worth;
            }
        }
        let share = |document: u32| {
            (scores[document as usize] / best_possible).clamp(f32::MIN_POSITIVE, 1.0)
        };
        let hits = touched.into_iter().map(|document| Match {
            document,
            share: share(document),
        });
        Matches {
            hits: hits.collect(),
            rare_words: best_possible / rarity(self.documents, 1),
        }
    }

    /// Bytes held, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let terms: usize = self.terms.keys().map(|stem| stem.len() + 48).sum();
        terms + self.postings.len() * size_of::<Posting>()
    }
}

/// How rare a stem is among the documents.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^24")]
fn rarity(documents: usize, holding: usize) -> f32 {
    let (documents, holding) = (documents as f32, holding as f32);
    (1.0 + (documents - holding + 0.5) / (holding + 0.5)).ln()
}

/// Takes documents in, then makes the index.
pub(crate) struct Builder {
    stems: Stems,
    ids: HashMap<Box<str>, u32>,
    /// Per stem: documents with how often each field holds it.
    found: Vec<Vec<(u32, [u16; FIELDS])>>,
    /// Per document: stems in each field.
    lengths: Vec<[u32; FIELDS]>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            stems: Stems::new(),
            ids: HashMap::new(),
            found: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// Adds the next document; documents are numbered from 0.
    pub(crate) fn add(&mut self, texts: &Texts) {
        let document = u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        let mut lengths = [0_u32; FIELDS];
        for (field, text) in texts.0.iter().enumerate() {
            for stem in self.stems.of(text) {
                lengths[field] += 1;
                let next = u32::try_from(self.found.len()).unwrap_or(u32::MAX);
                let id = *self.ids.entry(stem).or_insert(next);
                if id == next {
                    self.found.push(Vec::new());
                }
                let list = &mut self.found[id as usize];
                if list.last().is_none_or(|(last, _)| *last != document) {
                    list.push((document, [0; FIELDS]));
                }
                if let Some((_, counts)) = list.last_mut() {
                    counts[field] = counts[field].saturating_add(1);
                }
            }
        }
        self.lengths.push(lengths);
    }

    pub(crate) fn build(self) -> Inverted {
        let means = self.mean_lengths();
        let documents = self.lengths.len();
        let mut postings = Vec::with_capacity(self.found.iter().map(Vec::len).sum());
        let mut spans = Vec::with_capacity(self.found.len());
        for list in &self.found {
            let rarity = rarity(documents, list.len());
            let start = place(postings.len());
            for (document, counts) in list {
                let weight = weight(counts, &self.lengths[*document as usize], &means);
                postings.push(Posting {
                    document: *document,
                    worth: rarity * weight / (K1 + weight),
                });
            }
            spans.push(Term {
                start,
                end: place(postings.len()),
                rarity,
            });
        }
        let terms = self
            .ids
            .into_iter()
            .map(|(stem, id)| (stem, spans[id as usize]));
        Inverted {
            terms: terms.collect(),
            postings,
            documents,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more")]
    fn mean_lengths(&self) -> [f32; FIELDS] {
        let mut sums = [0_u64; FIELDS];
        for lengths in &self.lengths {
            for (sum, length) in sums.iter_mut().zip(lengths) {
                *sum += u64::from(*length);
            }
        }
        sums.map(|sum| (sum as f32 / self.lengths.len().max(1) as f32).max(1.0))
    }
}

fn place(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// How much a document is about a stem: counts by field, weighted, long fields counting for less.
#[expect(clippy::cast_precision_loss, reason = "lengths far below 2^24")]
fn weight(counts: &[u16; FIELDS], lengths: &[u32; FIELDS], means: &[f32; FIELDS]) -> f32 {
    (0..FIELDS)
        .filter(|field| counts[*field] > 0)
        .map(|field| {
            let longer = 1.0 - B + B * lengths[field] as f32 / means[field];
            WEIGHTS[field] * f32::from(counts[field]) / longer
        })
        .sum()
}
