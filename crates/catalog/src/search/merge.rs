//! Several rankings as one: the best hit of each query before the second best of any.

use std::collections::HashMap;

use crate::search::bm25f::Match;

/// Hits of one query that enter the merge; callers look at far fewer.
pub(crate) const MAX_HITS: usize = 1_000;

/// Merges rankings (each best first) into one, best first, with scores in (0, 1]. A document found by several
/// queries stands where the best of them puts it. Rank in its query decides first, then score, then document.
pub(crate) fn merged(rankings: &[Vec<Match>]) -> Vec<(u32, f32)> {
    let mut best: HashMap<u32, (usize, f32)> = HashMap::new();
    for ranking in rankings {
        let top = ranking.first().map_or(1.0, |first| first.share);
        for (rank, hit) in ranking.iter().enumerate() {
            // One ranking keeps its own scores; several are made comparable by their rank.
            let score = if rankings.len() == 1 {
                hit.share / top
            } else {
                by_rank(rank)
            };
            let place = best.entry(hit.document).or_insert((rank, score));
            if rank < place.0 {
                *place = (rank, score);
            }
        }
    }
    let strength = strengths(rankings);
    let mut hits: Vec<(u32, usize, f32)> = best
        .into_iter()
        .map(|(document, (rank, score))| (document, rank, score))
        .collect();
    hits.sort_by(|a, b| {
        let share = |document: u32| strength.get(&document).copied().unwrap_or_default();
        a.1.cmp(&b.1)
            .then_with(|| share(b.0).total_cmp(&share(a.0)))
            .then_with(|| a.0.cmp(&b.0))
    });
    hits.into_iter()
        .map(|(document, _, score)| (document, score))
        .collect()
}

/// The best share each document has in any query.
fn strengths(rankings: &[Vec<Match>]) -> HashMap<u32, f32> {
    let mut strengths: HashMap<u32, f32> = HashMap::new();
    for hit in rankings.iter().flat_map(|ranking| ranking.iter()) {
        let share = strengths.entry(hit.document).or_default();
        *share = share.max(hit.share);
    }
    strengths
}

#[expect(clippy::cast_precision_loss, reason = "ranks below 1,000")]
fn by_rank(rank: usize) -> f32 {
    1.0 / (1.0 + rank as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(hits: &[(u32, f32)]) -> Vec<Match> {
        hits.iter()
            .map(|&(document, share)| Match { document, share })
            .collect()
    }

    #[test]
    fn each_query_gets_its_best_hit_in_before_any_second_best() {
        let merged = merged(&[
            ranking(&[(1, 0.9), (2, 0.8), (3, 0.7)]),
            ranking(&[(4, 0.2), (1, 0.1)]),
        ]);
        assert_eq!(
            merged.iter().map(|hit| hit.0).collect::<Vec<_>>(),
            [1, 4, 2, 3]
        );
        assert!(merged.iter().all(|hit| hit.1 > 0.0 && hit.1 <= 1.0));
        assert!(merged.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }

    #[test]
    fn one_query_keeps_its_order_with_its_best_at_one() {
        let merged = merged(&[ranking(&[(7, 0.5), (3, 0.25)])]);
        assert_eq!(merged, [(7, 1.0), (3, 0.5)]);
    }
}
