//! Time of building and asking, and memory, by the size of the catalogue.

use std::path::Path;
use std::time::Duration;

use catalog::{Index, Query};
use tokio::time::Instant;

use crate::data::{Queries, Tools, lines};

/// Longest wait allowed at 5,517 tools, for 99 of 100 queries.
const P99_MS: f64 = 5.0;

pub(crate) fn print(dir: &Path) {
    println!("\nspeed (contract: p99 <= {P99_MS} ms at 5,517 tools)");
    let pool: Vec<String> = ["livemcp", "toucan"]
        .iter()
        .flat_map(|set| lines(dir, &format!("{set}.tools.jsonl")))
        .collect();
    let mut texts: Vec<String> = Queries::load(dir, "livemcp")
        .0
        .into_iter()
        .map(|line| line.query)
        .collect();
    texts.extend(
        Queries::load(dir, "livemcp_agent")
            .0
            .into_iter()
            .map(|line| line.query),
    );
    texts.extend(
        Queries::load(dir, "bfcl")
            .0
            .into_iter()
            .take(400)
            .map(|line| line.query),
    );
    for size in [500, 5_517, 50_000] {
        let tools = Tools::of_lines(&sized(&pool, size));
        let began = Instant::now();
        let index = tools.index();
        let built = began.elapsed();
        let times = ask(&index, &texts);
        println!(
            "{size:>6} tools ({} indexed): p50 {:.2} ms, p99 {:.2} ms, index built in {:.0} ms, {:.1} MB for search",
            index.entries().len(),
            ms(times[times.len() / 2]),
            ms(times[times.len() * 99 / 100]),
            ms(built),
            megabytes(&index),
        );
    }
}

fn ask(index: &Index, texts: &[String]) -> Vec<Duration> {
    let mut times: Vec<Duration> = texts
        .iter()
        .map(|text| {
            let query = Query {
                texts: vec![text.clone()],
                ..Query::default()
            };
            let began = Instant::now();
            std::hint::black_box(index.find(&query, &|_| true));
            began.elapsed()
        })
        .collect();
    times.sort();
    times
}

/// The pool, cut, or repeated under other server names until it is large enough.
fn sized(pool: &[String], size: usize) -> Vec<String> {
    (0..size)
        .map(|n| {
            let line = &pool[n % pool.len()];
            match n / pool.len() {
                0 => line.clone(),
                round => line.replacen("\"server\":\"", &format!("\"server\":\"copy{round} "), 1),
            }
        })
        .collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn megabytes(index: &Index) -> f64 {
    index.size_bytes() as f64 / 1e6
}
