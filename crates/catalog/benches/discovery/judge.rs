//! Recall, MRR and nDCG as the data's own evaluator counts them, and how often `nothing_fits` is right.

use std::path::Path;

use catalog::{Index, Query};

use crate::data::{Queries, QueryLine, Tools};

/// Means over the queries of a set.
pub(crate) struct Measures {
    pub(crate) queries: usize,
    pub(crate) recall: [f64; 4],
    pub(crate) mrr: f64,
    pub(crate) ndcg5: f64,
}

const DEPTHS: [usize; 4] = [1, 3, 5, 10];

pub(crate) fn judge(index: &Index, tools: &Tools, queries: &Queries, steps: bool) -> Measures {
    let mut sums = ([0.0; 4], 0.0, 0.0);
    for line in &queries.0 {
        let (recall, rank, ndcg) = score(line, &ranked(index, tools, line, steps));
        for (sum, value) in sums.0.iter_mut().zip(recall) {
            *sum += value;
        }
        sums.1 += rank;
        sums.2 += ndcg;
    }
    let count = number(queries.0.len());
    Measures {
        queries: queries.0.len(),
        recall: sums.0.map(|sum| sum / count),
        mrr: sums.1 / count,
        ndcg5: sums.2 / count,
    }
}

fn query(line: &QueryLine, steps: bool) -> Query {
    let texts = if steps && !line.steps.is_empty() {
        line.steps.clone()
    } else {
        vec![line.query.clone()]
    };
    Query {
        texts,
        ..Query::default()
    }
}

fn ranked<'t>(index: &Index, tools: &'t Tools, line: &QueryLine, steps: bool) -> Vec<&'t str> {
    let found = index.find(&query(line, steps), &|_| true);
    found
        .hits
        .iter()
        .map(|(entry, _)| tools.id(entry))
        .collect()
}

/// Recall at each depth, the reciprocal rank and nDCG@5 of one query: each group of gold counts once.
fn score(line: &QueryLine, ranking: &[&str]) -> ([f64; 4], f64, f64) {
    let mut left: Vec<&Vec<String>> = line.gold.iter().collect();
    let hits: Vec<bool> = ranking
        .iter()
        .map(|id| {
            let group = left
                .iter()
                .position(|group| group.iter().any(|gold| gold == id));
            group.map(|group| left.remove(group)).is_some()
        })
        .collect();
    let needed = line.gold.len();
    let within =
        |depth: usize| number(hits.iter().take(depth).filter(|hit| **hit).count()) / number(needed);
    let first = hits.iter().position(|hit| *hit);
    let gain = |rank: usize| 1.0 / (number(rank) + 2.0).log2();
    let ideal: f64 = (0..needed.min(5)).map(gain).sum();
    let real: f64 = (0..hits.len().min(5))
        .filter(|rank| hits[*rank])
        .map(gain)
        .sum();
    (
        DEPTHS.map(within),
        first.map_or(0.0, |rank| 1.0 / (number(rank) + 1.0)),
        real / ideal,
    )
}

/// How often a catalogue says that nothing fits: to the queries written for it, and to those written for others.
pub(crate) fn print_nothing_fits(dir: &Path, sets: &[(&str, &[&str], &str)], servers: &Tools) {
    println!("\nnothing_fits, wrongly: said to the queries written for the catalogue");
    for (name, tools, queries) in sets {
        let tools = Tools::load(dir, tools);
        let index = tools.index();
        let own = Queries::load(dir, queries);
        let refused = own
            .0
            .iter()
            .filter(|line| ranked(&index, &tools, line, false).is_empty());
        println!(
            "{name:<37}{:.3}",
            number(refused.count()) / number(own.0.len())
        );
    }
    println!("nothing_fits, rightly: said by nine servers to queries written for other catalogues");
    let index = servers.index();
    for foreign in ["metatool", "stabletoolbench", "bfcl"] {
        let queries = Queries::load(dir, foreign);
        let empty = queries
            .0
            .iter()
            .filter(|line| index.find(&query(line, false), &|_| true).nothing_fits)
            .count();
        println!(
            "{foreign:<37}{:.3}",
            number(empty) / number(queries.0.len())
        );
    }
    let random = [
        "zxqv blorft wumple",
        "frobnicate the quux gadget",
        "ωψφ λμν",
    ];
    let refused = random.iter().filter(|text| {
        let query = Query {
            texts: vec![(**text).to_owned()],
            ..Query::default()
        };
        index.find(&query, &|_| true).nothing_fits
    });
    println!(
        "nonsense                             {:.3}",
        number(refused.count()) / number(random.len())
    );
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
fn number(count: usize) -> f64 {
    count as f64
}
