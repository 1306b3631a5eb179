//! Prints what discovery.md measures: how well `find` finds, how long it takes, what it saves.
//!
//! `cargo bench -p paperbot-catalog --bench discovery -- --data DIR`; without data it says so and ends well.

mod data;
mod judge;
mod speed;
mod tokens;

use std::path::PathBuf;

use data::{Queries, Tools};
use judge::{Measures, judge};

/// A set, its baseline on all queries and on the half we have (worked out from the published whole and held-out halves).
struct Set {
    name: &'static str,
    tools: &'static [&'static str],
    queries: &'static str,
    baseline_r5: f64,
    baseline_r5_here: f64,
}

const SETS: [Set; 6] = [
    Set {
        name: "LiveMCPBench",
        tools: &["livemcp"],
        queries: "livemcp",
        baseline_r5: 0.376,
        baseline_r5_here: 0.380,
    },
    Set {
        name: "LiveMCP agent",
        tools: &["livemcp"],
        queries: "livemcp_agent",
        baseline_r5: 0.452,
        baseline_r5_here: 0.509,
    },
    Set {
        name: "BFCL",
        tools: &["bfcl"],
        queries: "bfcl",
        baseline_r5: 0.827,
        baseline_r5_here: 0.813,
    },
    Set {
        name: "StableToolBench",
        tools: &["stabletoolbench"],
        queries: "stabletoolbench",
        baseline_r5: 0.680,
        baseline_r5_here: 0.666,
    },
    Set {
        name: "MetaTool",
        tools: &["metatool"],
        queries: "metatool",
        baseline_r5: 0.698,
        baseline_r5_here: 0.692,
    },
    Set {
        name: "LiveMCP+Toucan",
        tools: &["livemcp", "toucan"],
        queries: "livemcp",
        baseline_r5: 0.236,
        baseline_r5_here: 0.200,
    },
];

/// `LiveMCPBench` with one query for each sub-step, all queries.
const BASELINE_STEPS_R5: f64 = 0.630;

fn main() {
    let Some(dir) = data_dir() else {
        println!("no data to measure on: give --data DIR or PAPERBOT_DISCOVERY_DATA");
        return;
    };
    println!(
        "recall (baseline: BM25F of the contract, all queries; `here`: the same on the half that is in the data)"
    );
    println!(
        "{:<22}{:>6}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>7}",
        "set", "tools", "queries", "R@1", "R@3", "R@5", "R@10", "MRR", "nDCG@5", "base R@5", "here"
    );
    let server_tools = Tools::of_servers(&dir);
    for set in &SETS {
        let tools = Tools::load(&dir, set.tools);
        let queries = Queries::load(&dir, set.queries);
        let index = tools.index();
        let measures = judge(&index, &tools, &queries, false);
        print_row(
            set.name,
            &tools,
            &measures,
            (set.baseline_r5, Some(set.baseline_r5_here)),
        );
        if set.name == "LiveMCPBench" {
            let measures = judge(&index, &tools, &queries, true);
            print_row(
                "LiveMCP, sub-steps",
                &tools,
                &measures,
                (BASELINE_STEPS_R5, None),
            );
        }
    }
    judge::print_nothing_fits(
        &dir,
        &SETS.map(|set| (set.name, set.tools, set.queries)),
        &server_tools,
    );
    speed::print(&dir);
    tokens::print(&server_tools);
}

fn print_row(name: &str, tools: &Tools, m: &Measures, (baseline, here): (f64, Option<f64>)) {
    println!(
        "{name:<22}{:>6}{:>7}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{:>8.3}{baseline:>10.3}{:>7}",
        tools.ids.len(),
        m.queries,
        m.recall[0],
        m.recall[1],
        m.recall[2],
        m.recall[3],
        m.mrr,
        m.ndcg5,
        here.map_or_else(|| "-".to_owned(), |here| format!("{here:.3}")),
    );
}

/// `--data DIR`, the environment, or the directory beside the repository.
fn data_dir() -> Option<PathBuf> {
    let mut arguments = std::env::args()
        .skip_while(|argument| argument != "--data")
        .skip(1);
    let given = arguments.next().map(PathBuf::from);
    let dir = given
        .or_else(|| std::env::var_os("PAPERBOT_DISCOVERY_DATA").map(PathBuf::from))
        .unwrap_or_else(|| {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/data/discovery"
            ))
        });
    dir.join("dev").is_dir().then_some(dir)
}
